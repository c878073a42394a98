"""The pixels of many pictures in one block of memory, and the patches that are cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from iafmsr.data.sampling import Patch

__all__ = ['Pixels', 'upload']


class Pixels:
    """Pictures in one block of memory, one after another.

    Args:
        sizes: height and width of each.
        memory: uint8, of at least :meth:`count` bytes.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], memory: Tensor) -> None:
        self.sizes = sizes
        self.starts = [0, *accumulate(height * width for height, width in sizes)]
        self.flat = memory[: self.count(sizes)].view(-1, 3)

    @staticmethod
    def count(sizes: Sequence[tuple[int, int]]) -> int:
        """Bytes that pictures of these sizes take."""
        return 3 * sum(height * width for height, width in sizes)

    def picture(self, number: int) -> Tensor:
        """A view of one, uint8 (H, W, 3)."""
        return self.flat[self.starts[number] : self.starts[number + 1]].view(*self.sizes[number], 3)

    def cut(self, numbers: Sequence[int], patches: Sequence[Patch], scale: int) -> Tensor:
        """Patches of pictures, uint8 (B, 3, size, size) with the size in pixels of this scale: those of `Patch.cut`."""
        if self.flat.device.type == 'cpu':
            return self._cut_each(numbers, patches, scale)
        return self._cut_at_once(numbers, patches, scale)  # on a GPU each kernel launch takes time

    def _cut_each(self, numbers: Sequence[int], patches: Sequence[Patch], scale: int) -> Tensor:
        size = scale * patches[0].size
        out = torch.empty(len(numbers), 3, size, size, dtype=torch.uint8)
        for patch, number, place in zip(patches, numbers, out, strict=True):
            place.copy_(patch.show(self.picture(number), scale).permute(2, 0, 1))
        return out

    def _cut_at_once(self, numbers: Sequence[int], patches: Sequence[Patch], scale: int) -> Tensor:
        walks = [
            (self.starts[number] + first, below, right)
            for number, (first, below, right) in (
                (number, patch.walk(self.sizes[number][1], scale))
                for number, patch in zip(numbers, patches, strict=True)
            )
        ]
        first, below, right = upload(torch.tensor(walks), self.flat.device).T[..., None, None]
        steps = torch.arange(scale * patches[0].size, device=self.flat.device)
        where = first + below * steps[:, None] + right * steps
        return self.flat.index_select(0, where.flatten()).view(*where.shape, 3).permute(0, 3, 1, 2).contiguous()


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device; to a GPU from pinned memory, so that the host does not wait for the GPU."""
    if device.type == 'cpu' or values.device == device:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
