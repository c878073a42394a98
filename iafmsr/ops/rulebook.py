"""Submanifold convolution by spconv, for CUDA."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.func import functional_call

from iafmsr.ops.gather import gather_conv
from iafmsr.ops.sites import ActiveSites

PACKAGES = ('spconv-cu126', 'spconv-cu124', 'spconv-cu120')


def spconv_installed() -> bool:
    """Whether spconv can be imported; it is not."""
    return find_spec('spconv') is not None


def spconv_conv(x: Tensor, weight: Tensor, sites: ActiveSites, algorithm: str | None = None) -> Tensor:
    """M * conv(M * x) + x by spconv. Its table (the rulebook) is kept with the sites, and built once.

    Args:
        x (Tensor): (B, C, H, W).
        weight (Tensor): (C, C, k, k) with odd k, in the layout of a dense convolution; computed in its type when that
            is float16, else in float32 (spconv knows no other).
        sites (ActiveSites): of a (B, 1, H, W) mask.
        algorithm (str | None): of spconv.core.ConvAlgo; None: its own choice for CUDA. On CPU tensors ``Native`` of a
            CUDA package alone is right: the package for CPUs races when it has two threads.

    Raises:
        ValueError: spconv is not installed, or cannot be imported.
    """
    if sites.count == 0 or weight.shape[-1] == 1:  # the former is an error to spconv, the latter it computes with W^T
        return gather_conv(x, weight, sites)
    dtype = torch.float16 if weight.dtype == torch.float16 else torch.float32
    with torch.autocast(x.device.type, enabled=False):  # spconv would go to float16 under any autocast
        conv, rulebooks = _module(weight.shape[0], weight.shape[-1], algorithm), sites.rulebooks
        # spconv reads raw memory: every tensor has to be contiguous
        indices = torch.stack(sites.positions, dim=1).to(torch.int32).contiguous()
        active = _spconv().SparseConvTensor(
            sites.take(x).to(dtype), indices, list(x.shape[-2:]), x.shape[0], indice_dict=rulebooks
        )
        out = functional_call(conv, {'weight': weight.permute(0, 2, 3, 1).to(dtype).contiguous()}, (active,))
        rulebooks.update(out.indice_dict)
        return sites.add(x, out.features)


def _spconv() -> ModuleType:
    if not spconv_installed():
        raise ValueError(f'the sparse backend spconv needs one of the packages {", ".join(PACKAGES)}')
    try:
        import spconv.pytorch
    except ImportError as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(
            f'spconv cannot be imported ({reason}); install one of the packages {", ".join(PACKAGES)}, and only one'
        ) from None
    return spconv.pytorch


@lru_cache(maxsize=8)
def _module(num_feat: int, kernel_size: int, algorithm: str | None) -> nn.Module:
    """spconv's own layer without weights of its own: they come with each call."""
    spconv = _spconv()
    from spconv.core import ConvAlgo

    with torch.device('meta'):
        conv = spconv.SubMConv2d(
            num_feat,
            num_feat,
            kernel_size,
            bias=False,
            indice_key=f'{kernel_size}x{kernel_size} {algorithm}',
            algo=None if algorithm is None else ConvAlgo[algorithm],
        )
    return conv
