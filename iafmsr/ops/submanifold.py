"""Submanifold sparse convolution on a 2-D map: computed at the active sites only, so that activity never dilates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKENDS = ('dense', 'gather')


class ActiveSites:
    """The active sites of a batch of maps, and the neighbour tables derived from them.

    Built once per picture and handed to every block, so that a table is computed once however many blocks use it.

    Args:
        mask (Tensor): bool, (B, 1, H, W); True where a site is active.

    Raises:
        ValueError: when the mask is not bool or not of shape (B, 1, H, W).
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.dtype != torch.bool or mask.dim() != 4 or mask.shape[1] != 1:
            raise ValueError(f'mask must be bool of shape (B, 1, H, W), got {mask.dtype} {tuple(mask.shape)}')
        self.mask = mask
        self._tables: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def table(self, kernel_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coordinates and neighbours of the n active sites, in raster order.

        Args:
            kernel_size (int): odd side of the kernel.

        Returns:
            tuple: batch index, row and column of each site, (n,) each; neighbours (n, kernel_size**2), the position
            of each neighbour in the list of sites, or n where the neighbour is inactive or outside the map.
        """
        if kernel_size not in self._tables:
            batch, row, col = self.mask[:, 0].nonzero(as_tuple=True)
            n, r = len(batch), kernel_size // 2
            b, _, h, w = self.mask.shape
            number = torch.full((b, h + 2 * r, w + 2 * r), n, dtype=torch.long, device=self.mask.device)
            number[batch, row + r, col + r] = torch.arange(n, device=self.mask.device)
            offset = torch.arange(kernel_size, device=self.mask.device)
            dy, dx = offset.repeat_interleave(kernel_size), offset.repeat(kernel_size)
            neighbours = number[batch[:, None], row[:, None] + dy, col[:, None] + dx]
            self._tables[kernel_size] = (batch, row, col, neighbours)
        return self._tables[kernel_size]


def submanifold_conv2d(x: Tensor, weight: Tensor, sites: ActiveSites, backend: str = 'dense') -> Tensor:
    """out = M * conv(M * x) + x: a convolution over the active sites, added to the input (IAFMNet, sec. 3.2).

    Inactive sites pass through untouched, and inactive neighbours count as zero.

    Args:
        x (Tensor): (B, C, H, W).
        weight (Tensor): (C, C, k, k) with odd k, in the layout of a dense convolution.
        sites (ActiveSites): of a (B, 1, H, W) mask on the device of x.
        backend (str): ``dense`` (a masked dense convolution; traceable) or ``gather`` (the neighbours of the active
            sites gathered, one matrix product, scattered back: work in proportion to the number of active sites).
            Equal up to rounding.

    Returns:
        Tensor: (B, C, H, W).

    Raises:
        ValueError: when the mask does not match x, the kernel is even, or the backend is unknown.
    """
    if sites.mask.shape[0] != x.shape[0] or sites.mask.shape[2:] != x.shape[2:] or sites.mask.device != x.device:
        raise ValueError(f'mask {tuple(sites.mask.shape)} on {sites.mask.device} does not match '
                         f'x {tuple(x.shape)} on {x.device}')
    kernel_size = weight.shape[-1]
    if kernel_size % 2 == 0:
        raise ValueError(f'kernel size must be odd, got {kernel_size}')
    if backend == 'dense':
        mask = sites.mask.to(x.dtype)
        return mask * F.conv2d(mask * x, weight, padding=kernel_size // 2) + x
    if backend == 'gather':
        batch, row, col, neighbours = sites.table(kernel_size)
        pixels = x.permute(0, 2, 3, 1)
        active = pixels[batch, row, col]
        # one row of zeros stands for every neighbour that is inactive or outside
        patches = F.pad(active, (0, 0, 0, 1))[neighbours.flatten()].view(len(active), -1)
        out = active + patches @ weight.permute(2, 3, 1, 0).flatten(0, 2).to(patches.dtype)
        return pixels.index_put((batch, row, col), out.to(x.dtype)).permute(0, 3, 1, 2)
    raise ValueError(f'unknown sparse backend {backend!r}; known: {", ".join(BACKENDS)}')


class SubmanifoldConv2d(nn.Module):
    """:func:`submanifold_conv2d` with a learned kernel without bias, in the weight layout of ``nn.Conv2d``.

    Args:
        num_feat (int): channels in and out.
        kernel_size (int): odd side of the kernel.
        backend (str): see :func:`submanifold_conv2d`; no part of the state dict.
    """

    def __init__(self, num_feat: int, kernel_size: int = 3, backend: str = 'dense') -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise ValueError(f'unknown sparse backend {backend!r}; known: {", ".join(BACKENDS)}')
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(num_feat, num_feat, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5 ** 0.5)

    def forward(self, x: Tensor, sites: ActiveSites) -> Tensor:
        """(B, C, H, W), sites of (B, 1, H, W) -> (B, C, H, W)."""
        return submanifold_conv2d(x, self.weight, sites, self.backend)

    def extra_repr(self) -> str:
        num_feat, _, kernel_size, _ = self.weight.shape
        return f'{num_feat}, kernel_size={kernel_size}, backend={self.backend}'
