"""SAFMN: spatially-adaptive feature modulation for efficient image super-resolution (Sun et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet, Value
from iafmsr.layers.norm import ChannelL2Norm, ChannelLayerNorm

_LEVELS = 4
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    'layer': lambda dim: ChannelLayerNorm(dim, eps=1e-6),
    'none': lambda dim: nn.Identity(),
    'batch': nn.BatchNorm2d,
    'l2': lambda dim: ChannelL2Norm(),
}
_POOLS: dict[str, Callable[..., Tensor]] = {
    'max': F.adaptive_max_pool2d,
    'avg': F.adaptive_avg_pool2d,
    'nearest': lambda x, size: F.interpolate(x, size, mode='nearest'),
}
_ACTS: dict[str, Callable[[Tensor], Tensor]] = {'gelu': F.gelu, 'sigmoid': torch.sigmoid, 'none': lambda x: x}


def _one_of(keyword: str, name: str, known: Mapping[str, Value]) -> Value:
    if name not in known:
        raise ValueError(f'{keyword} must be one of {", ".join(known)}, got {name!r}')
    return known[name]


class SAFM(nn.Module):
    """Spatially-adaptive modulation (equations 1 to 3 of the paper): x * GELU(Conv1x1(four scales of x)).

    The channels are split into four groups; group i is max-pooled to 1/2^i, passes a depthwise 3x3 convolution and is
    enlarged again by its nearest neighbours. The keywords are the ablations of table 3, see :class:`SAFMN`.
    """

    def __init__(
        self,
        dim: int,
        *,
        modulate: bool = True,
        multi_scale: bool = True,
        aggregate: bool = True,
        pool: str = 'max',
        act: str = 'gelu',
    ) -> None:
        super().__init__()
        if dim % _LEVELS:
            raise ValueError(f'dim must be a multiple of {_LEVELS}, got {dim}')
        group = dim // _LEVELS
        self.modulate, self.multi_scale = modulate, multi_scale
        self.pool, self.act = _one_of('pool', pool, _POOLS), _one_of('act', act, _ACTS)
        self.levels = nn.ModuleList(nn.Conv2d(group, group, 3, padding=1, groups=group) for _ in range(_LEVELS))
        self.aggregate = nn.Conv2d(dim, dim, 1) if aggregate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        features = []
        for i, (conv, group) in enumerate(zip(self.levels, x.chunk(_LEVELS, dim=1), strict=True)):
            coarse = i > 0 and self.multi_scale
            if coarse:
                group = self.pool(group, (max(1, h >> i), max(1, w >> i)))
            group = conv(group)
            features.append(F.interpolate(group, size=(h, w), mode='nearest') if coarse else group)
        made = self.act(self.aggregate(torch.cat(features, dim=1)))
        return x * made if self.modulate else made


class SqueezeExcite(nn.Module):
    """x times a gate per channel, by a bottleneck of a quarter of the channels from the channel's mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(dim, dim // 4, 1), nn.GELU(), nn.Conv2d(dim // 4, dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean(dim=(-2, -1), keepdim=True))


def _ccm(form: str, dim: int, hidden: int) -> nn.Sequential:
    """The channel mixer: conv3x3 C->hC, GELU, Conv1x1 hC->C, or what table 3 puts in its place."""
    size, between = _one_of('ccm', form, _CCMS)
    first = nn.Conv2d(dim, hidden, size, padding=size // 2)
    return nn.Sequential(first, nn.GELU(), *between(hidden), nn.Conv2d(hidden, dim, 1))


_CCMS: dict[str, tuple[int, Callable[[int], list[nn.Module]]]] = {
    'conv': (3, lambda hidden: []),
    'mlp': (1, lambda hidden: []),
    'se': (3, lambda hidden: [SqueezeExcite(hidden)]),
    'inverted_residual': (3, lambda hidden: [nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU()]),
}


class FMM(nn.Module):
    """Feature mixing module: x = x + SAFM(LN(x)); x = x + CCM(LN(x)), CCM = conv3x3 C->hC, GELU, Conv1x1 hC->C."""

    def __init__(self, dim: int, ffn_scale: float, norm: str, safm: bool, ccm: str, **of_safm: Any) -> None:
        super().__init__()
        build = _one_of('norm', norm, _NORMS)
        if safm:
            self.norm1 = build(dim)
        if ccm != 'none':
            self.norm2 = build(dim)
        self.safm = SAFM(dim, **of_safm) if safm else None
        self.ccm = _ccm(ccm, dim, int(dim * ffn_scale)) if ccm != 'none' else None

    def forward(self, x: Tensor) -> Tensor:
        if self.safm is not None:
            x = x + self.safm(self.norm1(x))
        return x if self.ccm is None else x + self.ccm(self.norm2(x))


class SAFMN(PublishedNet):
    """SAFMN, 227,820 / 232,695 / 239,520 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        dim (int): channels, a multiple of 4.
        n_blocks (int): number of feature mixing modules.
        ffn_scale (float): hidden width of the channel mixer over dim.
        norm (str): ``layer``, ``none``, ``batch`` or ``l2``. This and all that follows is of table 3.
        safm, modulate, multi_scale, aggregate (bool): False leaves out SAFM, its product with x, its scales, its
            1x1 convolution.
        pool (str): how SAFM makes its scales: ``max``, ``avg`` or ``nearest``.
        act (str): of SAFM: ``gelu``, ``sigmoid`` or ``none``.
        ccm (str): the channel mixer: ``conv``, ``se`` (with squeeze and excitation), ``mlp``, ``inverted_residual``
            or ``none``.

    Raises:
        ValueError: when ``dim`` is no multiple of 4, or a name is unknown.
    """

    published_names: ClassVar = {
        r'^to_feat\.': 'head.',
        r'^to_img\.0\.': 'tail.',
        r'^feats\.': 'blocks.',
        r'\.safm\.mfr\.': '.safm.levels.',
        r'\.safm\.aggr\.': '.safm.aggregate.',
        r'\.ccm\.ccm\.': '.ccm.',
    }

    def __init__(
        self,
        *,
        scale: int = 4,
        dim: int = 36,
        n_blocks: int = 8,
        ffn_scale: float = 2.0,
        norm: str = 'layer',
        safm: bool = True,
        modulate: bool = True,
        multi_scale: bool = True,
        aggregate: bool = True,
        pool: str = 'max',
        act: str = 'gelu',
        ccm: str = 'conv',
    ) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, dim, 3, padding=1)
        of_safm = {'modulate': modulate, 'multi_scale': multi_scale, 'aggregate': aggregate, 'pool': pool, 'act': act}
        self.blocks = nn.Sequential(*(FMM(dim, ffn_scale, norm, safm, ccm, **of_safm) for _ in range(n_blocks)))
        self.tail = nn.Conv2d(dim, 3 * scale**2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        x = self.head(lq)
        return self.upsample(self.tail(self.blocks(x) + x))
