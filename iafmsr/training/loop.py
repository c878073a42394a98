"""The training loop."""

from __future__ import annotations

import argparse
import datetime
import errno
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from iafmsr.bridge.basicsr_api import AvgTimer, build_model, make_exp_dirs, master_only, mkdir_and_rename
from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.training.batches import Batches
from iafmsr.training.checkpoints import load_resume_state
from iafmsr.training.curriculum import Curriculum
from iafmsr.training.exact import data_order, seed_iteration
from iafmsr.training.logs import board_folder, open_board, start_log
from iafmsr.training.options import keep_options, parse_options
from iafmsr.training.progress import Reports
from iafmsr.training.saving import Saver
from iafmsr.training.signals import RESUME_ME, StopSignal
from iafmsr.training.validation import pictures_apart, show, val_loader, validate
from iafmsr.training.waiting import waiting

Options = dict[str, Any]
MAX_UNREADABLE = 0.01  # share of the pictures


def train(args: argparse.Namespace, root: str) -> None:
    """Train by the option file of the command line.

    Args:
        args: of :mod:`iafmsr.tools.training`.
        root: folder in which ``experiments/`` lies, and from which relative paths count.

    Raises:
        SystemExit: with :data:`~iafmsr.training.signals.RESUME_ME`, after a signal and a last save.
        UserError: the options, the disk, the data or the loss do not let the run go on.
    """
    with StopSignal().watched() as stop, faults_of_the_machine():
        opt = parse_options(args, root, is_train=True)
        opt['root_path'] = root
        stop.timeout = datetime.timedelta(seconds=opt['train']['timeout'])
        lock = folder_lock(Path(opt['path']['experiments_root'])) if opt['rank'] == 0 else nullcontext()
        with lock, waiting(opt), ExitStack() as stack:
            torch.backends.cudnn.benchmark = True
            Run(opt, args.opt, stop, stack).run()


