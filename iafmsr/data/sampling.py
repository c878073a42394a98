"""The order of pictures and their random patches: pure functions of the seed, the epoch and the position in the epoch.

No generator has a state that must be saved in a checkpoint: a resumed run, with any number of workers or processes,
sees the same samples as a run without a stop.

Other datasets, such as BasicSR's, are wrapped in :class:`SeededByDraw`. Our own datasets draw the patch from the index
that the sampler passes to them::

    def __getitem__(self, index):
        random = sample_random(index)
        patch = random_patch(random, lq_height, lq_width, gt_size // scale, use_hflip, use_rot)
        lq, gt = patch.cut(lq), patch.cut(gt, scale)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

Array = TypeVar('Array', np.ndarray, torch.Tensor)


class Draw(int):
    """The index of a picture, together with the draw of the run that it belongs to.

    It is an int, so that any dataset can use it, also those of BasicSR. Its attributes are pickled with it and so reach
    the data workers, even persistent ones, which are not informed of a sampler's ``set_epoch``.

    Attributes:
        key (tuple[int, int, int]): seed, epoch and number of the draw in the epoch.
        gt_size (int | None): side of the HR patch in pixels; None: the dataset's.
    """

    key: tuple[int, int, int]
    gt_size: int | None

    def __new__(cls, index: int, key: tuple[int, int, int], gt_size: int | None = None) -> Draw:
        draw = super().__new__(cls, index)
        draw.key, draw.gt_size = key, gt_size
        return draw

    def __reduce__(self) -> tuple[type[Draw], tuple[int, tuple[int, int, int], int | None]]:
        return Draw, (int(self), self.key, self.gt_size)


def gt_size_of(index: int, default: int) -> int:
    """Side of the HR patch of a draw; ``default`` where the draw leaves it to the dataset."""
    return getattr(index, 'gt_size', None) or default


def sample_random(index: int, purpose: str = '') -> random.Random:
    """The random generator of one sample, seeded by its draw (by the index only if it is a plain int).

    Args:
        index: the draw.
        purpose: name of a separate stream of the draw; the stream of the patch has no name.
    """
    key = index.key if isinstance(index, Draw) else (0, 0, index)
    # a string is hashed by SHA-512, the same in every process
    return random.Random(','.join(map(str, key)) + purpose)


class SeededByDraw(Dataset[Any]):
    """A dataset that draws from the generators of its process, such as BasicSR's: each draw seeds them first."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        seed = sample_random(index).getrandbits(32)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return self.dataset[index]


@dataclass(frozen=True)
class Patch:
    """A square patch of an LR picture, in LR pixels, and how it is turned: first flipped, then transposed."""

    top: int
    left: int
    size: int
    hflip: bool
    vflip: bool
    transpose: bool

    def cut(self, picture: Array, scale: int = 1) -> Array:
        """The patch of a picture (H, W, ...), NumPy or torch, that has ``scale`` pixels for each LR pixel: a copy.

        Args:
            picture: (H, W) or (H, W, C).
            scale: 1 for LR, the super-resolution scale for HR.

        Returns:
            (scale size, scale size, ...), contiguous.
        """
        patch = self.show(picture, scale)
        return np.ascontiguousarray(patch).copy() if isinstance(patch, np.ndarray) else patch.contiguous()

    def show(self, picture: Array, scale: int = 1) -> Array:
        """As :meth:`cut`, but not contiguous, and a view of the picture where that is possible."""
        top, left, size = scale * self.top, scale * self.left, scale * self.size
        patch = picture[top : top + size, left : left + size]
        if isinstance(patch, np.ndarray):
            patch = patch[::-1] if self.vflip else patch
            patch = patch[:, ::-1] if self.hflip else patch
        else:
            patch = patch.flip([axis for axis, wanted in enumerate((self.vflip, self.hflip)) if wanted])
        return patch.swapaxes(0, 1) if self.transpose else patch

    def walk(self, width: int, scale: int = 1) -> tuple[int, int, int]:
        """The same patch of a picture whose rows of ``width`` pixels lie one after another.

        Returns:
            Position of the first pixel, and the steps to the next one below and to the next one to the right: pixel
            (i, j) of the patch is at ``first + i * below + j * right``.
        """
        last = scale * self.size - 1
        top, left = (
            scale * start + last * flipped for start, flipped in ((self.top, self.vflip), (self.left, self.hflip))
        )
        below, right = -width if self.vflip else width, -1 if self.hflip else 1
        return top * width + left, *((right, below) if self.transpose else (below, right))


