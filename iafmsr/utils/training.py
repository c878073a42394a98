"""What a run of ours adds to BasicSR's training loop: exact resume, leaving on signals, a disk or data that fail.

BasicSR's ``train_pipeline`` stays as it is; the names that it looks up in its module are ours while it runs.
"""

from __future__ import annotations

import errno
import functools
import math
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from basicsr import data as basicsr_data
from basicsr.utils import get_root_logger

from iafmsr.data.in_memory import build_train_loader
from iafmsr.data.sampling import EpochSampler
from iafmsr.errors import UserError
from iafmsr.utils.checkpoints import clear_away
from iafmsr.utils.signals import RESUME_ME, StopSignal, leave_signals_to_the_main_process

Options = dict[str, Any]
MAX_UNREADABLE = 0.01  # share of the pictures


@contextmanager
def safe_run(pipeline: ModuleType) -> Iterator[None]:
    """Make the training that runs inside one that can be stopped at any time and loses nothing.

    Args:
        pipeline: ``basicsr.train``; names in it are replaced while the context lasts.

    Raises:
        SystemExit: with :data:`~iafmsr.utils.signals.RESUME_ME`, after a signal and a last save.
        UserError: the disk or the data do not let the run go on.
    """
    names = ('load_resume_state', 'create_train_val_dataloader', 'build_model')
    stock = {name: getattr(pipeline, name) for name in names}
    stock_init = basicsr_data.worker_init_fn
    stop = StopSignal()
    run = _Run(pipeline, stock, stop)
    for name in names:
        setattr(pipeline, name, getattr(run, name))
    basicsr_data.worker_init_fn = init_worker
    try:
        with stop.watched():
            yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # the loader is in one of them: its workers end with it
        if fault := _fault_of(error):
            raise UserError(fault) from error
        raise
    finally:
        basicsr_data.worker_init_fn = stock_init
        for name in names:
            setattr(pipeline, name, stock[name])


def _fault_of(error: BaseException) -> str | None:
    """The line for an error that comes from the machine or the data, not from the program."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, 'EDQUOT', None)):
        return f'{error.filename or "disk"}: {error.strerror}; the last good state is kept'
    if isinstance(error, RuntimeError) and 'DataLoader worker' in str(error):
        return f'a data worker died, its data may be damaged or the memory short: {error}'
    return None


def init_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Of a data worker: signals are the main process's, and what a dataset of BasicSR's draws is seeded as there."""
    leave_signals_to_the_main_process()
    random.seed(seed + num_workers * rank + worker_id)
    np.random.seed(seed + num_workers * rank + worker_id)


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Make all that is random in an iteration a function of where the run is: so no generator has to be saved."""
    value = random.Random(f'{seed},{rank},{iteration}').getrandbits(63)
    random.seed(value)
    np.random.seed(value % 2 ** 32)
    torch.manual_seed(value)  # CUDA's generators as well


class DataOrder:
    """What the order of a run's data depends on; saved, so that a resume can say what has changed."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def state_dict(self) -> dict[str, int]:
        return self.values

    def load_state_dict(self, saved: dict[str, int]) -> None:
        changed = [f'{key} {saved[key]} -> {value}' for key, value in self.values.items() if saved.get(key) != value]
        if changed:
            get_root_logger().warning(f'Not an exact resume: {", ".join(changed)}.')


