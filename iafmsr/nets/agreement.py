"""Whether two forms of a network give the same pictures: one in PyTorch and one in an engine, or two in engines."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.errors import UserError

__all__ = ['LIMIT', 'SIZES', 'largest_difference']

# batch, height, width: the least picture, less than a cell of the attention, whole cells, odd sides, a real one
SIZES = ((1, 1, 1), (2, 7, 5), (1, 16, 24), (3, 33, 47), (1, 90, 160))
# of values in [0, 1]; in half precision, half of an 8-bit level for what is shown
LIMIT = {'float32': 1e-4, 'float16': 1 / 510, 'bfloat16': 1 / 510}
_PICTURES = 3  # tried at a size


@torch.inference_mode()
def largest_difference(
    net: nn.Module,
    other: nn.Module,
    limit: float,
    channels: int = 3,
    size: tuple[int, int, int] | None = None,
    coarse: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """The largest difference of two forms of a net at :data:`SIZES`, or one size: soft, noise, and flat.

    If it is above 1e-4, the results are first clipped to [0, 1]: on noise a net can leave that range by far, where half
    precision is coarse. If two values of the map differ by less than rounding errors, either can become the last active
    site. So a size passes when one of three pictures passes.

    Args:
        net, other: (B, channels, H, W) -> (B, channels, sH, sW).
        limit: the difference that is allowed.
        channels, size: of the pictures; size is the batch, height and width of the only ones that are compared.
        coarse: the net in the precision of ``other``, by PyTorch. Twice its difference from ``net`` is allowed too: on
            noise, half precision is coarser than half an 8-bit level.

    Raises:
        UserError: at some size every picture differs by more than what is allowed.
    """
    largest = 0.0
    for batch, height, width in [size] if size else SIZES:
        for kind in ('soft', 'noise', 'flat'):
            differences = []
            for seed in range(_PICTURES):
                lq = _picture((batch, channels, height, width), seed, kind)
                difference, allowed = _compared(net, other, lq, limit, coarse)
                differences.append(difference)
                if allowed:
                    break
            else:
                where = f'{width}x{height} (batch {batch}, {kind})'
                raise UserError(f'its result differs by {min(differences):.1e} at {where}; {limit:.1e} is the limit')
            largest = max(largest, differences[-1])
    return largest


def _compared(
    net: nn.Module, other: nn.Module, lq: Tensor, limit: float, coarse: Callable[[Tensor], Tensor] | None
) -> tuple[float, bool]:
    """The largest difference at a picture, and whether it is allowed."""
    one = net(lq)
    difference = _difference(one, other(lq), limit)
    if difference > limit and coarse is not None:
        limit = 2 * _difference(one, coarse(lq), limit)
    return difference, difference <= limit


def _difference(one: Tensor, two: Tensor, limit: float) -> float:
    if limit > LIMIT['float32']:
        one, two = one.clamp(0, 1), two.clamp(0, 1)
    return float((one - two).abs().max())


def _picture(size: tuple[int, ...], seed: int, kind: str) -> Tensor:
    """Values in [0, 1]: noise, noise of cells of 8 pixels that passes softly from one to the next, or all the same."""
    generator = torch.Generator().manual_seed(seed)
    if kind == 'flat':  # no site is active
        return torch.full(size, 0.25 * (seed + 1))
    if kind == 'noise':
        return torch.rand(size, generator=generator)
    batch, channels, height, width = size
    cells = torch.rand(batch, channels, height // 8 + 2, width // 8 + 2, generator=generator)
    return F.interpolate(cells, scale_factor=8, mode='bicubic')[..., :height, :width].clamp(0, 1)
