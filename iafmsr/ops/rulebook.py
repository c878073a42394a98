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
    """Whether spconv is installed. It is not imported for that."""
    return find_spec('spconv') is not None


def spconv_conv(x: Tensor, weight: Tensor, sites: ActiveSites, algorithm: str | None = None) -> Tensor:
    """M * conv(M * x) + x by spconv. Its table (the rulebook) is built once and kept with the sites.

    Args:
        x (Tensor): (B, C, H, W).
        weight (Tensor): (C, C, k, k) with odd k, in the layout of a dense convolution. If it is float16, so is the
            computation; otherwise it is in float32 (spconv supports no other type).
        sites (ActiveSites): of a (B, 1, H, W) mask.
        algorithm (str | None): a name of spconv.core.ConvAlgo; None: spconv's own choice for CUDA. On CPU tensors only
            ``Native`` of a CUDA package is correct: the CPU package has a data race with two threads.

    Raises:
        ValueError: spconv is not installed, or cannot be imported.
    """
    if sites.count == 0 or weight.shape[-1] == 1:  # spconv fails without sites, and uses W^T for 1x1 kernels
        return gather_conv(x, weight, sites)
    dtype = torch.float16 if weight.dtype == torch.float16 else torch.float32
    with torch.autocast(x.device.type, enabled=False):  # spconv would switch to float16 under any autocast
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
    """spconv's own layer without weights: each call passes them."""
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
