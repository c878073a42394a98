"""Submanifold sparse convolution on a 2-D map: computed at the active sites only, so that activity never dilates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.ops.crossover import choose_backend
from iafmsr.ops.gather import gather_conv
from iafmsr.ops.rulebook import PACKAGES, spconv_conv, spconv_installed
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.torch_names import autocast_dtype

BACKENDS = ('auto', 'dense', 'gather', 'spconv', 'graph')


def _dense(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    mask = mask.to(x.dtype)
    return mask * F.conv2d(mask * x, weight, padding=weight.shape[-1] // 2) + x


torch.library.define('iafmsr::submanifold_conv', '(Tensor x, Tensor weight, Tensor mask) -> Tensor')
torch.library.impl('iafmsr::submanifold_conv', 'CompositeExplicitAutograd', _dense)
OPERATOR = torch.ops.iafmsr.submanifold_conv.default  # of the backend `graph`: an exporter sees it as one node


def submanifold_conv2d(x: Tensor, weight: Tensor, sites: ActiveSites, backend: str = 'auto') -> Tensor:
    """out = M * conv(M * x) + x: a convolution over the active sites, added to the input (IAFMNet, sec. 3.2).

    Inactive sites pass through untouched, and inactive neighbours count as zero; without an active site the result is
    x. All backends agree up to rounding, in value and in gradient. They are deterministic, except the dense form on a
    device whose convolution is not.

    Args:
        x (Tensor): (B, C, H, W), in any layout.
        weight (Tensor): (C, C, k, k) with odd k, in the layout of a dense convolution, of x's type unless autocast is
            on.
        sites (ActiveSites): of a (B, 1, H, W) mask on the device of x.
        backend (str): ``dense`` (a masked dense convolution; traceable), ``gather`` (plain PyTorch; work in proportion
            to the number of active sites), ``spconv`` (CUDA; with one of the spconv packages), ``graph`` (the dense
            form as one operator, which an exporter can translate), or ``auto``: the faster one, see
            :func:`iafmsr.ops.crossover.choose_backend`.

    Returns:
        Tensor: (B, C, H, W).

    Raises:
        ValueError: when mask, x and weight do not match in shape, type or device, the kernel size is even, or the
            backend is unknown or cannot run here.
    """
    _check(x, weight, sites, backend)
    if backend == 'auto':
        backend = choose_backend(x, weight, sites)
    if backend == 'dense':
        return _dense(x, weight, sites.mask)
    if backend == 'graph':
        return OPERATOR(x, weight.to(x.dtype), sites.mask)
    if (dtype := autocast_dtype(x.device.type)) is not None and x.dtype != torch.float64:
        weight = weight.to(dtype)
    if backend == 'gather':
        return gather_conv(x, weight, sites)
    if not x.is_cuda:
        raise ValueError(f'the sparse backend spconv runs on CUDA, x is on {x.device}')
    return spconv_conv(x, weight, sites)


def _check(x: Tensor, weight: Tensor, sites: ActiveSites, backend: str) -> None:
    mask = sites.mask
    if x.dim() != 4 or mask.shape[0] != x.shape[0] or mask.shape[2:] != x.shape[2:] or mask.device != x.device:
        raise ValueError(f'mask {tuple(mask.shape)} on {mask.device} does not match x {tuple(x.shape)} on {x.device}')
    c = x.shape[1]
    if weight.dim() != 4 or weight.shape[:2] != (c, c) or weight.shape[2] != weight.shape[3]:
        raise ValueError(f'weight must be ({c}, {c}, k, k) for x {tuple(x.shape)}, got {tuple(weight.shape)}')
    if weight.shape[-1] % 2 == 0:
        raise ValueError(f'kernel size must be odd, got {weight.shape[-1]}')
    if weight.dtype != x.dtype and autocast_dtype(x.device.type) is None:
        raise ValueError(f'weight is {weight.dtype}, x is {x.dtype}')
    _check_backend(backend)


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f'unknown sparse backend {backend!r}; known: {", ".join(BACKENDS)}')
    if backend == 'spconv' and not spconv_installed():
        raise ValueError(f'the sparse backend spconv needs one of the packages {", ".join(PACKAGES)}')


class SubmanifoldConv2d(nn.Module):
    """:func:`submanifold_conv2d` with a learned kernel without bias, in the weight layout of ``nn.Conv2d``.

    Args:
        num_feat (int): channels in and out.
        kernel_size (int): odd side of the kernel.
        backend (str): see :func:`submanifold_conv2d`; not in the state dict.

    Raises:
        ValueError: when the backend is unknown, or its package is not installed.
    """

    def __init__(self, num_feat: int, kernel_size: int = 3, backend: str = 'auto') -> None:
        super().__init__()
        _check_backend(backend)
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(num_feat, num_feat, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, sites: ActiveSites) -> Tensor:
        """(B, C, H, W), sites of (B, 1, H, W) -> (B, C, H, W)."""
        return submanifold_conv2d(x, self.weight, sites, self.backend)

    def extra_repr(self) -> str:
        num_feat, _, kernel_size, _ = self.weight.shape
        return f'{num_feat}, kernel_size={kernel_size}, backend={self.backend}'
