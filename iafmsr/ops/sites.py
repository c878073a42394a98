"""The active sites of a map: reading, writing and finding them without touching the other positions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class ActiveSites:
    """The active sites of a batch of maps, in raster order, and the tables of neighbours derived from them.

    Built once per batch and passed to every block, so that a table is computed once for all blocks. Nothing is
    computed before a backend needs it.

    Args:
        mask (Tensor): bool, (B, 1, H, W); True where a site is active.

    Raises:
        ValueError: when the mask is not bool or not of shape (B, 1, H, W).
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.dtype != torch.bool or mask.dim() != 4 or mask.shape[1] != 1:
            raise ValueError(f'mask must be bool of shape (B, 1, H, W), got {mask.dtype} {tuple(mask.shape)}')
        self.mask = mask
        self.rulebooks: dict[str, Any] = {}  # spconv's tables, by its key
        self._neighbours: dict[int, Tensor] = {}

    @property
    def count(self) -> int:
        """Number of active sites of the batch, n."""
        return len(self.positions[0])

    @cached_property
    def positions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Picture, row and column of every site: three tensors (n,)."""
        picture, row, col = torch.nonzero(self.mask[:, 0]).unbind(dim=1)
        return picture, row, col

    @cached_property
    def raster(self) -> Tensor:
        """Index of every site in the batch laid out as (B * H * W): (n,)."""
        picture, row, col = self.positions
        height, width = self.mask.shape[-2:]
        return (picture * height + row) * width + col

    def neighbours(self, kernel_size: int) -> Tensor:
        """The neighbour table.

        Args:
            kernel_size (int): odd side of the kernel.

        Returns:
            Tensor: (n, kernel_size**2), the index of each neighbour in the list of sites, or n where the neighbour is
            inactive or outside the map.
        """
        if kernel_size not in self._neighbours:
            picture, row, col = self.positions
            n, reach, device = self.count, kernel_size // 2, self.mask.device
            b, _, h, w = self.mask.shape
            number = torch.full((b, h + 2 * reach, w + 2 * reach), n, dtype=torch.long, device=device)
            number[picture, row + reach, col + reach] = torch.arange(n, device=device)
            offset = torch.arange(kernel_size, device=device)
            dy, dx = offset.repeat_interleave(kernel_size), offset.repeat(kernel_size)
            self._neighbours[kernel_size] = number[picture[:, None], row[:, None] + dy, col[:, None] + dx]
        return self._neighbours[kernel_size]

    def take(self, x: Tensor) -> Tensor:
        """The values of x (B, C, H, W) at the sites: (n, C)."""
        pixels = x.permute(0, 2, 3, 1)
        # in channels_last the pixels are the rows of a matrix; other layouts are indexed directly, without a copy
        return pixels.flatten(0, 2).index_select(0, self.raster) if pixels.is_contiguous() else pixels[self.positions]

    def spread(self, values: Tensor) -> Tensor:
        """Zeros (B, C, H, W), in channels_last, with values (n, C) at the sites."""
        batch, _, height, width = self.mask.shape
        rows = values.new_zeros(batch * height * width, values.shape[1]).index_copy_(0, self.raster, values)
        return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)

    def put(self, x: Tensor, values: Tensor) -> Tensor:
        """x (B, C, H, W) with values (n, C) in place of its own at the sites, in x's layout and type."""
        return self._written(x, values, add=False)

    def add(self, x: Tensor, values: Tensor) -> Tensor:
        """x (B, C, H, W) with values (n, C) added at the sites, in x's layout and type."""
        return self._written(x, values, add=True)

    def _written(self, x: Tensor, values: Tensor, add: bool) -> Tensor:
        result = x.clone()
        pixels, values = result.permute(0, 2, 3, 1), values.to(x.dtype)
        if pixels.is_contiguous():
            rows = pixels.flatten(0, 2)
            (rows.index_add_ if add else rows.index_copy_)(0, self.raster, values)
        else:
            pixels.index_put_(self.positions, values, accumulate=add)
        return result
