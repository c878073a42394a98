"""Writing pictures, each kind of file with all that it can hold."""

from __future__ import annotations

import io
import math
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin
from tifffile import imwrite

from iafmsr.errors import UserError
from iafmsr.files.kinds import KINDS
from iafmsr.files.metadata import EXIF_FOLDERS, EXIF_TEXTS, as_bytes, parsed_exif, with_resolution
from iafmsr.files.names import printable
from iafmsr.files.picture import Picture, profile_of_rgb
from iafmsr.files.whole import write_whole

__all__ = ['QUALITY', 'check_kind', 'write']

QUALITY = 95
_PROFILE = 34675  # tag of TIFF
_LONGEST_EXIF = 65527  # bytes, in JPEG


def check_kind(path: Path, picture: Picture, scale: Fraction | int = 1) -> None:
    """Whether a kind of file can hold a picture at a scale; known before hours of work.

    Raises:
        UserError: it cannot; the message says what can.
    """
    suffix, name = path.suffix.lower(), printable(path)
    if suffix not in KINDS:
        raise UserError(f'{name}: this kind of file cannot be written; use one of {" ".join(KINDS)}')
    kind, (height, width) = KINDS[suffix], (math.ceil(scale * side) for side in picture.colour.shape[:2])
    if max(height, width) > kind.longest:
        raise UserError(f'{name}: {suffix} cannot hold {width}x{height} pixels; .png can')
    if picture.alpha is not None and not kind.alpha:
        raise UserError(f'{name}: {suffix} cannot hold transparency; use one of {_with("alpha")}')
    if picture.colour.dtype == np.uint16 and not kind.deep:
        raise UserError(f'{name}: {suffix} cannot hold 16 bits, which the picture has; use one of {_with("deep")}')


def write(picture: Picture, path: Path, quality: int = QUALITY) -> None:
    """Write a picture as a whole file or not at all.

    Args:
        picture: any. Its profile, EXIF and resolution are kept in each kind of file that can hold them.
        path: its suffix, one of :data:`~iafmsr.files.kinds.KINDS`, says the kind.
        quality: of JPEG and WebP, 1 to 100. JPEG keeps the full resolution of its colours.

    Raises:
        UserError: that kind of file cannot hold the picture, or the file cannot be written.
    """
    check_kind(path, picture)
    kind = KINDS[path.suffix.lower()].name
    try:
        if kind == 'TIFF':
            content = _as_tiff(picture)
        elif picture.colour.dtype == np.uint16:
            content = _as_deep_png(picture)
        else:
            content = _by_pillow(picture, kind, quality)
    except (ValueError, OSError, cv2.error, struct.error) as error:
        raise UserError(f'{printable(path)}: cannot be encoded ({str(error).partition(chr(10))[0]})') from None
    write_whole(path, content)


def _with(ability: str) -> str:
    return ' '.join(suffix for suffix, kind in KINDS.items() if getattr(kind, ability))


