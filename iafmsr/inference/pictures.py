"""Pictures as they are kept: colour or gray, alpha, 8 or 16 bits, colour profile and EXIF; read from and written to
files."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from iafmsr.benchmark.files import write_whole
from iafmsr.data.pictures import UnreadableError, printable
from iafmsr.errors import UserError

__all__ = ['WRITABLE', 'Picture', 'read', 'write']

# kind of file -> what OpenCV is to be told; JPEG without the halved chroma of its default
WRITABLE = {
    '.png': [], '.tif': [], '.tiff': [], '.bmp': [],
    '.jpg': (jpeg := [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                      cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]), '.jpeg': jpeg,
    '.webp': [cv2.IMWRITE_WEBP_QUALITY, 95],
}
_WITH_METADATA, _WITH_ALPHA, _SIXTEEN_BIT = ('.png', '.jpg', '.jpeg', '.webp'), ('.png', '.tif', '.tiff', '.webp'), (
    '.png', '.tif', '.tiff')
_ORIENTATION = 0x0112
_SIXTEEN_BIT_MODES = {'I;16', 'I;16L', 'I;16B', 'I;16N'}
_BY_PILLOW = {'1': 'L', 'L': 'L', 'LA': 'LA', 'La': 'LA', 'RGB': 'RGB', 'RGBX': 'RGB', 'RGBA': 'RGBA', 'RGBa': 'RGBA',
              'CMYK': 'RGB', 'YCbCr': 'RGB', 'LAB': 'RGB', 'HSV': 'RGB', 'PA': 'RGBA'}

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong with a file is said in a line of ours


@dataclass(frozen=True)
class Picture:
    """A picture, the right way up.

    Attributes:
        colour (np.ndarray): uint8 or uint16, (H, W, 3) RGB or (H, W, 1) gray.
        alpha (np.ndarray | None): (H, W, 1), of the same kind.
        profile (bytes): ICC profile of the colours; empty where the file had none.
        exif (bytes): without the orientation, which the pixels have; empty where the file had none.
        frames (int): of the file; this is the first.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes = b''
    exif: bytes = b''
    frames: int = 1


def read(path: Path) -> Picture:
    """Read whatever Pillow or OpenCV reads, with all of its bits.

    Pillow, which notices a file that is cut short, comes first. OpenCV reads what Pillow does not know, and 16-bit
    colour, which Pillow would shorten. Palettes become RGB; so do CMYK (without colour management) and the like.

    Raises:
        UnreadableError: the file cannot be read, is empty, cut short or no picture, or its pixels are not integers of
            8 or 16 bits.
    """
    if path.exists() and not path.is_file():
        raise UnreadableError('not a file')  # but a device, which may never end
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(path) as image:
            return _read_opened(path, image)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        if path.stat().st_size == 0:
            raise UnreadableError('empty file') from None
        return Picture(**_planes(_by_opencv(path, 'not a picture')))
    except OSError as error:
        raise UnreadableError(f'cannot be read ({error.strerror or error})') from None
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise UnreadableError(f'cannot be decoded ({error})') from None


def write(picture: Picture, path: Path) -> None:
    """Write a picture as a whole file or not at all.

    Raises:
        UserError: that kind of file cannot hold the picture, or the file cannot be written.
    """
    kind, name = path.suffix.lower(), printable(path)
    colour, alpha = picture.colour, picture.alpha
    if kind not in WRITABLE:
        raise UserError(f'{name}: no kind of file that is written; known: {" ".join(WRITABLE)}')
    if alpha is not None and kind not in _WITH_ALPHA:
        raise UserError(f'{name}: {kind} holds no transparency; known to hold it: {" ".join(_WITH_ALPHA)}')
    if colour.dtype == np.uint16 and kind not in _SIXTEEN_BIT:
        raise UserError(f'{name}: {kind} holds 8 bits, the picture has 16; known to hold them: '
                        f'{" ".join(_SIXTEEN_BIT)}')
    if alpha is not None:  # of gray with alpha no OpenCV encoder knows
        colour = np.concatenate([*[colour[..., ::-1]] * (3 // colour.shape[2]), alpha], axis=2)
    elif colour.shape[2] == 3:
        colour = colour[..., ::-1]
    profile = picture.profile if alpha is None or picture.colour.shape[2] == 3 else b''  # a profile of gray
    metadata = {cv2.IMAGE_METADATA_EXIF: picture.exif, cv2.IMAGE_METADATA_ICCP: profile}
    metadata = {key: np.frombuffer(value, np.uint8) for key, value in metadata.items()
                if value and kind in _WITH_METADATA}
    try:
        done, content = cv2.imencodeWithMetadata(kind, np.ascontiguousarray(colour), list(metadata),
                                                 list(metadata.values()), WRITABLE[kind])
    except cv2.error:
        done = False
    if not done:  # a side longer than the format allows
        raise UserError(f'{name}: {kind} cannot hold {colour.shape[1]}x{colour.shape[0]} pixels; .png can')
    write_whole(path, memoryview(content))


def _read_opened(path: Path, image: Image.Image) -> Picture:
    # the decoder's name for the pixels in the file; the mode is what Pillow makes of them
    deep = image.mode not in _SIXTEEN_BIT_MODES and re.search(r';16|, 65535', str([tile[3] for tile in image.tile]))
    by_opencv = deep or image.mode in ('I', 'F')
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    if by_opencv:
        pixels = _by_opencv(path, 'its pixels cannot be read as whole numbers of 8 or 16 bits')
        orientation = 1 if image.format == 'TIFF' else orientation  # TIFF has been turned by OpenCV
    else:
        orientation = image.getexif().get(_ORIENTATION, 1)  # TIFF has been turned by Pillow
        pixels = np.asarray(image.convert(_mode(image))) if image.mode not in _SIXTEEN_BIT_MODES else (
            np.asarray(image).astype(np.uint16))
    return Picture(**_planes(_turned(pixels, orientation)), exif=_exif(image), frames=getattr(image, 'n_frames', 1),
                   profile=image.info.get('icc_profile') or b'' if image.mode != 'CMYK' else b'')


def _exif(image: Image.Image) -> bytes:
    if 'exif' in image.info:
        with suppress(Exception):  # of a broken EXIF nothing is kept
            kept = image.getexif()
            kept.pop(_ORIENTATION, None)
            return kept.tobytes().removeprefix(b'Exif\0\0')
    return b''


def _mode(image: Image.Image) -> str:
    if 'transparency' in image.info and image.mode in ('1', 'L', 'RGB', 'P'):
        return 'LA' if image.mode in ('1', 'L') else 'RGBA'
    if image.mode == 'P':
        return 'RGB'
    if image.mode not in _BY_PILLOW:
        raise UnreadableError(f'pixels of kind {image.mode}, not of 8 or 16 bits')
    return _BY_PILLOW[image.mode]


def _by_opencv(path: Path, refusal: str) -> np.ndarray:
    try:  # by content: a name that is not UTF-8 crashes imread
        pixels = cv2.imdecode(np.memmap(path, np.uint8, 'r'), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(refusal)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return pixels


def _planes(pixels: np.ndarray) -> dict[str, np.ndarray | None]:
    """(H, W), or (H, W, 1 to 4) with alpha at the end of an even number of channels."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] % 2:
        return {'colour': pixels, 'alpha': None}
    return {'colour': pixels[..., :-1], 'alpha': pixels[..., -1:]}


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they are shown under an orientation of EXIF."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
