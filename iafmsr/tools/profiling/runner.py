"""A training that runs by turns, and what it takes."""

from __future__ import annotations

import gc
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from iafmsr.bridge.basicsr_api import (
    CPUPrefetcher,
    CUDAPrefetcher,
    EnlargedSampler,
    build_dataloader,
    build_dataset,
    build_model,
    get_root_logger,
)
from iafmsr.cli.allocator import keep_freed_memory
from iafmsr.data.in_memory import build_train_loader
from iafmsr.data.sampling import EpochSampler
from iafmsr.tools.measure.machine import PeakMemory
from iafmsr.tools.profiling.contestants import Contestant
from iafmsr.tools.profiling.stopwatch import Stopwatch, replaced

__all__ = ['STAGES', 'Loaders', 'Runner', 'runners_of']

STAGES = ('data wait', 'copy', 'forward', 'backward', 'optimizer', 'EMA', 'logging')


class Loaders:
    """Loaders of train sets; a set that several want in the same way is there once."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, Any]] = []

    def get(self, opt: dict[str, Any]) -> Any:
        """BasicSR's loader for its SRModel, that of our runs for ours."""
        stock, data = opt['model_type'] == 'SRModel', opt['datasets']['train']
        key = (stock, data)
        for known, loader in self._known:
            if known == key:
                return loader
        dataset = build_dataset(data)
        sampler = (EnlargedSampler if stock else EpochSampler)(dataset, 1, 0, data.get('dataset_enlarge_ratio', 1))
        build: Callable[..., Any] = build_dataloader if stock else build_train_loader
        loader = build(dataset, data, opt['num_gpu'], sampler=sampler, seed=opt['manual_seed'])
        self._known.append((key, loader))
        return loader


def runners_of(contestants: dict[str, Contestant]) -> dict[str, Runner]:
    """Trainings that share a process, whose memory is kept or not as the first of them wants it, and their sets."""
    if next(iter(contestants.values())).keeps_memory:
        keep_freed_memory()
    get_root_logger(log_level=logging.WARNING).setLevel(logging.WARNING)  # networks are not printed
    torch.backends.cudnn.benchmark = True  # as BasicSR's training sets it
    loaders = Loaders()
    return {name: Runner(contestant.options, loaders) for name, contestant in contestants.items()}


