"""Whether pictures are as a network that was trained on bicubic LR expects them: sharp, without JPEG's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from skimage.color import rgb2gray
from skimage.measure import blur_effect

from iafmsr.data.parallel import in_order
from iafmsr.errors import UserError
from iafmsr.files.names import PictureFile
from iafmsr.files.picture import UnreadableError, as_rgb8
from iafmsr.files.reading import read

__all__ = ['Degradation', 'blockiness', 'report']

MOST = 200  # pictures that are looked at
SIDE = 512  # pixels of their middle
# Between the medians of sharp photographs and drawings, and those of the same at JPEG quality 75 (0.02 and 0.08) or
# blurred by a standard deviation of 0.8 pixels (0.27 and 0.36)
BLOCKS, BLUR = 0.05, 0.33


class Degradation(NamedTuple):
    """Of one picture: :func:`blockiness`, and the blur of Crete et al. (The Blur Effect, 2007), from 0 to 1."""

    blocks: float
    blur: float


def blockiness(gray: np.ndarray) -> float:
    """How much larger the steps across one of eight possible edges of JPEG's 8x8 blocks are than what their neighbours
    say, over the mean step; the smaller one of rows and columns. About 0 without blocks.

    Args:
        gray: (H, W), at least 16 pixels each.
    """
    found = []
    for picture in (gray, gray.T):
        steps = np.abs(np.diff(picture.astype(np.float64), axis=0))
        excess = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
        phases = [excess[start::8].mean() for start in range(8)]
        found.append((max(phases) - np.median(phases)) / max(steps.mean(), 1e-9))
    return float(min(found))


def report(pictures: Sequence[PictureFile]) -> str:
    """Two lines of figures and one that says whether a network trained on bicubic LR suits the pictures.

    Args:
        pictures: of a folder; at most 200 are looked at, from all over it.

    Raises:
        UserError: none of them can be read, or all are smaller than 16 pixels.
    """
    seen = pictures[:: -(-len(pictures) // MOST)]
    found = [one for one in in_order(_measured, seen) if one is not None]
    if not found:
        raise UserError(f'none of the {len(seen)} sampled pictures can be measured')
    limits = (BLOCKS, BLUR)
    medians, above = Degradation(*np.median(found, axis=0)), (np.array(found) > limits).sum(0)
    lines = [f'{len(found)} of {len(pictures)} pictures measured', f'{"":12}median  limit  pictures above it']
    for name, median, limit, count in zip(('JPEG blocks', 'blur'), medians, limits, above, strict=True):
        lines.append(f'{name:12}{median:6.3f}  {limit:5.2f}  {count}')
    faults = [text for text, bad in (('JPEG blocks', medians.blocks > BLOCKS), ('blur', medians.blur > BLUR)) if bad]
    lines.append(
        f'A network trained on bicubic LR would enlarge the {" and the ".join(faults)} of these pictures as well; '
        'train on the degradations of Real-ESRGAN (model_type: IAFMNetRealModel).'
        if faults
        else 'A network trained on bicubic LR suits these pictures.'
    )
    return '\n'.join(lines)


def _measured(picture: PictureFile) -> Degradation | None:
    try:
        gray = 255 * rgb2gray(as_rgb8(read(picture.path)).colour)
    except UnreadableError:
        return None
    top, left = (max(0, side - SIDE) // 2 for side in gray.shape)
    middle = gray[top : top + SIDE, left : left + SIDE]
    return Degradation(blockiness(middle), float(blur_effect(middle))) if min(middle.shape) >= 16 else None
