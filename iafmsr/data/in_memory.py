"""The train set in memory: each picture is decoded once, and batches are cut directly from the stored pixels.

``datasets: {train: {in_memory: gpu}}`` keeps the set as uint8 on the GPU, ``host`` in the host's memory: on each
machine one copy for all processes of the run; on GPUs a copy each. Samples are those that data workers would have made,
bit for bit, since the draws and the patches are the dataset's own. What does not fit is said with its numbers, and the
next best way is taken: host memory, then reading pictures as they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from iafmsr.bridge.basicsr_api import build_dataloader, get_root_logger
from iafmsr.data.augmentation import Augmentation
from iafmsr.data.parallel import in_order
from iafmsr.data.pixels import Pixels, upload
from iafmsr.data.reading import read_or_replace
from iafmsr.data.sampling import EpochSampler, Patch, SeededByDraw
from iafmsr.data.shared_memory import available_bytes, from_everyone, neighbours, shared_bytes
from iafmsr.files.picture import UnreadableError

__all__ = ['InMemoryLoader', 'PairSource', 'TrainSetInMemory', 'build_train_loader']

# share of the free memory: the network needs the rest
HOST_SHARE, GPU_SHARE = 0.8, 0.6


class PairSource(Protocol):
    """A dataset of pairs that can be kept in memory: PairedSRDataset, OnTheFlyDataset."""

    opt: dict[str, Any]
    augmentation: Augmentation
    sides: tuple[str, ...]  # lq, gt, and maybe teacher

    def __len__(self) -> int: ...

    def lr_sizes(self) -> list[tuple[int, int]]: ...

    def reading(self) -> AbstractContextManager[None]: ...

    def read_pictures(self, index: int) -> dict[str, Tensor]: ...

    def patch(self, index: int, height: int, width: int) -> Patch: ...

    def names(self, index: int) -> dict[str, str]: ...


class TrainSetInMemory:
    """The pairs of a dataset, whole and decoded, and the batches that are cut from them.

    All processes of a run build theirs together. A picture that cannot be read is replaced, when it is drawn, as
    :func:`~iafmsr.data.reading.read_or_replace` says.

    Args:
        source: the dataset.
        place: where the pixels are kept; ``cpu`` is memory that the processes of a machine share.
        target: where batches are wanted.
    """

    def __init__(self, source: PairSource, place: torch.device, target: torch.device) -> None:
        self.source, self.target, self.scale = source, target, source.opt['scale']
        lr_sizes = source.lr_sizes()
        hr_sizes = [(self.scale * height, self.scale * width) for height, width in lr_sizes]
        on_host, total = place.type == 'cpu', self.bytes_of(source)
        memory = shared_bytes(total) if on_host else torch.empty(total, dtype=torch.uint8, device=place)
        self.pixels: dict[str, Pixels] = {}
        for side in source.sides:
            sizes = lr_sizes if side == 'lq' else hr_sizes
            self.pixels[side], memory = Pixels(sizes, memory), memory[Pixels.count(sizes) :]
        self.lr = self.pixels['lq']
        # not a Python number: by one of those a GPU divides less exactly
        self.brightest = torch.tensor(255.0, device=target)
        self.faults: dict[int, str] = {}
        self._fill(*(neighbours() if on_host else (0, 1)))
        if on_host:
            self.faults = {number: fault for part in from_everyone(self.faults) for number, fault in part.items()}

    @staticmethod
    def bytes_of(source: PairSource) -> int:
        """What the pixels of a dataset take."""
        return (1 + (len(source.sides) - 1) * source.opt['scale'] ** 2) * Pixels.count(source.lr_sizes())

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, draws: Sequence[int]) -> dict[str, Any]:
        """What a loader with data workers makes of these draws of the dataset, on the device where it is wanted:
        the source's sides, float32 in [0, 1], ``lq_path``, ``gt_path`` and ``unreadable``.

        Raises:
            UserError: many pictures in a row cannot be read.
        """
        samples = [read_or_replace(draw, len(self), self._place) for draw in draws]
        drawn, patches = ([sample.pop(key) for sample in samples] for key in ('draw', 'patch'))
        pixels = {
            side: kept.cut(drawn, patches, 1 if side == 'lq' else self.scale) for side, kept in self.pixels.items()
        }
        for place, draw in enumerate(drawn):
            changed = self.source.augmentation.changed(draw, {key: batch[place] for key, batch in pixels.items()})
            for key, patch in changed.items():
                pixels[key][place] = upload(patch, self.lr.flat.device)
        return {key: upload(batch, self.target).float() / self.brightest for key, batch in pixels.items()} | {
            key: [sample[key] for sample in samples] for key in samples[0]
        }

    def _place(self, draw: int) -> dict[str, Any]:
        if draw in self.faults:
            raise UnreadableError(self.faults[draw])
        return {'draw': draw, 'patch': self.source.patch(draw, *self.lr.sizes[draw]), **self.source.names(draw)}

    def _fill(self, first: int, step: int) -> None:
        """Read this process's share of the pictures: every ``step``-th."""

        def read(number: int) -> str | None:
            try:
                for side, picture in self.source.read_pictures(number).items():
                    pixels = self.pixels[side]
                    if tuple(picture.shape[:2]) != pixels.sizes[number]:
                        raise UnreadableError(
                            f'{self.source.names(number)["lq_path"]}: has not the size that its '
                            'header or the list of the LMDB gives'
                        )
                    pixels.picture(number).copy_(picture)
            except UnreadableError as error:
                return str(error)
            return None

        mine = range(first, len(self), step)
        with self.source.reading():
            faults = tqdm(in_order(read, mine), 'pictures into memory', len(mine), disable=None, leave=False)
            self.faults = {number: fault for number, fault in zip(mine, faults, strict=True) if fault}