class Runner:
    """The training of one set of options, in the steps of BasicSR's loop.

    Args:
        opt: of :func:`~iafmsr.tools.profiling.contestants.contestants_of`.
        loaders: shared with the other runners.
    """

    def __init__(self, opt: dict[str, Any], loaders: Loaders) -> None:
        torch.manual_seed(opt['manual_seed'])
        self.opt, self.loader = opt, loaders.get(opt)
        self.print_freq = int(opt['logger']['print_freq'])
        self.model = build_model(opt)
        self.device = self.model.device
        self.iteration = self.epoch = 0
        self.seconds: list[float] = []
        self.stages: list[dict[str, float]] = []
        self.peak_mib: float | None = None

    @property
    def compiled(self) -> bool:
        return getattr(self.model, 'compiled_net', None) not in (None, self.model.net_g)

    @property
    def refused(self) -> bool:
        """Compiling was asked for and did not work."""
        return getattr(self.model, 'compiled_net', None) is self.model.net_g

    def turn(self, iterations: int) -> None:
        """Train for some iterations, as in the middle of a run: data workers have nothing in store that they did not
        make meanwhile."""
        with self._data() as prefetcher:
            self._iterate(prefetcher, 1, None)
            if self.peak_mib is None and not self.compiled:
                self.peak_mib = self._peak_mib(prefetcher)
            watch = Stopwatch(self.device)
            if self.device.type == 'cuda':  # stage by stage nothing overlaps: the whole is timed by itself
                seconds = self._iterate(prefetcher, iterations, None)
                self._iterate(prefetcher, iterations, watch)
            else:
                seconds = self._iterate(prefetcher, iterations, watch)
        logging = self._report() / self.print_freq
        self.seconds.append(seconds / iterations + logging)
        self.stages.append({stage: watch.seconds[stage] / iterations for stage in STAGES})
        self.stages[-1]['logging'] += logging

    def medians(self) -> tuple[float, dict[str, float]]:
        """Seconds of an iteration, and of its stages: medians of the turns."""
        return statistics.median(self.seconds), {
            stage: statistics.median(turn[stage] for turn in self.stages) for stage in STAGES
        }

    @contextmanager
    def _data(self) -> Iterator[Any]:
        data = self.opt['datasets']['train']
        self.epoch += 1
        self.loader.sampler.set_epoch(self.epoch)
        prefetcher = (
            CUDAPrefetcher(self.loader, self.opt)
            if data.get('prefetch_mode') == 'cuda' and self.device.type == 'cuda'
            else CPUPrefetcher(self.loader)
        )
        for _ in range(2 * getattr(self.loader, 'num_workers', 0)):  # what they prepare ahead
            self._next(prefetcher)
        try:
            yield prefetcher
        finally:
            prefetcher.loader = None
            gc.collect()  # its workers end with it

    def _next(self, prefetcher: Any) -> Any:
        data = prefetcher.next()
        if data is None:
            self.epoch += 1
            self.loader.sampler.set_epoch(self.epoch)
            prefetcher.reset()
            data = prefetcher.next()
        return data

    def _places(self, watch: Stopwatch) -> list[tuple[Any, str, Callable[[Any], Any]]]:
        """The methods whose calls are stages."""

        def timed(name: str) -> Callable[[Any], Any]:
            return lambda function: watch.timed(name, function)

        guard = getattr(self.model, 'guard', None)
        return [
            (torch.Tensor, 'backward', timed('backward')),
            (self.model.optimizer_g, 'step', timed('optimizer')),
            (self.model, 'model_ema', timed('EMA')),
            (self.model, 'reduce_loss_dict', timed('logging')),
            *([(guard, 'step', timed('optimizer'))] if guard else []),
        ]

    def _iterate(self, prefetcher: Any, iterations: int, watch: Stopwatch | None) -> float:
        """Seconds of some iterations."""
        model = self.model
        stage = watch.stage if watch else lambda name: nullcontext()
        with replaced(*self._places(watch)) if watch else nullcontext():
            start = time.perf_counter()
            for _ in range(iterations):
                with stage('data wait'):
                    data = self._next(prefetcher)
                self.iteration += 1
                with stage('optimizer'):
                    model.update_learning_rate(self.iteration)
                with stage('copy'):
                    model.feed_data(data)
                with stage('forward'):  # and the losses
                    model.optimize_parameters(self.iteration)
            self._wait()
            return time.perf_counter() - start

    def _report(self) -> float:
        start = time.perf_counter()
        self.model.get_current_log()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def _peak_mib(self, prefetcher: Any) -> float:
        """Of what tensors hold in an iteration: weights, moments and averages included, a set in memory left out."""
        model = self.model
        self._iterate(prefetcher, 1, None)  # now optimizer and pools have what they keep
        data = self._next(prefetcher)
        state = [
            value
            for values in model.optimizer_g.state.values()
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        nets = [net for net in (model.net_g, getattr(model, 'net_g_ema', None)) if net is not None]
        kept = [*chain.from_iterable(chain(net.parameters(), net.buffers()) for net in nets), *state]
        if self.device.type != 'cuda':
            with PeakMemory([*kept, data['lq'], data['gt']]) as memory:
                model.feed_data(data)
                model.optimize_parameters(self.iteration)
            return memory.peak / 2**20
        others = torch.cuda.memory_allocated(self.device) - sum(tensor.nbytes for tensor in kept)
        torch.cuda.reset_peak_memory_stats(self.device)
        model.feed_data(data)
        model.optimize_parameters(self.iteration)
        self._wait()
        return (torch.cuda.max_memory_allocated(self.device) - others) / 2**20
