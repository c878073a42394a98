"""Augmentation: patches with other colours, synthetic patches (flat, saturated pictures, which are rare among
photographs), and patches that are mixed with each other.

The first two depend on the draw (:func:`iafmsr.data.sampling.sample_random`) and use a random stream of their own: they
change neither which patch is cut nor how it is turned, and a resumed run makes the same patches. Mixing depends on
seed, iteration and process.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from iafmsr.data.sampling import sample_random
from iafmsr.ops.resize import imresize

__all__ = ['AUGMENTATIONS', 'MIXINGS', 'Augmentation', 'mix', 'recoloured', 'synthetic_pair']

AUGMENTATIONS = ('colour_augment', 'synthetic')
MIXINGS = ('mixup', 'cutmix')
_BORDER = 2  # LR pixels drawn around a synthetic patch and cut off, so that the picture continues beyond the patch
_MOST_SHAPES = 8
_PURE_LEVELS = (0, 128, 255)


class Augmentation:
    """What may happen to the patches of a draw beyond flips and rotations.

    Args:
        scale: of super-resolution.
        colour_augment: probability that a patch gets other colours, see :func:`recoloured`.
        synthetic: probability that a synthetic patch takes its place, see :func:`synthetic_pair`. It keeps its colours.
    """

    def __init__(self, scale: int, colour_augment: float = 0, synthetic: float = 0) -> None:
        self.scale, self.colour_augment, self.synthetic = scale, colour_augment, synthetic

    @classmethod
    def of(cls, opt: dict[str, Any]) -> Augmentation:
        """The augmentation that the options of a dataset ask for."""
        return cls(opt['scale'], **{key: opt.get(key) or 0 for key in AUGMENTATIONS})

    def changed(self, draw: int, patches: dict[str, Tensor]) -> dict[str, Tensor]:
        """The patches that replace those of a draw: all of them, or none if the draw is not changed.

        Args:
            draw: the index that the sampler gave.
            patches: ``lq`` (3, h, w) and what has the size of HR, ``gt`` and maybe ``teacher``: RGB, uint8 or float32
                in [0, 255].
        """
        source = sample_random(draw, 'augmentation')
        chances = source.random(), source.random()
        if chances[0] < self.synthetic:
            lq, gt = synthetic_pair(source, patches['lq'].shape[-1], self.scale)
            return {key: lq if key == 'lq' else gt for key in patches}
        if chances[1] < self.colour_augment:
            return recoloured(source, patches)
        return {}


def recoloured(source: random.Random, patches: dict[str, Tensor]) -> dict[str, Tensor]:
    """All patches with the same random permutation of the channels, contrast and offset.

    Channel c becomes ``a_c x + b_c``, where x is one of the channels, a uniform in [-1, 1] and b uniform among the
    offsets that keep all values in [0, 1]. uint8 patches are rounded to 8 bits. Downscaling commutes with this up to
    rounding, except where LR was clipped at 0 or 255.

    Args:
        source: of the numbers.
        patches: uint8 (3, H, W) each, or float32 in [0, 255].
    """
    order = source.sample(range(3), 3)
    contrasts, offsets = np.empty((3, 1)), np.empty((3, 1))
    for contrast, offset in zip(contrasts, offsets, strict=True):
        contrast[:] = source.uniform(-1, 1)
        offset[:] = 255 * source.uniform(max(0, -contrast[0]), min(1, 1 - contrast[0]))
    # for each channel, the new values of the 256 levels
    levels = torch.from_numpy(np.rint(contrasts * np.arange(256) + offsets).clip(0, 255).astype(np.uint8))

    def changed(patch: Tensor) -> Tensor:
        if patch.is_floating_point():
            line = torch.from_numpy(np.stack((contrasts, offsets))).to(patch)[..., None]
            return line[0] * patch[order] + line[1]
        return levels.to(patch.device).gather(1, patch[order].flatten(1).long()).view_as(patch)

    return {key: changed(patch) for key, patch in patches.items()}


def mix(batch: dict[str, Any], source: random.Random, mixup: float = 0, cutmix: float = 0) -> None:
    """Mix samples of a batch, in place, with the next sample: LR, HR and a teacher's picture alike.

    Mixup (Zhang et al., 2018) takes a mean with a uniform random weight, which commutes with downscaling. CutMix (Yun
    et al., 2019) takes a rectangle of the other sample with a uniform random area, on the grid of LR, so that LR
    fits except two pixels along the edges. Yoo et al. (Rethinking Data Augmentation for Image Super-resolution, 2020)
    compare both for super-resolution.

    Args:
        batch: ``lq`` (B, C, h, w), and ``gt`` and maybe ``teacher`` (B, C, s h, s w).
        source: of the numbers.
        mixup, cutmix: probability of each for a sample; a sample mixed by mixup is not mixed by CutMix.
    """
    others = {key: batch[key].roll(-1, 0) for key in ('lq', 'gt', 'teacher') if key in batch}
    height, width = batch['lq'].shape[-2:]
    for place in range(len(batch['lq'])):
        chances, share = (source.random(), source.random()), source.random()
        top, left = source.random(), source.random()
        if chances[0] < mixup:
            for key, other in others.items():
                batch[key][place].lerp_(other[place], share)
        elif chances[1] < cutmix:
            high, wide = round(share**0.5 * height), round(share**0.5 * width)
            y, x = round(top * (height - high)), round(left * (width - wide))
            for key, other in others.items():
                s = other.shape[-1] // width
                window = ..., slice(s * y, s * (y + high)), slice(s * x, s * (x + wide))
                batch[key][place][window] = other[place][window]


def synthetic_pair(source: random.Random, size: int, scale: int) -> tuple[Tensor, Tensor]:
    """A flat background with up to eight rectangles, discs, lines and letters of other flat colours, and its LR.

    Each channel of a colour is 0, 128 or 255 in half of the colours, and uniform in the others.

    Args:
        source: of the numbers.
        size: height and width of LR.
        scale: of super-resolution.

    Returns:
        LR, uint8 (3, size, size), made by :func:`~iafmsr.ops.resize.imresize` from a picture that continues beyond the
        patch; HR, uint8 (3, scale size, scale size).
    """
    side = scale * (size + 2 * _BORDER)
    image = Image.new('RGB', (side, side), _colour(source))
    draw = ImageDraw.Draw(image)
    for _ in range(source.randint(0, _MOST_SHAPES)):
        _add_shape(source, draw, side)
    hr = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    lq = imresize(hr, Fraction(1, scale))
    return _middle(lq, _BORDER), _middle(hr, scale * _BORDER)


def _middle(picture: Tensor, border: int) -> Tensor:
    return picture[:, border:-border, border:-border].contiguous()


def _colour(source: random.Random) -> tuple[int, int, int]:
    levels: Sequence[int] = _PURE_LEVELS if source.random() < 0.5 else range(256)
    return source.choice(levels), source.choice(levels), source.choice(levels)


def _add_shape(source: random.Random, draw: ImageDraw.ImageDraw, side: int) -> None:
    kind, colour = source.choice(('rectangle', 'disc', 'line', 'letters')), _colour(source)
    x, y = source.randint(-side // 8, side), source.randint(-side // 8, side)
    width, height = source.randint(1, side // 2), source.randint(1, side // 2)
    if kind == 'rectangle':
        draw.rectangle((x, y, x + width, y + height), fill=colour)
    elif kind == 'disc':
        draw.ellipse((x, y, x + width, y + width), fill=colour)
    elif kind == 'line':
        draw.line((x, y, source.randint(0, side), source.randint(0, side)), fill=colour, width=source.randint(1, 8))
    else:
        text = ''.join(source.choices(string.ascii_letters + string.digits, k=source.randint(1, 8)))
        draw.text((x, y), text, fill=colour, font=ImageFont.load_default(source.randint(8, max(8, side // 2))))
