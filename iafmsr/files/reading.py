"""Reading pictures: the one reader of this project, and the one way of reading sizes."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from iafmsr.errors import without_warnings
from iafmsr.files import tiff
from iafmsr.files.metadata import dpi_of, exif_of, is_plain_png, orientation_of
from iafmsr.files.opening import opened, reasons
from iafmsr.files.picture import Picture, UnreadableError, as_rgb, as_rgb8, as_tensor, turned
from iafmsr.files.pillow import SIXTEEN_BIT_MODES, picture_of, pixels_of

__all__ = ['is_deep', 'picture_size', 'read', 'read_levels', 'read_picture', 'read_rgb8']

_TRANSPOSED = {5, 6, 7, 8}
# What is wrong with a file is said in a line of ours. OpenCV 5 has the first name, OpenCV 4 the second.
(cv2.utils.logging if hasattr(cv2.utils, 'logging') else cv2).setLogLevel(0)


def read(source: Path | bytes) -> Picture:
    """Read whatever Pillow, tifffile or OpenCV reads, with all of its bits, as it is shown.

    Pillow, which notices a file that is cut short, comes first, but for TIFF (:mod:`iafmsr.files.tiff`). OpenCV reads
    what Pillow does not know, and 16-bit colour, which Pillow would shorten. Palettes become RGB; so does CMYK, by its
    profile where the file has one. Of several frames the first one counts.

    Args:
        source: a file, or the content of one.

    Raises:
        UnreadableError: the file cannot be read, is empty, cut short or no picture, or its pixels are not integers of
            8 or 16 bits.
    """
    with reasons(), opened(source) as file, without_warnings():
        if tiff.is_tiff(file):
            return tiff.read_tiff(file, _by_pillow, _by_opencv)
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            if not file.seek(0, os.SEEK_END):
                raise UnreadableError('empty file') from None
            return picture_of(_by_opencv(file, 'not a picture'))
        with image:
            return _of_image(file, image)


def read_picture(path: Path) -> Tensor:
    """Read a picture as 8-bit RGB, as it is shown; see :func:`read` and :func:`~iafmsr.files.picture.as_rgb8`.

    Returns:
        uint8 ``(3, H, W)``, RGB.

    Raises:
        UnreadableError: The file is no whole picture, or has no meaning as 8-bit RGB.
    """
    return as_tensor(as_rgb8(read(path)))


def read_rgb8(content: bytes) -> np.ndarray:
    """:func:`read_picture` of a file's content: uint8 ``(H, W, 3)``, RGB.

    Plain PNGs, which training sets are made of, are decoded by OpenCV in three quarters of Pillow's time.

    Raises:
        UnreadableError: as there.
    """
    # no colour that stands for transparency: nothing to choose
    if is_plain_png(content[:26]) and b'tRNS' not in content[: content.find(b'IDAT')]:
        with suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            if pixels is not None:
                return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels)
    return np.require(as_rgb8(read(content)).colour, requirements=['C', 'W'])


def read_levels(source: Path | bytes) -> np.ndarray:
    """A picture with all of its bits: float32 ``(H, W, 3)``, RGB in [0, 255]; of 16 bits, 257 steps are one level.

    Raises:
        UnreadableError: as :func:`read_picture`.
    """
    colour = as_rgb(read(source)).colour
    return colour.astype(np.float32) / (257 if colour.dtype == np.uint16 else 1)


def is_deep(path: Path) -> bool:
    """Whether a picture has 16 bits a channel, by its header.

    Raises:
        UnreadableError: The file has no header of a picture.
    """
    with reasons(), opened(path) as file, without_warnings():
        if tiff.is_tiff(file):
            return tiff.is_deep(file)
        with Image.open(file) as image:
            return image.mode in SIXTEEN_BIT_MODES or _shortened(image)


def picture_size(path: Path, whole: bool = False) -> tuple[int, int]:
    """``(height, width)`` as shown, from the header alone.

    Args:
        path: the file.
        whole: look also whether the file ends as its format should; where it does not, all of it is decoded.

    Raises:
        UnreadableError: The file has no header of a picture, or is not whole.
    """
    with reasons(), opened(path) as file, without_warnings():
        if tiff.is_tiff(file):
            return tiff.tiff_size(file)
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            empty = not file.seek(0, os.SEEK_END)
            raise UnreadableError('empty file' if empty else 'not a picture') from None
        with image:
            width, height = image.size
            transposed = orientation_of(file, image) in _TRANSPOSED
            if whole and not _ends_well(file, image.format):
                image.load()
    return (width, height) if transposed else (height, width)


# -- files ------------------------------------------------------------------------------------------------------------
def _ends_well(file: BinaryIO, kind: str | None) -> bool:
    mark = {'PNG': b'IEND', 'JPEG': b'\xff\xd9'}.get(kind or '', b'')
    file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
    return bool(mark) and mark in file.read()


# -- pixels -----------------------------------------------------------------------------------------------------------
def _of_image(file: BinaryIO, image: ImageFile.ImageFile) -> Picture:
    by_opencv, gray = _shortened(image) or image.mode in ('I', 'F'), image.mode == 'LA'
    image.load()
    orientation = orientation_of(file, image)
    if by_opencv:
        pixels = _by_opencv(file, 'its pixels cannot be read as whole numbers of 8 or 16 bits')
        pixels = pixels[..., [0, 3]] if gray and pixels.shape[2:] == (4,) else pixels  # OpenCV has no gray with alpha
    else:
        pixels = pixels_of(image)
    return picture_of(
        turned(pixels, orientation),
        exif=exif_of(image),
        frames=getattr(image, 'n_frames', 1),
        profile=image.info.get('icc_profile') or b'' if image.mode != 'CMYK' else b'',
        dpi=dpi_of(image),
    )


def _shortened(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow makes 8 bits of 16, by its decoder's name for the pixels in the file."""
    if image.mode in SIXTEEN_BIT_MODES:
        return False
    return bool(re.search(r';16|, 65535', str([tile[3] for tile in image.tile])))


def _by_pillow(file: BinaryIO) -> np.ndarray:
    """A TIFF's pixels, which Pillow turns by itself."""
    file.seek(0)
    with Image.open(file) as image:
        image.load()
        return pixels_of(image)


def _by_opencv(file: BinaryIO, refusal: str) -> np.ndarray:
    content = file.getvalue() if isinstance(file, io.BytesIO) else np.memmap(file, np.uint8, 'r')
    try:  # by content: a name that is not UTF-8 crashes imread
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(refusal)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return pixels
