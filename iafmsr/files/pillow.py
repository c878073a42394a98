"""Pictures as Pillow holds them, and as they are kept here."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from iafmsr.files.picture import Picture, UnreadableError

__all__ = ['SIXTEEN_BIT_MODES', 'as_image', 'from_image', 'picture_of', 'pixels_of']

SIXTEEN_BIT_MODES = {'I;16', 'I;16L', 'I;16B', 'I;16N'}
_BY_PILLOW = {
    '1': 'L',
    'L': 'L',
    'LA': 'LA',
    'La': 'LA',
    'RGB': 'RGB',
    'RGBX': 'RGB',
    'RGBA': 'RGBA',
    'RGBa': 'RGBA',
    'CMYK': 'RGB',
    'YCbCr': 'RGB',
    'LAB': 'RGB',
    'HSV': 'RGB',
    'PA': 'RGBA',
}


def from_image(image: Image.Image) -> Picture:
    """A picture that Pillow holds, as it is shown.

    Raises:
        UnreadableError: its pixels are not integers of 8 or 16 bits.
    """
    pixels = pixels_of(ImageOps.exif_transpose(image))
    return picture_of(pixels, profile=image.info.get('icc_profile') or b'' if image.mode != 'CMYK' else b'')


def as_image(picture: Picture) -> Image.Image:
    """The picture as Pillow holds it: 16 bits in gray alone, of colours the high byte."""
    pixels = picture.colour if picture.alpha is None else np.concatenate([picture.colour, picture.alpha], axis=2)
    pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        pixels = (pixels >> 8).astype(np.uint8)
    image = Image.fromarray(pixels)
    if picture.profile:
        image.info['icc_profile'] = picture.profile
    return image


def pixels_of(image: Image.Image) -> np.ndarray:
    """(H, W), or (H, W, channels), uint8 or uint16."""
    if image.mode in SIXTEEN_BIT_MODES:
        return np.asarray(image).astype(np.uint16)
    if image.mode == 'CMYK' and (profile := image.info.get('icc_profile')):
        with suppress(ImageCms.PyCMSError):  # a broken profile: by formula
            return np.asarray(
                ImageCms.profileToProfile(
                    image,
                    ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                    ImageCms.createProfile('sRGB'),
                    ImageCms.Intent.RELATIVE_COLORIMETRIC,
                    'RGB',
                    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
                )
            )
    return np.asarray(image.convert(_mode(image)))


def _mode(image: Image.Image) -> str:
    if 'transparency' in image.info and image.mode in ('1', 'L', 'RGB', 'P'):
        return 'LA' if image.mode in ('1', 'L') else 'RGBA'
    if image.mode == 'P':
        return 'RGB'
    if image.mode not in _BY_PILLOW:
        raise UnreadableError(f'pixels of the unsupported kind {image.mode}, not integers of 8 or 16 bits')
    return _BY_PILLOW[image.mode]


def picture_of(pixels: np.ndarray, **kept: Any) -> Picture:
    """(H, W), or (H, W, 1 to 4) with alpha at the end of an even number of channels."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] % 2:
        return Picture(pixels, None, **kept)
    return Picture(pixels[..., :-1], pixels[..., -1:], **kept)
