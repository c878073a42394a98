"""A picture as it is kept, and the form of it that nets are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

__all__ = ['Picture', 'UnreadableError', 'as_rgb', 'as_rgb8', 'as_tensor', 'fill_hidden', 'profile_of_rgb', 'turned']


class UnreadableError(Exception):
    """A file that is no whole picture, or one that has no meaning in the form that is asked for; the message says
    which."""


@dataclass(frozen=True)
class Picture:
    """A picture, the right way up.

    Attributes:
        colour (np.ndarray): uint8 or uint16, (H, W, 3) RGB or (H, W, 1) gray.
        alpha (np.ndarray | None): (H, W, 1), of the same kind; 0 is transparent.
        profile (bytes): ICC profile of the colours; empty where the file had none.
        exif (bytes): without the orientation, which the pixels have; empty where the file had none.
        dpi (tuple[float, float] | None): pixels an inch across and down, for printing.
        frames (int): of the file; this is the first.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes = b''
    exif: bytes = b''
    dpi: tuple[float, float] | None = None
    frames: int = 1


def as_rgb8(picture: Picture) -> Picture:
    """As :func:`as_rgb`, but of 16 bits the high byte."""
    picture = as_rgb(picture)
    deep = picture.colour.dtype == np.uint16
    return replace(picture, colour=(picture.colour >> 8).astype(np.uint8)) if deep else picture


def as_rgb(picture: Picture) -> Picture:
    """The picture as RGB without alpha: of gray three equal channels.

    Raises:
        UnreadableError: it has transparent pixels, whose colour means nothing; or 16 bits of which only the low ones
            are used, as cameras of 10 and 12 bits do it, so that the high byte would be nearly black.
    """
    colour, alpha = picture.colour, picture.alpha
    if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
        raise UnreadableError('has transparent pixels')
    if colour.dtype == np.uint16 and 0 < (peak := int(colour.max())) < 4096:
        raise UnreadableError(f'16 bits a channel with values of at most {peak}; scale them to 65535')
    return replace(
        picture,
        colour=colour.repeat(3, 2) if colour.shape[2] == 1 else colour,
        alpha=None,
        profile=profile_of_rgb(picture),
    )


def as_tensor(picture: Picture) -> Tensor:
    """The colours as ``(C, H, W)`` of the same kind."""
    return torch.from_numpy(np.require(picture.colour, requirements=['C', 'W'])).permute(2, 0, 1)


def profile_of_rgb(picture: Picture) -> bytes:
    """The profile that the picture has when it is kept as RGB: one of gray says nothing about that."""
    return b'' if picture.profile[16:20] == b'GRAY' else picture.profile


def fill_hidden(picture: Picture) -> Picture:
    """Give each pixel of alpha 0 the colour of the visible pixel that is nearest.

    What lies under alpha 0 is arbitrary, mostly black. A net would mix it into the edge of what is visible.
    """
    if picture.alpha is None:
        return picture
    hidden = picture.alpha[..., 0] == 0
    if not hidden.any() or hidden.all():
        return picture
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = np.zeros((labels.max() + 1, picture.colour.shape[2]), picture.colour.dtype)
    visible[labels[~hidden]] = picture.colour[~hidden]
    return replace(picture, colour=visible[labels])


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as they are shown under an orientation of EXIF."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