def random_patch(
    source: random.Random, height: int, width: int, size: int, use_hflip: bool = True, use_rot: bool = True
) -> Patch:
    """A patch uniform over all positions and, when allowed, over the 2, 4 or 8 turns.

    Args:
        source: see :func:`sample_random`.
        height, width: of the LR picture.
        size: side of the LR patch.
        use_hflip: mirror left and right in half of the cases.
        use_rot: mirror top and bottom and transpose, each in half of the cases.

    Raises:
        ValueError: the picture is smaller than the patch.
    """
    if min(height, width) < size:
        raise ValueError(f'patches of {size} do not fit into {width}x{height}')
    top, left = source.randint(0, height - size), source.randint(0, width - size)
    flips = [source.random() < 0.5 for _ in range(3)]
    return Patch(top, left, size, use_hflip and flips[0], use_rot and flips[1], use_rot and flips[2])


class EpochSampler(Sampler[Draw]):
    """The draws of an epoch, in an order fixed by seed and epoch, distributed over the processes of a run.

    An epoch draws each picture ``ratio`` times. The processes together take the draws in this order, whatever their
    number: the same total batch holds the same draws. Draws that do not fill a round of all processes are left out, so
    that no draw goes to two processes.

    Args:
        dataset: what is drawn from; only its length counts.
        num_replicas: number of processes.
        rank: number of this process, from 0.
        ratio: how often an epoch draws each picture.
        seed: of the run.
        weights: (pictures,); an epoch then has as many draws, each of a picture with probability proportional to its
            weight. None: each picture ``ratio`` times.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int = 1,
        rank: int = 0,
        ratio: int = 1,
        seed: int = 0,
        weights: torch.Tensor | None = None,
    ) -> None:
        self.pictures, self.num_replicas, self.rank = len(dataset), num_replicas, rank
        self.ratio, self.seed, self.weights = ratio, seed, weights
        self.epoch = 0
        self.resumed = (0, 0)
        self.gt_size_at: Callable[[int], int] | None = None
        self.batch_size = 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration over this sampler."""
        self.epoch = epoch

    def resume(self, epoch: int, skip: int) -> None:
        """Skip the first ``skip`` draws of this process in one epoch, which have been used for training already."""
        self.epoch, self.resumed = epoch, (epoch, skip)

    def size_patches(self, gt_size_at: Callable[[int], int], batch_size: int) -> None:
        """Make the size of the HR patches of a process's batch depend on the iteration, counted from 1."""
        self.gt_size_at, self.batch_size = gt_size_at, batch_size

    def __len__(self) -> int:
        """Draws of this process in a whole epoch."""
        return self.pictures * self.ratio // self.num_replicas

    def __iter__(self) -> Iterator[Draw]:
        # a seed of its own for each epoch: neighbouring seeds and epochs must not share their orders
        generator = torch.Generator().manual_seed(random.Random(f'{self.seed},{self.epoch}').getrandbits(63))
        count = self.pictures * self.ratio
        if self.weights is None:
            numbers = torch.randperm(count, generator=generator)
            pictures = numbers % self.pictures
        else:
            numbers = torch.arange(count)
            pictures = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        draws = torch.stack((pictures, numbers), 1)[self.rank :: self.num_replicas][: len(self)]
        epoch, skip = self.resumed
        begin = skip if self.epoch == epoch else 0
        for place, (picture, number) in enumerate(draws[begin:].tolist(), begin):
            yield Draw(picture, (self.seed, self.epoch, number), self._gt_size(place))

    def _gt_size(self, place: int) -> int | None:
        """Of this process's draw at a place in the epoch."""
        if self.gt_size_at is None:
            return None
        in_epoch = len(self) // self.batch_size  # batches: what does not fill one is left out
        return self.gt_size_at(self.epoch * in_epoch + place // self.batch_size + 1)
