"""Upscaling in tiles whose result is that of the whole picture.

What an IAFMNet does at a place is decided by its surroundings, but for two maps: the mask of the active sites is the
top k of the whole picture, and some forms of the guiding map are relative to its mean. A first pass computes those, in
tiles of a fixed size, so that all runs share them. Then each tile is computed with a margin as wide as the net's reach,
and cut on the 8x8 grid of its pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.layers.igra import POOL_SIZE
from iafmsr.nets.trained import TrainedNet, to_gray

__all__ = ['DEFAULT_TILE', 'Enlarger', 'in_tiles', 'is_exact', 'margin']

DEFAULT_TILE = 1024
# of the first pass: small enough never to be what memory has to suffice for; a value of the map sees 4 pixels around it
_MAP_TILE, _MAP_MARGIN = 256, POOL_SIZE
_INEXACT_MARGIN = 32  # for nets that look at the whole picture anyway
Emit = Callable[[slice, slice, np.ndarray], None]
Tile = tuple[slice, slice, slice, slice]


def is_exact(trained: TrainedNet) -> bool:
    """Whether tiles of the net make what the whole picture makes."""
    return hasattr(trained.net, 'local_map')


def margin(trained: TrainedNet) -> int:
    """How much is computed around a tile, in pixels, a multiple of 8."""
    net: Any = trained.net
    return net.margin if is_exact(trained) else _INEXACT_MARGIN


def in_tiles(net: nn.Module, lq: Tensor, scale: int, tile: int) -> Tensor:
    """What a net makes of a picture in evaluation mode, in tiles of ``tile`` LR pixels.

    Args:
        net: on the picture's device; left in the mode that it is in.
        lq: (1, channels of the net, H, W) in [0, 1].
        scale: of the net.
        tile: side of the tiles, without margin.

    Returns:
        Tensor: (1, channels, sH, sW) in [0, 1], on the CPU.
    """
    was_training = net.training
    trained = TrainedNet(net.eval(), type(net).__name__, scale, lq.shape[1])
    sr = Enlarger(trained, lq.device)(lq[0].permute(1, 2, 0).cpu().numpy(), tile)
    net.train(was_training)
    return torch.from_numpy(sr).permute(2, 0, 1)[None]


class Enlarger:
    """Enlarges planes of pixels by a net, in tiles.

    Args:
        trained: the net, already on its device.
        device: where it computes.
        dtype: float32, or bfloat16 or float16 for autocast.
    """

    def __init__(self, trained: TrainedNet, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.trained, self.device, self.dtype = trained, device, dtype

    def reserve(self, pixels: np.ndarray, ensemble: bool = False) -> np.ndarray:
        """The array that a result goes into.

        Raises:
            UserError: memory does not suffice; the message says how much is wanted.
        """
        (height, width, channels), scale = pixels.shape, self.trained.scale
        size, kind = (scale * height, scale * width, channels), np.dtype(np.float32 if ensemble else pixels.dtype)
        try:
            return np.zeros(size, kind)
        except MemoryError:
            raise UserError(
                f'out of memory: a result of {size[1]}x{size[0]} pixels takes '
                f'{math.prod(size) * kind.itemsize / 1e9:.1f} GB'
            ) from None

    @torch.inference_mode()
    def __call__(
        self,
        pixels: np.ndarray,
        tile: int,
        ensemble: bool = False,
        progress: Callable[[float], None] = lambda share: None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """The picture at the net's scale.

        Args:
            pixels: (H, W, 3) RGB or (H, W, 1) gray: uint8, uint16, or floating-point numbers in [0, 1].
            tile: side of the tiles in pixels, without margin; 0: the whole picture at once.
            ensemble: the mean over the eight flips and rotations of the picture.
            progress: is told the share of the work that a tile was.
            out: of :meth:`reserve`, whatever is in it; a new one where there is none.

        Returns:
            np.ndarray: (sH, sW, 3) or (sH, sW, 1), of the same kind.
        """
        channels = pixels.shape[2]
        if channels > self.trained.channels == 1:  # a net of gray pictures takes colours one by one
            planes = np.split(pixels, channels, axis=2)
            return np.concatenate(
                [self(plane, tile, ensemble, lambda share: progress(share / channels)) for plane in planes], axis=2
            )
        out = self.reserve(pixels, ensemble) if out is None else out
        if ensemble:
            return self._mean_of_turns(pixels, tile, progress, out)

        def put(rows: slice, cols: slice, values: np.ndarray) -> None:
            out[rows, cols] = _as_kind(values, pixels.dtype)

        self._tiles(pixels, tile, put, progress)
        return out

    def _mean_of_turns(
        self, pixels: np.ndarray, tile: int, progress: Callable[[float], None], out: np.ndarray
    ) -> np.ndarray:
        out.fill(0)
        for turned, target in zip(_turns(pixels), _turns(out), strict=True):

            def add(rows: slice, cols: slice, values: np.ndarray, target: np.ndarray = target) -> None:
                target[rows, cols] += values

            self._tiles(turned, tile, add, lambda share: progress(share / 8))
        out /= 8
        return _as_kind(out, pixels.dtype)

    def _tiles(self, pixels: np.ndarray, tile: int, emit: Emit, progress: Callable[[float], None]) -> None:
        height, width, channels = pixels.shape
        scale, around = self.trained.scale, margin(self.trained)
        tiles = list(_grid(height, width, tile, around))
        map_tiles = _map_tiles(height, width)
        # a picture that is one tile in both passes computes its maps by itself
        maps = self._maps(pixels, map_tiles) if is_exact(self.trained) and len(tiles) + len(map_tiles) > 2 else None
        for rows, cols, y, x in tiles:
            given = {} if maps is None else {'maps': tuple(whole[..., y, x] for whole in maps)}
            sr = self._run(self.trained.net, self._tensor(pixels[y, x]), **given)[0].clamp(0, 1)
            if channels == 1:
                sr = sr.mean(dim=0, keepdim=True)
            top, left = rows.start - y.start, cols.start - x.start
            sr = sr[
                :,
                scale * top : scale * (top + rows.stop - rows.start),
                scale * left : scale * (left + cols.stop - cols.start),
            ]
            emit(_scaled(rows, scale), _scaled(cols, scale), sr.permute(1, 2, 0).cpu().numpy())
            progress((rows.stop - rows.start) * (cols.stop - cols.start) / (height * width))

    @torch.inference_mode()
    def maps(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """The map and the mask (1, 1, H, W) of a whole picture (H, W, 3 or 1), of a net with :func:`is_exact`."""
        return self._maps(pixels, _map_tiles(*pixels.shape[:2]))

    def _maps(self, pixels: np.ndarray, tiles: list[Tile]) -> tuple[Tensor, Tensor]:
        net: Any = self.trained.net
        height, width = pixels.shape[:2]
        local_map = torch.empty(1, 1, height, width, device=self.device)
        for rows, cols, y, x in tiles:
            part = self._run(net.local_map, self._tensor(pixels[y, x]))
            top, left = rows.start - y.start, cols.start - x.start
            local_map[..., rows, cols] = part[
                ..., top : top + rows.stop - rows.start, left : left + cols.stop - cols.start
            ]
        idm, mask = net.maps(local_map, self._tensor(pixels))
        return idm, mask

    def _run(self, function: Callable[..., Tensor], lq: Tensor, **keywords: Any) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return function(lq, **keywords).float()

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        """(H, W, 3 or 1) -> (1, channels of the net, H, W) in [0, 1]."""
        values = torch.from_numpy(pixels.astype(np.float32)).to(self.device) / _peak(pixels.dtype)
        lq = values.permute(2, 0, 1)[None]
        return to_gray(lq) if lq.shape[1] > self.trained.channels else lq.expand(1, self.trained.channels, -1, -1)


def _map_tiles(height: int, width: int) -> list[Tile]:
    return list(_grid(height, width, _MAP_TILE if height * width > _MAP_TILE**2 else 0, _MAP_MARGIN))


def _grid(height: int, width: int, tile: int, around: int) -> Iterator[Tile]:
    """Rows and columns of each tile, then those of the tile with its margin."""
    for rows in _spans(height, tile):
        for cols in _spans(width, tile):
            yield rows, cols, _widened(rows, around, height), _widened(cols, around, width)


def _spans(length: int, side: int) -> list[slice]:
    """Cut into as few parts of at most ``side`` as there can be, equal ones, on the pooling grid."""
    count = -(-length // side) if side else 1
    step = -(-length // (count * POOL_SIZE)) * POOL_SIZE
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _widened(span: slice, around: int, length: int) -> slice:
    return slice(max(0, span.start - around), min(length, span.stop + around))


def _scaled(span: slice, scale: int) -> slice:
    return slice(scale * span.start, scale * span.stop)


def _turns(pixels: np.ndarray) -> list[np.ndarray]:
    """The eight flips and rotations, as views: what is written into them is written into the array."""
    flipped = [pixels[::down, ::right] for down in (1, -1) for right in (1, -1)]
    return flipped + [view.swapaxes(0, 1) for view in flipped]


def _peak(kind: np.dtype) -> int:
    """The value of white."""
    return int(np.iinfo(kind).max) if np.issubdtype(kind, np.integer) else 1


def _as_kind(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """[0, 1] -> values of a kind of pixels; those given are overwritten."""
    if np.issubdtype(kind, np.integer):
        values *= _peak(kind)
        values = np.rint(values, out=values)
    return values.astype(kind)
