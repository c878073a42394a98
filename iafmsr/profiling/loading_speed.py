"""Whether data are loaded faster than a network trains on them."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from iafmsr.basicsr_api import build_dataset, build_network
from iafmsr.data.in_memory import build_train_loader
from iafmsr.data.sampling import EpochSampler
from iafmsr.options.command import options_of_training

__all__ = ['LoadingSpeed', 'loading_table', 'measure_loading']

_WARM_UP = 4


@dataclass(frozen=True)
class LoadingSpeed:
    """What an option file's training data and network take.

    Attributes:
        dataset (str): type of the dataset.
        workers (int): data workers.
        batch (int): pairs in a batch.
        start_s (float): seconds until the dataset is built.
        load_ms (float): milliseconds a batch that all workers take together, when nothing waits but they.
        train_ms (float): milliseconds that forward, backward and step take on a batch, when data are there already.
    """

    dataset: str
    workers: int
    batch: int
    start_s: float
    load_ms: float
    train_ms: float


def measure_loading(file: str, root: Path, batches: int = 40, iterations: int = 5) -> LoadingSpeed:
    """Load batches by ``datasets.train`` of an option file, then train its network on one of them.

    Args:
        file: option file.
        root: repository root, from which its paths count.
        batches: timed ones, after a warm-up.
        iterations: timed ones; their median counts.

    Raises:
        UserError: the option file has faults.
    """
    opt = options_of_training(file, root)
    train = opt['datasets']['train']
    start = time.perf_counter()
    dataset = build_dataset(train)
    start_s = time.perf_counter() - start

    wanted = (_WARM_UP + batches) * train['batch_size_per_gpu']
    sampler = EpochSampler(dataset, ratio=-(-wanted // len(dataset)))
    loader = build_train_loader(dataset, train, num_gpu=torch.cuda.device_count() and 1, sampler=sampler, seed=0)
    loader = iter(loader)
    for _ in range(_WARM_UP):
        batch = next(loader)
    start = time.perf_counter()
    loaded = sum(1 for _ in islice(loader, batches))
    load_ms = 1000 * (time.perf_counter() - start) / loaded
    del loader

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    net = build_network(opt['network_g']).to(device)
    train_ms = _train_ms(net, batch['lq'].to(device), batch['gt'].to(device), iterations)
    return LoadingSpeed(
        train['type'], train['num_worker_per_gpu'], train['batch_size_per_gpu'], start_s, load_ms, train_ms
    )


def loading_table(files: list[str], root: Path) -> str:
    """A Markdown table of option files."""
    rows = [
        '| options | dataset | workers | batch | start, s | load, ms a batch | train, ms a batch |',
        '|---|---|---:|---:|---:|---:|---:|',
    ]
    for file in files:
        s = measure_loading(file, root)
        rows.append(
            f'| {Path(file).stem} | {s.dataset} | {s.workers} | {s.batch} | {s.start_s:.1f} | {s.load_ms:.0f} '
            f'| {s.train_ms:.0f} |'
        )
    return '\n'.join(rows)


def _train_ms(net: nn.Module, lq: torch.Tensor, gt: torch.Tensor, iterations: int) -> float:
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    times = []
    for _ in range(1 + iterations):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(net(lq), gt)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])
