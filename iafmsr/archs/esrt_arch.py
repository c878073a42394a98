"""ESRT: efficient super-resolution transformer, a CNN and a transformer in a row (Lu et al., CVPR Workshops 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.rdesa_arch import ChannelAttention

_TOKEN = 3  # side of the squares of pixels that are the transformer's tokens
_PARTS = 4  # of the tokens, which attend to their own part alone


class Weighted(nn.Module):
    """weight * module(x), the weight learned."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.weight = module, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * self.module(x)


class ResidualUnit(nn.Module):
    """l1 * x + l2 * Conv(PReLU(Conv(x))), half of the channels between the convolutions."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        half = num_feat // 2
        self.same = Weighted(nn.Identity())
        self.change = Weighted(
            nn.Sequential(
                nn.Conv2d(num_feat, half, 3, padding=1), nn.PReLU(half), nn.Conv2d(half, num_feat, 3, padding=1)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.same(x) + self.change(x)


class ARFB(nn.Module):
    """Adaptive residual feature block: two residual units in a row, joined by Conv1x1, attention and Conv3x3; + x."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.unit1, self.unit2 = ResidualUnit(num_feat), ResidualUnit(num_feat)
        self.kept1, self.kept2 = Weighted(nn.Identity()), Weighted(nn.Identity())
        self.same = Weighted(nn.Identity())
        self.change = Weighted(
            nn.Sequential(
                nn.Conv2d(2 * num_feat, num_feat, 1, bias=False),
                nn.ReLU(),
                ChannelAttention(num_feat),
                nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=False),
                nn.ReLU(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.unit1(x)
        second = self.unit2(first)
        return self.same(x) + self.change(torch.cat([self.kept2(second), self.kept1(first)], dim=1))


class HPB(nn.Module):
    """High preserving block: what half the resolution keeps goes five times through one ARFB there, what it loses
    through another at full resolution; Conv1x1, attention and ARFB join them; plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.encode, self.low, self.high = ARFB(num_feat), ARFB(num_feat), ARFB(num_feat)
        self.join = nn.Sequential(
            nn.Conv2d(2 * num_feat, num_feat, 1, bias=False), nn.ReLU(), ChannelAttention(num_feat), ARFB(num_feat)
        )

    def forward(self, x: Tensor) -> Tensor:
        encoded = self.encode(x)
        low = F.avg_pool2d(encoded, 2, ceil_mode=True)  # a single pixel has a half, too
        high = encoded - self._enlarged(low, x)
        for _ in range(5):
            low = self.low(low)
        return x + self.join(torch.cat([self._enlarged(low, x), self.high(high)], dim=1))

    @staticmethod
    def _enlarged(low: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(low, size=like.shape[-2:], mode='bilinear', align_corners=True)


class EfficientTransformer(nn.Module):
    """t = t + attention(LN(t)); t = t + MLP(LN(t)) of the tokens t, the 3x3 squares around every pixel.

    The attention is of half of the channels and within each quarter of the tokens, in the order of rows.
    """

    def __init__(self, num_feat: int, num_heads: int = 8) -> None:
        super().__init__()
        dim = num_feat * _TOKEN**2
        self.num_heads, self.temperature = num_heads, (dim // num_heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.reduce = nn.Linear(dim, dim // 2, bias=False)
        self.qkv = nn.Linear(dim // 2, 3 * (dim // 2), bias=False)
        self.project = nn.Linear(dim // 2, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim // 4), nn.ReLU(), nn.Linear(dim // 4, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), the tokens put back by addition."""
        t = F.unfold(x, _TOKEN, padding=1).transpose(1, 2)
        t = t + self._attention(self.norm1(t))
        t = t + self.mlp(self.norm2(t))
        return F.fold(t.transpose(1, 2), x.shape[-2:], _TOKEN, padding=1)

    def _attention(self, t: Tensor) -> Tensor:
        """(B, HW, dim) -> (B, HW, dim)."""
        q, k, v = self.qkv(self.reduce(t)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        size = max(1, t.shape[1] // _PARTS)
        parts = [
            F.scaled_dot_product_attention(a, b, c, scale=self.temperature)
            for a, b, c in zip(q.split(size, 2), k.split(size, 2), v.split(size, 2), strict=True)
        ]
        return self.project(torch.cat(parts, dim=2).transpose(1, 2).flatten(2))


class ESRT(nn.Module):
    """ESRT, 677,771 / 770,251 / 751,755 parameters at x2 / x3 / x4.

    Args:
        scale (int): 2, 3 or 4; 4 is twice 2.
        num_feat (int): width, a multiple of 16.
        num_block (int): number of high preserving blocks.

    Raises:
        ValueError: when ``num_feat`` is no multiple of 16.
    """

    def __init__(self, *, scale: int = 4, num_feat: int = 32, num_block: int = 3) -> None:
        super().__init__()
        if num_feat % 16:
            raise ValueError(f'num_feat must be a multiple of 16, got {num_feat}')
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(HPB(num_feat) for _ in range(num_block))
        self.reduce = nn.Conv2d(num_block * num_feat, num_feat, 3, padding=1)
        self.transformer = EfficientTransformer(num_feat)
        self.same = Weighted(nn.Identity())
        self.change = Weighted(nn.Conv2d(num_feat, num_feat, 3, padding=1))
        self.smooth = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.tail = nn.Sequential(*_upsampler(scale, num_feat), nn.Conv2d(num_feat, 3, 3, padding=1))
        self.tail_head = nn.Sequential(
            *_upsampler(scale, num_feat), nn.Conv2d(num_feat, 3, 3, padding=1, bias=False), nn.ReLU()
        )

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = x = self.head(lq)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        x = self.transformer(self.reduce(torch.cat(outputs, dim=1)))
        return self.tail(self.smooth(self.same(f0) + self.change(x))) + self.tail_head(f0)


def _upsampler(scale: int, num_feat: int) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for factor in (2, 2) if scale == 4 else (scale,):
        modules += [nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return modules