class InMemoryLoader:
    """Replaces the DataLoader in BasicSR's loop: batches of a train set in memory, without data workers.

    Samples that do not fill a batch at the end of an epoch are left out, as in BasicSR's loader.

    Args:
        memory: the train set.
        batch_size: samples in a batch.
        sampler: their order.
    """

    def __init__(self, memory: TrainSetInMemory, batch_size: int, sampler: EpochSampler) -> None:
        self.memory, self.batch_size, self.sampler = memory, batch_size, sampler
        self.dataset = memory.source

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        draws = iter(self.sampler)
        full = (
            batch for batch in iter(lambda: list(islice(draws, self.batch_size)), []) if len(batch) == self.batch_size
        )
        if self.memory.lr.flat.device == self.memory.target:
            return map(self.memory.batch, full)
        return in_order(self.memory.batch, full, workers=1)  # ahead of the GPU, so that it does not wait


def build_train_loader(
    dataset: Any,
    dataset_opt: dict[str, Any],
    num_gpu: int = 1,
    dist: bool = False,
    *,
    sampler: EpochSampler,
    seed: int | None = None,
) -> Any:
    """BasicSR's ``build_dataloader``, which knows ``in_memory`` for training."""
    wanted = dataset_opt.get('in_memory') if dataset_opt['phase'] == 'train' else None
    if wanted:
        target = torch.device('cuda', torch.cuda.current_device()) if num_gpu else torch.device('cpu')
        place = _room(TrainSetInMemory.bytes_of(dataset), wanted, target)
        if place is not None:
            batch_size = dataset_opt['batch_size_per_gpu'] * (1 if dist else max(1, num_gpu))
            return InMemoryLoader(TrainSetInMemory(dataset, place, target), batch_size, sampler)
        dataset = type(dataset)({**dataset.opt, 'in_memory': None})
    drawn = dataset if hasattr(dataset, 'augmentation') else SeededByDraw(dataset)
    return build_dataloader(drawn, dataset_opt, num_gpu, dist, sampler, seed)


def _room(count: int, wanted: str, target: torch.device) -> torch.device | None:
    """The best place with room for so many bytes, the same in all processes; why not a better one is logged."""
    places = [target] if wanted == 'gpu' and target.type == 'cuda' else []
    refusals = [] if places or wanted == 'host' else ['there is no GPU']
    for place in [*places, torch.device('cpu')]:
        on_gpu = place.type == 'cuda'
        free = torch.cuda.mem_get_info(place)[0] if on_gpu else available_bytes()
        free = min(from_everyone(free))
        share, name = (GPU_SHARE, 'the GPU') if on_gpu else (HOST_SHARE, 'host memory')
        if count <= share * free:
            get_root_logger().info(
                f'in_memory: {wanted}: {_gib(count)} of pixels in {name}'
                + (f' ({"; ".join(refusals)})' if refusals else '')
            )
            return place
        refusals.append(f'{name} has {_gib(free)} free, of which at most {share:.0%} are used')
    get_root_logger().warning(
        f'in_memory: {wanted}: the set takes {_gib(count)}, but {"; ".join(refusals)}: data workers '
        'read the pictures when they are needed'
    )
    return None


def _gib(count: float) -> str:
    return f'{count / 2**30:.2f} GiB'