def _pixels(picture: Picture) -> np.ndarray:
    """(H, W), or (H, W, 2 to 4) with alpha last."""
    pixels = picture.colour if picture.alpha is None else np.concatenate([picture.colour, picture.alpha], axis=2)
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _by_pillow(picture: Picture, kind: str, quality: int) -> bytes:
    options: dict[str, Any] = {
        'PNG': {'compress_level': 1},
        'JPEG': {'quality': quality, 'subsampling': 0},
        'WEBP': {'quality': quality},
        'BMP': {},
    }[kind]
    exif, profile = picture.exif, picture.profile
    if kind == 'WEBP':  # it has no gray, and no field for the resolution
        exif, profile = with_resolution(exif, picture.dpi), profile_of_rgb(picture)
    if profile:
        options['icc_profile'] = profile
    if exif and (kind != 'JPEG' or len(exif) <= _LONGEST_EXIF):
        options['exif'] = b'Exif\0\0' + exif
    if picture.dpi:
        options['dpi'] = picture.dpi
    buffer = io.BytesIO()
    Image.fromarray(_pixels(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def _as_deep_png(picture: Picture) -> bytes:
    """By OpenCV, since Pillow shortens 16 bits; of gray with alpha it makes RGB with alpha."""
    colour, profile = picture.colour, picture.profile
    if picture.alpha is not None and colour.shape[2] == 1:
        colour, profile = colour.repeat(3, 2), profile_of_rgb(picture)
    pixels = colour[..., ::-1] if picture.alpha is None else np.concatenate([colour[..., ::-1], picture.alpha], axis=2)
    done, encoded = cv2.imencode('.png', np.ascontiguousarray(pixels))
    if not done:
        raise ValueError(f'{colour.shape[1]}x{colour.shape[0]} pixels of 16 bits')
    content, head = encoded.tobytes(), 33  # bytes: the signature and the first chunk
    chunks = []  # by hand: OpenCV 4 writes none of them
    if profile:
        chunks.append(b'iCCPICC profile\0\0' + zlib.compress(profile))
    if picture.dpi is not None:
        chunks.append(b'pHYs' + struct.pack('>IIB', *(round(value / 0.0254) for value in picture.dpi), 1))  # a metre
    if picture.exif:
        chunks.append(b'eXIf' + picture.exif)
    framed = [struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) for chunk in chunks]
    return b''.join((content[:head], *framed, content[head:]))


def _as_tiff(picture: Picture) -> bytes:
    """By tifffile, with Deflate; EXIF's folders are appended, and their places entered."""
    exif = parsed_exif(picture.exif)
    folders = {tag: folder for tag in EXIF_FOLDERS if (folder := exif.get_ifd(tag))}
    texts = [(tag, 's', 0, as_bytes(exif[tag]), True) for tag in EXIF_TEXTS if isinstance(exif.get(tag), str)]
    # as a tag: older versions of tifffile have no argument for it
    profile = [(_PROFILE, 7, len(picture.profile), picture.profile, True)] if picture.profile else []
    buffer = io.BytesIO()
    imwrite(
        buffer,
        _pixels(picture),
        byteorder='<',
        metadata=None,
        software=False,
        photometric='rgb' if picture.colour.shape[2] == 3 else 'minisblack',
        planarconfig='contig',
        extrasamples=None if picture.alpha is None else ['unassalpha'],
        compression='adobe_deflate',
        predictor=True,
        resolution=picture.dpi,
        resolutionunit='INCH' if picture.dpi else None,
        extratags=texts + profile + [(tag - 1, 'I', 1, 0, True) for tag in folders],
    )
    if buffer.getbuffer()[2] == 42:  # the form of more than 4 GB has longer entries
        for tag, folder in folders.items():
            _append_folder(buffer, tag, folder)
    return buffer.getvalue()


def _append_folder(buffer: io.BytesIO, tag: int, folder: dict[int, Any]) -> None:
    """Write a folder of EXIF behind a TIFF, and its place into an entry that stands where its own belongs.

    tifffile writes no entry of these tags: it was given that of the number before.
    """
    end = buffer.seek(0, io.SEEK_END)
    place = end + buffer.write(b'\0' * (end % 2))
    entries = TiffImagePlugin.ImageFileDirectory_v2(b'II*\0\0\0\0\0')
    entries.update(folder)
    buffer.write(entries.tobytes(place))
    with buffer.getbuffer() as content:
        (first,) = struct.unpack_from('<I', content, 4)
        (count,) = struct.unpack_from('<H', content, first)
        # an entry: tag, type and count in 8 bytes, then the value
        entry = next(
            entry
            for entry in range(first + 2, first + 2 + 12 * count, 12)
            if struct.unpack_from('<H', content, entry) == (tag - 1,)
        )
        struct.pack_into('<H', content, entry, tag)
        struct.pack_into('<I', content, entry + 8, place)
