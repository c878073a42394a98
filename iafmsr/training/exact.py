"""What an exact resume rests on: all that is random is a function of where the run is; what has changed is said."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iafmsr.bridge.basicsr_api import get_root_logger

Options = dict[str, Any]
# how the samples reach the network, not which they are; where they lie is told by the listing
_LOADER_KEYS = {
    'name',
    'phase',
    'type',
    'io_backend',
    'num_worker_per_gpu',
    'batch_size_per_gpu',
    'total_batch_size',
    'dataset_enlarge_ratio',
    'prefetch_mode',
    'num_prefetch_queue',
    'pin_memory',
    'persistent_workers',
    'timeout',
    'in_memory',
    'max_unreadable',
    'picture_weights',
}
_FILES = ('dataroot', 'meta_info')  # keys that name files begin so


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Make all that is random in an iteration a function of where the run is: so no generator has to be saved."""
    value = random.Random(f'{seed},{rank},{iteration}').getrandbits(63)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)  # CUDA's generators as well


class DataOrder:
    """What the samples of a run, their order and their losses depend on; saved, so that a resume can say what has
    changed."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        return self.values

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Log what differs; keys that only one of the two has are from another version."""
        changed = [
            f'{key} {saved[key]} -> {value}'
            for key, value in self.values.items()
            if key in saved and saved[key] != value
        ]
        if changed:
            get_root_logger().warning(f'Not an exact resume: {", ".join(changed)}.')


def data_order(opt: Options, total_batch: int, pictures: int, ratio: int, weights: Any = None) -> DataOrder:
    """Of a run.

    Args:
        opt: of the run.
        total_batch: samples of an iteration, of all ranks.
        pictures: in the train set.
        ratio: how often an epoch draws each.
        weights: of the pictures, a tensor; None where all are drawn alike.
    """
    data, train = opt['datasets']['train'], opt['train']
    samples = {
        key: value
        for key, value in data.items()
        if key not in _LOADER_KEYS and not key.startswith(_FILES) and value is not None
    }
    losses = {
        key: str(section)
        for key, section in train.items()
        if section and (key.endswith('_opt') or key in ('losses', 'teacher'))
    }
    return DataOrder(
        seed=opt['manual_seed'],
        total_batch=total_batch,
        pictures=pictures,
        ratio=ratio,
        listing=listing_digest(data),
        weights=None if weights is None else hashlib.sha256(weights.numpy().tobytes()).hexdigest()[:12],
        curriculum=str(train.get('curriculum') or {}),
        ranks=opt['world_size'],
        threads=torch.get_num_threads(),
        **samples,
        **losses,
    )


def listing_digest(data: Options) -> str:
    """Names and sizes in bytes of all files of a train set, as one short text."""
    digest = hashlib.sha256()
    for key in sorted(data):
        if not key.startswith(_FILES):
            continue
        for root in data[key] if isinstance(data[key], list) else [data[key]] if isinstance(data[key], str) else []:
            for name, size in _files(root):
                digest.update(f'{key} {name} {size}\n'.encode(errors='surrogateescape'))
    return digest.hexdigest()[:12]


def _files(path: str) -> Iterator[tuple[str, int]]:
    if os.path.isfile(path):
        yield '', os.path.getsize(path)
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if name != 'lock.mdb' and file.is_file():
                yield str(file.relative_to(path)), file.stat().st_size