class _Run:
    """One run: the functions that BasicSR's loop calls in place of its own."""

    def __init__(self, pipeline: ModuleType, stock: dict[str, Any], stop: StopSignal) -> None:
        self.pipeline, self.stock, self.stop = pipeline, stock, stop
        self.state: Options | None = None
        self.saved_at: int | None = None
        self.unreadable: set[str] = set()

    def load_resume_state(self, opt: Options) -> Options | None:
        self.state = self.stock['load_resume_state'](opt)
        return self.state

    def create_train_val_dataloader(self, opt: Options, logger: Any) -> tuple[Any, ...]:
        """BasicSR's loaders, with the train set in our order (and in memory), from where the run stopped."""
        stock = self.pipeline.EnlargedSampler, self.pipeline.build_dataloader
        self.pipeline.EnlargedSampler = functools.partial(EpochSampler, seed=opt['manual_seed'])
        self.pipeline.build_dataloader = build_train_loader
        try:
            loader, sampler, val_loaders, _, total_iters = self.stock['create_train_val_dataloader'](opt, logger)
        finally:
            self.pipeline.EnlargedSampler, self.pipeline.build_dataloader = stock
        if self.state:
            epoch, done = divmod(self.state['iter'], len(loader))
            sampler.resume(epoch, done * loader.batch_size)
            self.state['epoch'] = epoch
        # numbers, not the loader: it has to go when the loop ends, and its workers with it
        self.sampler, self.batch_size, self.pictures = sampler, loader.batch_size, len(loader.dataset)
        self.watched = val_loaders[0].dataset.opt['name'] if val_loaders else None
        return loader, sampler, val_loaders, math.ceil(total_iters / len(loader)), total_iters

    def build_model(self, opt: Options) -> Any:
        """BasicSR's model; the four methods that its loop calls at the turns of an iteration do a little more."""
        model = self.stock['build_model'](opt)
        self.opt, self.model = opt, model
        order = DataOrder(seed=opt['manual_seed'], total_batch=self.batch_size * opt['world_size'],
                          pictures=self.pictures, ratio=self.sampler.ratio)
        model.stateful = {**getattr(model, 'stateful', {}), 'data_order': order}
        for name in ('update_learning_rate', 'feed_data', 'save', 'validation'):
            setattr(model, name, functools.partial(getattr(self, name), getattr(model, name)))
        return model

    def update_learning_rate(self, stock: Any, current_iter: int, **kwargs: Any) -> None:
        """The first that the loop does in an iteration: here the last one is over and saved."""
        if self.stop.agreed():
            self.leave(current_iter - 1)
        seed_iteration(self.opt['manual_seed'], self.opt['rank'], current_iter)
        stock(current_iter, **kwargs)

    def leave(self, finished: int) -> None:
        logger = get_root_logger()
        if self.saved_at != finished:
            self.model.save(self.sampler.epoch, finished)
        self.stop.wait_for_all()
        logger.info(f'Stopped by {self.stop.name or "a signal to another process"} after iteration {finished}: '
                    f'go on with --auto_resume (exit code {RESUME_ME}).')
        raise SystemExit(RESUME_ME)

    def feed_data(self, stock: Any, data: dict[str, Any]) -> None:
        for line in '\n'.join(data.get('unreadable', ())).split('\n'):
            if line and line not in self.unreadable:
                self.report_unreadable(line)
        stock(data)

    def report_unreadable(self, line: str) -> None:
        self.unreadable.add(line)
        share = self.opt['datasets']['train'].get('max_unreadable', MAX_UNREADABLE)
        # an error, since that is all that the logger of a rank other than 0 lets through
        get_root_logger().error(f'{line}; another picture takes its place ({len(self.unreadable)} unreadable so far)')
        if len(self.unreadable) > share * self.pictures:
            raise UserError(f'{len(self.unreadable)} of {self.pictures} training pictures cannot be read, more than '
                            f'datasets.train.max_unreadable allows ({share}); the last: {line}')

    def save(self, stock: Any, epoch: int, current_iter: int | str) -> None:
        """A full disk is said and tried again at the next save; at the last one there is none, and the run fails."""
        try:
            stock(epoch, current_iter)
        except OSError as error:
            if current_iter == -1:
                raise UserError(f'the final weights could not be saved: {error.strerror}; the last good state is kept'
                                ) from error
            get_root_logger().error(f'Iteration {current_iter} could not be saved: {error.strerror}. The last good '
                                    'state is kept; the run goes on and tries again at its next save.')
            return
        if isinstance(current_iter, int) and current_iter >= 0:
            self.saved_at = current_iter
            keep = self.opt['logger'].get('keep_last')
            if keep and self.opt['rank'] == 0:
                clear_away(self.opt, keep)

    def validation(self, stock: Any, loader: Any, current_iter: int, *args: Any) -> None:
        """Keeps the best weights on request, and the record of the best in the state of this iteration."""
        stock(loader, current_iter, *args)
        if self.opt['rank'] != 0 or not self.opt['val'].get('metrics'):
            return
        name, metric = loader.dataset.opt['name'], next(iter(self.opt['val']['metrics']))
        record = getattr(self.model, 'best_metric_results', {}).get(name, {}).get(metric, {})
        improved = record.get('iter') in (current_iter, int(self.opt['train']['total_iter']))
        if self.opt['logger'].get('keep_best') and name == self.watched and improved:
            self.model.save(-1, 'best')
        if self.saved_at == current_iter:
            self.model.save_training_state(self.sampler.epoch, current_iter)
