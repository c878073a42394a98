"""A picture computed strip by strip: what lies between two steps of a network stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_POSITIONS = 64 * 320  # of a strip, at most; from 32 to 92 rows of 320 the time is the same within 5 % (docs/speed.md)


def by_strips(function: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Tensor, reach: int, scale: int = 1,
              into: Sequence[Tensor | None] = ()) -> Tensor | tuple[Tensor, ...]:
    """function(*inputs), strip by strip where that is the better way: equal up to rounding.

    In one piece with gradients, on other devices than the CPU, when traced, and where the pictures are no larger than a
    strip.

    Args:
        function: looks no further than some rows up and down.
        inputs: (B, C, H, W) each, with the same B, H and W.
        reach (int): how many rows up and down a row of a result depends on.
        scale (int): rows of the results for one of the inputs.
        into: for each result an input that is not needed any more: it may hold the result.

    Returns:
        what the function returns: one result or several, (B, C', scale * H, scale * W) each.
    """
    b, _, h, w = inputs[0].shape
    if torch.is_grad_enabled() or inputs[0].device.type != 'cpu' or torch.compiler.is_compiling() \
            or b * h * w <= _POSITIONS:
        return function(*inputs)
    strips = -(-h * w // _POSITIONS)
    bounds = [h * i // strips for i in range(strips + 1)]
    results: list[Tensor] = []
    waiting = None  # a strip is written when the next one has read its border
    for picture in range(b):
        for start, stop in zip(bounds, bounds[1:], strict=False):
            first = max(0, start - reach)
            found = function(*(x[picture:picture + 1, :, first:min(h, stop + reach)] for x in inputs))
            pieces = found if isinstance(found, tuple) else (found,)
            results = results or [_whole(piece, b, scale * h) if given is None else given
                                  for piece, given in zip(pieces, into or [None] * len(pieces), strict=True)]
            if waiting:
                _write(results, *waiting)
            waiting = pieces, scale * (start - first), picture, slice(scale * start, scale * stop)
    _write(results, *waiting)
    return tuple(results) if isinstance(found, tuple) else results[0]


def spent(x: Tensor) -> Tensor | None:
    """x as the place for a result (``out=``), where no gradient needs it any more; else None."""
    return None if torch.is_grad_enabled() or torch.compiler.is_compiling() else x


def _write(results: list[Tensor], pieces: tuple[Tensor, ...], skipped: int, picture: int, rows: slice) -> None:
    for result, piece in zip(results, pieces, strict=True):
        result[picture, :, rows].copy_(piece[0, :, skipped:skipped + rows.stop - rows.start])


def _whole(piece: Tensor, batch: int, height: int) -> Tensor:
    layout = torch.contiguous_format if piece.is_contiguous() else torch.channels_last
    return torch.empty((batch, piece.shape[1], height, piece.shape[3]), dtype=piece.dtype, memory_format=layout)
