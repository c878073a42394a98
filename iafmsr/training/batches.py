"""The batches of a run, and that nothing which makes them outlives it."""

from __future__ import annotations

import multiprocessing
import random
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch

from iafmsr.bridge.basicsr_api import build_dataset
from iafmsr.bridge.launching import end_with_parent
from iafmsr.data.in_memory import build_train_loader
from iafmsr.data.sampling import EpochSampler
from iafmsr.training.curriculum import Curriculum
from iafmsr.training.picture_weights import weights_of
from iafmsr.training.signals import leave_signals_to_the_main_process
from iafmsr.training.waiting import WorkerWatch

Batch = dict[str, Any]
Options = dict[str, Any]


class Batches(AbstractContextManager['Batches']):
    """The batches of one process, epoch after epoch without end.

    When the context is left, whatever the reason, no thread and no data worker of it is left.

    Args:
        opt: of the run.
        iteration: that has been finished; the first batch is that of the next one.
    """

    def __init__(self, opt: Options, iteration: int = 0) -> None:
        data = opt['datasets']['train']
        curriculum = Curriculum(opt)
        # by the largest: what is too small for it is left out
        dataset = build_dataset({**data, 'gt_size': curriculum.largest})
        self.sampler = EpochSampler(
            dataset,
            opt['world_size'],
            opt['rank'],
            data.get('dataset_enlarge_ratio', 1),
            opt['manual_seed'],
            weights_of(dataset, data.get('picture_weights')),
        )
        # BasicSR's way to read ahead is a thread that nobody can stop
        self.loader = build_train_loader(
            dataset,
            {**data, 'prefetch_mode': None},
            opt['num_gpu'],
            opt['dist'],
            sampler=self.sampler,
            seed=opt['manual_seed'],
        )
        if isinstance(getattr(self.loader, 'worker_init_fn', None), partial):
            self.loader.worker_init_fn = partial(init_worker, **self.loader.worker_init_fn.keywords)
        self.mode, self.queue = data.get('prefetch_mode'), data.get('num_prefetch_queue') or 1
        self.batch_size, self.pictures, self.in_epoch = self.loader.batch_size, len(dataset), len(self.loader)
        if curriculum.sizes:
            self.sampler.size_patches(curriculum.gt_size_at, self.batch_size)
        self.epoch, done = divmod(iteration, self.in_epoch)
        self.sampler.resume(self.epoch, done * self.batch_size)
        self.source: Any = None
        seconds = data.get('timeout') if getattr(self.loader, 'num_workers', 0) else None
        self.watch = WorkerWatch(self, seconds) if seconds else nullcontext()
        self.batches: Iterator[Batch] | None = None

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            UserError: the data workers have not given one in time.
        """
        with self.watch:
            return self._next()

    def _next(self) -> Batch:
        batches = self._start() if self.batches is None else self.batches
        while (batch := next(batches, None)) is None:
            self.epoch += 1
            batches = self._start()
        return batch

    @property
    def workers(self) -> list[Any]:
        """The processes that read."""
        return list(getattr(self.source, '_workers', ()))

    def _start(self) -> Iterator[Batch]:
        self.sampler.set_epoch(self.epoch)
        self.source = iter(self.loader)  # in the main thread: workers end with the thread that has started them
        batches: Iterator[Batch] = self.source
        if self.mode == 'cpu':
            batches = ahead(batches, self.queue)
        elif self.mode == 'cuda':
            batches = ahead_on_gpu(batches)
        self.batches = batches
        return batches

    def __exit__(self, *error: object) -> None:
        iterator: Any
        for iterator in (self.batches, self.source):
            if hasattr(iterator, 'close'):  # a generator: its threads end
                iterator.close()
        for iterator in (self.source, getattr(self.loader, '_iterator', None)):
            if hasattr(iterator, '_shutdown_workers'):  # a traceback may hold the iterator, so that it would stay
                iterator._shutdown_workers()
        if isinstance(self.watch, WorkerWatch):
            self.watch.end()
        for child in multiprocessing.active_children():  # workers that hang, and take no signal but this
            child.kill()
            child.join()


def ahead(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The same batches, up to ``count`` of them read ahead in a thread, which ends when the generator is closed."""
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, batches, None) for _ in range(count))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, batches, None))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def ahead_on_gpu(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches on the current GPU; the next one is copied while one is computed."""
    stream = torch.cuda.Stream()

    def upload() -> Batch | None:
        batch = next(batches, None)
        with torch.cuda.stream(stream):
            return batch and {
                key: value.cuda(non_blocking=True) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }

    following = upload()
    while (batch := following) is not None:
        torch.cuda.current_stream().wait_stream(stream)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(torch.cuda.current_stream())
        following = upload()
        yield batch


def init_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Of a data worker: signals are the main process's, its end is the worker's, even by SIGKILL, and what a dataset of
    BasicSR's draws is seeded as there."""
    leave_signals_to_the_main_process()
    end_with_parent()
    random.seed(seed + num_workers * rank + worker_id)
    np.random.seed(seed + num_workers * rank + worker_id)