@contextmanager
def faults_of_the_machine() -> Iterator[None]:
    """Errors that come from the machine or the data, not from the program, in one line each."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f'{error.filename or "disk"}: {error.strerror}; the last good state is kept') from error
        raise
    except RuntimeError as error:
        if 'DataLoader worker' in str(error):
            raise UserError(f'a data worker died; its data may be damaged, or memory is full: {error}') from error
        raise


class Run:
    """One run, from its folders to its last validation.

    Args:
        opt: parsed and checked.
        option_file: that they are from.
        stop: tells of signals.
        stack: on which what has to be closed is put.
    """

    def __init__(self, opt: Options, option_file: str, stop: StopSignal, stack: ExitStack) -> None:
        self.opt, self.stop = opt, stop
        state = load_resume_state(opt)
        make_folders(opt, state is None)
        keep_options(option_file, opt['path']['experiments_root'])
        self.logger = start_log(opt, 'train')
        self.curriculum = Curriculum(opt)
        self.total, self.iteration = int(opt['train']['total_iter']), state['iter'] if state else 0
        self.board = open_board(opt)
        if self.board:
            stack.callback(self.board.close)
        self.batches = stack.enter_context(Batches(opt, self.iteration))
        self.val_loaders = [
            val_loader(opt, section) for phase, section in opt['datasets'].items() if phase.startswith('val')
        ]
        self.log_sizes()
        self.model = self.build_model(state)
        self.saver = Saver(opt, self.model, self.iteration if state else None)
        self.reports = stack.enter_context(Reports(opt, self.iteration, self.board))
        self.unreadable: set[str] = set()
        self.validated_at: int | None = None

    def log_sizes(self) -> None:
        data, batches = self.opt['datasets']['train'], self.batches
        self.logger.info(
            'Training statistics:'
            f'\n\tNumber of train images: {batches.pictures}'
            f'\n\tDataset enlarge ratio: {batches.sampler.ratio}'
            f'\n\tBatch size per gpu: {data["batch_size_per_gpu"]}'
            f'\n\tWorld size (gpu number): {self.opt["world_size"]}'
            f'\n\tRequire iter number per epoch: {batches.in_epoch}'
            f'\n\tTotal epochs: {-(-self.total // batches.in_epoch)}; iters: {self.total}.'
        )

    def build_model(self, state: Options | None) -> Any:
        """BasicSR's model, with what it was when it was saved."""
        try:
            model = build_model(self.opt)
        except RuntimeError as error:
            if state and 'loading state_dict' in str(error):
                raise UserError(
                    f'{self.opt["path"]["resume_state"]}: its networks are not those of the option file; '
                    'start a new run, or restore the old options'
                ) from None
            raise
        order = data_order(
            self.opt,
            self.batches.batch_size * self.opt['world_size'],
            self.batches.pictures,
            self.batches.sampler.ratio,
            self.batches.sampler.weights,
        )
        model.stateful = {**getattr(model, 'stateful', {}), 'data_order': order}
        if state:
            model.resume_training(state)
            self.logger.info(f'Resuming training from epoch: {self.batches.epoch}, iter: {self.iteration}.')
        return model

    def run(self) -> None:
        self.logger.info(f'Start training from epoch: {self.batches.epoch}, iter: {self.iteration}')
        start, waiting, whole = time.time(), AvgTimer(), AvgTimer()
        while self.iteration < self.total:
            if self.stop.agreed():
                self.leave()
            data = next(self.batches)
            waiting.record()
            self.iteration += 1
            self.step(data)
            whole.record()
            if self.is_time_to(self.opt['logger']['print_freq']):
                self.report(whole.get_avg_time(), waiting.get_avg_time())
            if self.is_time_to(self.opt['logger']['save_checkpoint_freq']):
                self.logger.info('Saving models and training states.')
                self.saver.regular(self.batches.epoch, self.iteration)
            if self.opt.get('val') and self.is_time_to(self.opt['val']['val_freq']):
                self.validate()
            waiting.start()
            whole.start()
        self.logger.info(f'End of training. Time consumed: {datetime.timedelta(seconds=int(time.time() - start))}')
        self.logger.info('Save the latest model.')
        self.saver.latest()
        if self.opt.get('val') and self.validated_at != self.iteration:
            self.validate()

    def is_time_to(self, frequency: float) -> bool:
        return self.iteration % int(frequency) == 0

    def step(self, data: dict[str, Any]) -> None:
        for line in '\n'.join(data.get('unreadable', ())).split('\n'):
            if line and line not in self.unreadable:
                self.report_unreadable(line)
        seed_iteration(self.opt['manual_seed'], self.opt['rank'], self.iteration)
        self.model.update_learning_rate(self.iteration, warmup_iter=self.opt['train'].get('warmup_iter', -1))
        self.curriculum.begin(self.iteration, data, self.model)
        self.model.feed_data(data)
        self.model.optimize_parameters(self.iteration)
        self.reports.update(self.iteration)

    def report(self, seconds: float, waiting: float) -> None:
        self.reports.losses(
            {
                'epoch': self.batches.epoch,
                'iter': self.iteration,
                'lrs': self.model.get_current_learning_rate(),
                'time': seconds,
                'data_time': waiting,
                **self.model.get_current_log(),
            }
        )

    def report_unreadable(self, line: str) -> None:
        self.unreadable.add(line)
        share = self.opt['datasets']['train'].get('max_unreadable', MAX_UNREADABLE)
        # an error, since that is all that the logger of a rank other than 0 lets through
        self.logger.error(f'{line}; another picture takes its place ({len(self.unreadable)} unreadable so far)')
        if len(self.unreadable) > share * self.batches.pictures:
            raise UserError(
                f'{len(self.unreadable)} of {self.batches.pictures} training pictures cannot be read, more '
                f'than datasets.train.max_unreadable allows ({share}); the last: {line}'
            )

    def leave(self) -> None:
        """Save, and end the process, because of a signal."""
        saved = self.saver.saved_at == self.iteration or self.saver.save(self.batches.epoch, self.iteration)
        self.stop.wait_for_all()
        stopped = f'Stopped by {self.stop.name or "a signal to another process"} after iteration {self.iteration}'
        if not saved:
            last = self.saver.saved_at
            raise UserError(
                f'{stopped}, which could not be saved; '
                + ('nothing has been saved before' if last is None else f'the last saved iteration is {last}')
            )
        again = '' if self.opt['auto_resume'] else ' with --auto_resume'
        self.logger.info(f'{stopped}: run the same command again{again} to go on (exit code {RESUME_ME}).')
        raise SystemExit(RESUME_ME)

    def validate(self) -> None:
        """Validate on all sets; keep the best weights on request, and the record of the best in the state saved."""
        self.validated_at = self.iteration
        for loader in self.val_loaders:
            with pictures_apart(self.model.opt, loader, self.val_loaders):
                validate(self.model, loader, self.iteration, self.board, self.opt['val']['save_img'])
        if self.board and self.val_loaders:
            show(self.model, self.val_loaders[0], self.iteration, self.board)
        if self.opt['rank'] != 0 or not self.opt['val'].get('metrics'):
            return
        if self.opt['logger'].get('keep_best') and self.is_best():
            self.saver.best()
        if self.saver.saved_at == self.iteration:
            self.model.save_training_state(self.batches.epoch, self.iteration)

    def is_best(self) -> bool:
        """By the first metric on the first set that has ground truth."""
        watched = next(
            (loader.dataset.opt['name'] for loader in self.val_loaders if loader.dataset.opt.get('dataroot_gt')), None
        )
        records = getattr(self.model, 'best_metric_results', {}).get(watched, {})
        return records.get(next(iter(self.opt['val']['metrics'])), {}).get('iter') == self.iteration


@master_only
def make_folders(opt: Options, new: bool) -> None:
    """The folders of a new run; older ones of its name are renamed."""
    if new:
        make_exp_dirs(opt)
        if opt['logger'].get('use_tb_logger') and 'debug' not in opt['name']:
            mkdir_and_rename(str(board_folder(opt)))
