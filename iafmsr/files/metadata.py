"""What lies in a picture file beside its pixels: orientation, EXIF, resolution."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image

__all__ = [
    'EXIF_FOLDERS',
    'EXIF_TEXTS',
    'ORIENTATION',
    'RESOLUTIONS',
    'RESOLUTION_UNIT',
    'as_bytes',
    'dpi_of',
    'encoded_exif',
    'exif_of',
    'is_plain_png',
    'orientation_of',
    'parsed_exif',
    'resolution',
    'with_resolution',
]

ORIENTATION, RESOLUTIONS, RESOLUTION_UNIT = 0x0112, (0x011A, 0x011B), 0x0128
EXIF_FOLDERS = (0x8769, 0x8825)  # the tags of the photograph, of the place
EXIF_TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description, make, model ... copyright
_INCHES = {2: 1.0, 3: 2.54}  # of a unit of resolution: inch, centimetre
_SIZES = (0xA002, 0xA003)  # the picture's width and height


def is_plain_png(head: bytes) -> bool:
    """Whether a file whose first 26 bytes are given is a PNG of 8 bits, gray or RGB."""
    return head[:8] == b'\x89PNG\r\n\x1a\n' and head[24:26] in (b'\x08\x00', b'\x08\x02')


def orientation_of(file: BinaryIO, image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, without decoding the picture."""
    if image.format == 'PNG' and 'exif' not in image.info:  # may stand behind the pixels; Pillow would decode them
        exif = _png_exif(file)
        return parsed_exif(exif).get(ORIENTATION, 1) if exif else 1
    return image.getexif().get(ORIENTATION, 1)


def exif_of(image: Image.Image) -> bytes:
    """The EXIF of a loaded picture, without orientation and size; empty where it has none or a broken one."""
    if 'exif' in image.info:
        with suppress(Exception):
            return encoded_exif(image.getexif())
    return b''


def encoded_exif(exif: Image.Exif) -> bytes:
    """EXIF without what a result does not have: the orientation, since its pixels are turned, and the size."""
    exif.pop(ORIENTATION, None)
    exif.update(
        {
            tag: {key: as_bytes(value) for key, value in exif.get_ifd(tag).items() if key not in _SIZES}
            for tag in EXIF_FOLDERS
            if tag in exif
        }
    )
    exif.update({tag: as_bytes(exif[tag]) for tag in EXIF_TEXTS if tag in exif})
    return exif.tobytes().removeprefix(b'Exif\0\0')


def as_bytes(value: Any) -> Any:
    """A text that Pillow read, as the bytes that stand in the file: it would write a question mark for an umlaut."""
    return value.encode('latin-1', 'replace') if isinstance(value, str) and not value.isascii() else value


def parsed_exif(content: bytes) -> Image.Exif:
    """EXIF of its bytes; empty where they are broken."""
    exif = Image.Exif()
    with suppress(Exception):
        exif.load(b'Exif\0\0' + content.removeprefix(b'Exif\0\0'))
        return exif
    return Image.Exif()


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Pixels an inch across and down, which a format has a field for, or else its EXIF."""
    exif = image.getexif() if 'exif' in image.info else {}
    return resolution(image.info.get('dpi'), 2) or resolution(
        tuple(exif.get(tag) for tag in RESOLUTIONS), exif.get(RESOLUTION_UNIT, 2)
    )


def resolution(values: Any, unit: int) -> tuple[float, float] | None:
    """Pixels an inch, of two numbers in TIFF's and EXIF's unit; None where they say nothing."""
    with suppress(TypeError, ValueError, KeyError, ZeroDivisionError):
        across, down = (_INCHES[unit] * float(value) for value in values)
        if 1 < across < 1e5 and 1 < down < 1e5:  # 0 and 1 stand where there is none
            return across, down
    return None


def with_resolution(content: bytes, dpi: tuple[float, float] | None) -> bytes:
    """EXIF that says the resolution, too."""
    if dpi is None:
        return content
    exif = parsed_exif(content)
    exif.update({**dict(zip(RESOLUTIONS, dpi, strict=True)), RESOLUTION_UNIT: 2})
    return encoded_exif(exif)


def _png_exif(file: BinaryIO) -> bytes:
    """The chunk eXIf of a PNG; of the others the headers alone are read."""
    size, position = file.seek(0, os.SEEK_END), 8
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack('>I4s', file.read(8))
        if kind == b'eXIf':
            return file.read(length)
        position += length + 12
    return b''
