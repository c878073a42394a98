"""The two forms in which pairs of HR and LR are kept: crops for training, whole pictures for validation."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.names import PictureFile
from iafmsr.ops.resize import at_scale
from iafmsr.tools.prepare.stores import FolderStore, LmdbStore, Store

__all__ = ['SCALES', 'Box', 'Form', 'Pieces', 'SubImages', 'WholePictures']

SCALES = (2, 3, 4)
# Crops lie on this grid whatever scales are asked for, so that one set of HR serves every scale.
_GRID = math.lcm(*SCALES)
_LONGEST_KEY = 511  # bytes, LMDB's limit

Box = tuple[int, int, int, int]  # top, left, height, width
Pieces = dict[int, list[tuple[str, Tensor]]]  # scale (1: HR) -> named pictures, uint8 (3, h, w)


@dataclass(frozen=True)
class SubImages:
    """Overlapping crops in LMDBs, for training: ``HR_sub.lmdb``, ``LR_bicubic_X4_sub.lmdb`` ...

    The last crop of each row and column is flush with the picture's border (on a grid of 12 pixels). In a direction in
    which a picture is smaller than a crop, the crops are as small as it.

    Args:
        crop_size: Side of an HR crop in pixels, a multiple of 12.
        step: From one crop to the next, a multiple of 12.
        min_size: Pictures with a smaller side are left out: no training patch (``gt_size``) could be cut from them.

    Raises:
        UserError: A value is not a positive multiple of 12, or ``min_size`` exceeds ``crop_size``.
    """

    crop_size: int = 480
    step: int = 240
    min_size: int = 256

    def __post_init__(self) -> None:
        for name, value in (('crop size', self.crop_size), ('step', self.step)):
            if value <= 0 or value % _GRID:
                raise UserError(f'{name} must be a positive multiple of {_GRID}, the grid of all scales, got {value}')
        if not _GRID <= self.min_size <= self.crop_size:
            raise UserError(f'min size must be from {_GRID} to the crop size {self.crop_size}, got {self.min_size}')

    def folder(self, scale: int) -> str:
        """Name of the set of a scale (1: HR)."""
        return 'HR_sub.lmdb' if scale == 1 else f'LR_bicubic_X{scale}_sub.lmdb'

    def open(self, path: Path) -> Store:
        """The store that keeps one set."""
        return LmdbStore(path)

    def objection(self, picture: PictureFile, height: int, width: int) -> str | None:
        """Why a picture is not used; None when it is."""
        if min(height, width) // _GRID * _GRID < self.min_size:
            return f'{width}x{height} is too small: cut to multiples of {_GRID}, a side is below {self.min_size} pixels'
        if len(_numbered(picture, len(self.boxes(height, width)))) > _LONGEST_KEY:
            return 'its name is too long for a key of an LMDB'
        return None

    def boxes(self, height: int, width: int) -> list[Box]:
        """Where the crops of a picture of this size lie, row by row."""
        crop_height, tops = self._starts(height)
        crop_width, lefts = self._starts(width)
        return [(top, left, crop_height, crop_width) for top in tops for left in lefts]

    def first_name(self, picture: PictureFile, scale: int) -> str:
        """Name of a picture's first piece in the set of a scale: a set that has it has the picture."""
        return _numbered(picture, 1)

    def cut(self, picture: PictureFile, hr: Tensor, scales: Iterable[int]) -> Pieces:
        """The crops of one picture, uint8 ``(3, H, W)``, at each scale (1: HR)."""
        boxes = self.boxes(*hr.shape[-2:])
        return {
            scale: [(_numbered(picture, n), _crop(image, box, scale)) for n, box in enumerate(boxes, 1)]
            for scale, image in ((scale, at_scale(hr, scale)) for scale in scales)
        }

    def _starts(self, size: int) -> tuple[int, list[int]]:
        """Length of the crops along one side, and where they start."""
        size -= size % _GRID
        crop = min(self.crop_size, size)
        starts = list(range(0, size - crop + 1, self.step))
        if starts[-1] < size - crop:
            starts.append(size - crop)
        return crop, starts


@dataclass(frozen=True)
class WholePictures:
    """Whole pictures as PNG files, laid out as the benchmarks are: ``HR/a.png``, ``LR_bicubic/X4/ax4.png`` ...

    HR keeps the last rows and columns that LR has no part of, as the benchmarks do; BasicSR cuts them in validation.
    """

    def folder(self, scale: int) -> str:
        """Name of the set of a scale (1: HR)."""
        return 'HR' if scale == 1 else f'LR_bicubic/X{scale}'

    def open(self, path: Path) -> Store:
        """The store that keeps one set."""
        return FolderStore(path)

    def objection(self, picture: PictureFile, height: int, width: int) -> str | None:
        """Why a picture is not used; None when it is."""
        return f'{width}x{height} is too small for LR' if min(height, width) < max(SCALES) else None

    def boxes(self, height: int, width: int) -> list[Box]:
        """One box: the picture."""
        return [(0, 0, height, width)]

    def first_name(self, picture: PictureFile, scale: int) -> str:
        """Name of a picture's only piece in the set of a scale."""
        return picture.path.stem if scale == 1 else f'{picture.path.stem}x{scale}'

    def cut(self, picture: PictureFile, hr: Tensor, scales: Iterable[int]) -> Pieces:
        """The picture, uint8 ``(3, H, W)``, at each scale (1: HR)."""
        return {scale: [(self.first_name(picture, scale), at_scale(hr, scale))] for scale in scales}


Form = SubImages | WholePictures


def _numbered(picture: PictureFile, number: int) -> str:
    return f'{picture.key}_s{number:03d}'


def _crop(image: Tensor, box: Box, scale: int) -> Tensor:
    top, left, height, width = (side // scale for side in box)
    return image[:, top : top + height, left : left + width]
