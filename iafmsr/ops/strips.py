"""A picture computed strip by strip: what lies between two steps of a network stays in the processor's cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_POSITIONS = 64 * 320  # of a strip, at most; from 32 to 92 rows of 320 the time is the same within 5 % (docs/speed.md)


class Part(NamedTuple):
    """A strip of one picture, or the whole batch."""

    pictures: slice = slice(None)
    rows: slice = slice(None)

    def of(self, x: Tensor) -> Tensor:
        """This part of x (B, C, H, W), as a view."""
        return x[self.pictures, :, self.rows]

    @property
    def first_row(self) -> int:
        return self.rows.start or 0


class Pending(ABC):
    """A result of a step that is not computed yet: where it belongs it is written at once, without a copy."""

    @abstractmethod
    def tensor(self) -> Tensor:
        """The result, (B, C, H, W)."""

    @abstractmethod
    def write(self, target: Tensor, rows: slice) -> None:
        """Some rows of the result, which is of one picture, into ``target`` (C, rows, W)."""

    @abstractmethod
    def room(self, batch: int, height: int) -> Tensor:
        """An empty tensor (batch, C, height, W) for the whole that the result is a strip of."""


class Sum(Pending):
    """a + b, or a + b factor."""

    def __init__(self, a: Tensor, b: Tensor, factor: Tensor | None = None) -> None:
        self.a, self.b, self.factor = a, b, factor

    def tensor(self) -> Tensor:
        if self.factor is None:
            return self.a + self.b
        if torch.is_grad_enabled():  # the gradient of addcmul takes two passes over memory more
            return self.a + self.b * self.factor
        return torch.addcmul(self.a, self.b, self.factor)

    def write(self, target: Tensor, rows: slice) -> None:
        add = torch.add if self.factor is None else torch.addcmul
        add(*(x[0, :, rows] for x in (self.a, self.b, self.factor) if x is not None), out=target)

    def room(self, batch: int, height: int) -> Tensor:
        return room_for(self.a, batch, height)


class Shuffled(Pending):
    """Pixel shuffle: x (B, C s^2, H, W) -> (B, C, s H, s W)."""

    def __init__(self, x: Tensor, scale: int) -> None:
        self.x, self.scale = x, scale

    def tensor(self) -> Tensor:
        if torch.is_grad_enabled() and self.x.is_contiguous(memory_format=torch.channels_last):
            # so the gradient, too, comes in the layout of x
            x = self.x.permute(0, 2, 3, 1).unflatten(3, (-1, self.scale, self.scale))
            return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        return F.pixel_shuffle(self.x.contiguous(), self.scale)

    def write(self, target: Tensor, rows: slice) -> None:
        s, x = self.scale, self.x[0, :, rows.start // self.scale:rows.stop // self.scale]
        target = target.unflatten(2, (-1, s)).unflatten(1, (-1, s))
        target.copy_(x.unflatten(0, (-1, s, s)).permute(0, 3, 1, 4, 2))

    def room(self, batch: int, height: int) -> Tensor:
        return self.x.new_empty(batch, self.x.shape[1] // self.scale ** 2, height, self.x.shape[3] * self.scale)


def by_strips(step: Callable[[Part], tuple[Tensor | Pending, ...]], like: Tensor, reach: int, scale: int = 1,
              into: tuple[Tensor | None, ...] = ()) -> tuple[Tensor, ...]:
    """Results of a step that looks no further than some rows, in one piece or strip by strip: equal up to rounding.

    In one piece wherever that is the better way: with gradients, on other devices than the CPU, when traced, and where
    the picture is no larger than a strip.

    Args:
        step: from a part to its results, (b, C', scale * rows, scale * W) each.
        like (Tensor): (B, C, H, W), the size of what is computed, on its device.
        reach (int): how many rows up and down a row of a result depends on.
        scale (int): rows of the results for one of ``like``.
        into: for each result a tensor that it may overwrite, if it comes in strips: one that ``step`` reads will do.

    Returns:
        tuple[Tensor, ...]: the results for the whole, (B, C', scale * H, scale * W).
    """
    b, _, h, w = like.shape
    if not in_strips(like):
        return tuple(found.tensor() if isinstance(found, Pending) else found for found in step(Part()))
    strips = -(-h * w // _POSITIONS)
    bounds = [h * i // strips for i in range(strips + 1)]
    results: tuple[Tensor, ...] = ()
    waiting = None  # a strip is written when the next one has read its border
    for picture in range(b):
        for start, stop in zip(bounds, bounds[1:], strict=False):
            first = max(0, start - reach)
            pieces = step(Part(slice(picture, picture + 1), slice(first, min(h, stop + reach))))
            results = results or tuple(_whole(piece, b, scale * h) if given is None else given
                                       for piece, given in zip(pieces, into or [None] * len(pieces), strict=True))
            if waiting:
                _write(results, *waiting)
            inner = slice(scale * (start - first), scale * (stop - first))
            waiting = pieces, inner, picture, slice(scale * start, scale * stop)
    _write(results, *waiting)
    return results


def in_strips(like: Tensor) -> bool:
    """Whether :func:`by_strips` computes a map like this (B, C, H, W) strip by strip."""
    b, _, h, w = like.shape
    return not (torch.is_grad_enabled() or like.device.type != 'cpu' or torch.compiler.is_compiling()
                or b * h * w <= _POSITIONS)


def spent(x: Tensor) -> Tensor | None:
    """x as the place for a result (``out=``), where no gradient needs it any more; else None."""
    return None if torch.is_grad_enabled() or torch.compiler.is_compiling() else x


def room_for(piece: Tensor, batch: int, height: int, channels: int | None = None, dtype: torch.dtype | None = None
             ) -> Tensor:
    """An empty tensor for the whole that ``piece`` is a strip of, in its layout; its channels and type, or others."""
    layout = torch.contiguous_format if piece.is_contiguous() else torch.channels_last
    return torch.empty((batch, channels or piece.shape[1], height, piece.shape[3]), dtype=dtype or piece.dtype,
                       memory_format=layout)


def _write(results: tuple[Tensor, ...], pieces: tuple[Tensor | Pending, ...], inner: slice, picture: int, rows: slice
           ) -> None:
    for result, piece in zip(results, pieces, strict=True):
        target = result[picture, :, rows]
        if isinstance(piece, Pending):
            piece.write(target, inner)
        else:
            target.copy_(piece[0, :, inner])


def _whole(piece: Tensor | Pending, batch: int, height: int) -> Tensor:
    return piece.room(batch, height) if isinstance(piece, Pending) else room_for(piece, batch, height)
