"""What exact resume, signals and the guard cost an iteration."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from iafmsr.basicsr_api import SRModel, build_model
from iafmsr.training.exact import seed_iteration
from iafmsr.training.signals import StopSignal

_PRINT_FREQ = 100


def measure_overhead(
    device: str, num_feat: int, size: tuple[int, int], batch: int, rounds: int
) -> tuple[float, float, float]:
    """Let iterations as BasicSR makes them and as a run of ours does take turns, on one network and batch.

    Args:
        device: ``cpu`` or ``cuda``.
        num_feat: width of an IAFMNet x4 of six blocks.
        size: width and height of the LR patches.
        batch: their number.
        rounds: iterations of each kind that count.

    Returns:
        Median seconds of BasicSR's iteration (a processor's time on a CPU, which other processes do not lengthen), of
        ours, and the median of the ratios of neighbours.
    """
    torch.manual_seed(0)
    width, height = size
    data = {
        'lq': torch.rand(batch, 3, height, width),
        'gt': torch.rand(batch, 3, 4 * height, 4 * width),
        'lq_path': ['x.png'] * batch,
    }
    opt = {
        'name': 'overhead',
        'scale': 4,
        'num_gpu': int(device == 'cuda'),
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'path': {},
        'network_g': {'type': 'IAFMNet', 'num_feat': num_feat, 'num_block': 6},
        'train': {
            'ema_decay': 0.999,
            'optim_g': {'type': 'Adam', 'lr': 1e-4},
            'pixel_opt': {'type': 'L1Loss'},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [10**6]},
            'total_iter': 10**6,
        },
    }
    kinds = [
        _iteration(build_model(opt | {'model_type': kind}), data, kind == 'IAFMNetModel')
        for kind in ('SRModel', 'IAFMNetModel')
    ]
    clock = time.perf_counter if device == 'cuda' else time.process_time
    seconds: list[list[float]] = []
    for i in range(1, rounds + 3):
        taken = [0.0, 0.0]
        for kind in (0, 1) if i % 2 else (1, 0):  # neither always comes second, to a cache that the other has filled
            start = clock()
            kinds[kind](i)
            if device == 'cuda':
                torch.cuda.synchronize()
            taken[kind] = clock() - start
        seconds.append(taken)
    theirs, ours = zip(*seconds[2:], strict=True)  # the first two warm up
    return (
        statistics.median(theirs),
        statistics.median(ours),
        statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    )


def _iteration(model: SRModel, data: dict[str, Any], safe: bool) -> Callable[[int], None]:
    stop = StopSignal()

    def run(i: int) -> None:
        if safe:
            stop.agreed()
            seed_iteration(0, 0, i)
        model.update_learning_rate(i)
        model.feed_data(data)
        model.optimize_parameters(i)
        if i % _PRINT_FREQ == 0:
            model.get_current_log()

    return run
