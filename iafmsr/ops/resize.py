"""MATLAB's antialiased bicubic ``imresize``, bit for bit.

A scale factor p/q maps output pixel ``p m + r`` to the input exactly ``q`` pixels further than output pixel
``p (m - 1) + r``: all outputs of one phase ``r`` share their weights. One pass over an axis is therefore, for each of
the ``p`` phases, a sum of a few shifted and strided copies of the picture; no matrix and no gather is needed.

The kernel is a cubic with rational coefficients, so at a rational scale its weights are rational. They are kept as
integers over a common denominator: sums over uint8 values are then exact, do not depend on the order of summation, and
a value of exactly one half rounds up as in MATLAB.
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ['at_scale', 'imresize', 'mod_crop']

# float32 holds every integer up to here.
_FLOAT32_EXACT = 2**24


def imresize(img: Tensor, scale: Fraction | int) -> Tensor:
    """Resize as MATLAB's ``imresize(img, scale)`` does: bicubic, antialiased when shrinking, symmetric at the border.

    Rows (height) are resized first, then columns. A uint8 picture is rounded to uint8 after *each* of the two passes,
    as MATLAB does: this is the form of the standard LR files of the benchmarks, and the result equals them bit for bit.

    Args:
        img: ``(..., H, W)``, uint8 in 0..255, or float32 or float64 in any range.
        scale: Exact factor, e.g. ``Fraction(1, 4)`` or ``3``. A float is refused: it cannot represent 1/3 exactly.

    Returns:
        ``(..., ceil(H * scale), ceil(W * scale))`` of the same type. Float results are neither rounded nor clipped.

    Raises:
        TypeError: ``img`` is of another type, or ``scale`` is not an exact number.
        ValueError: ``img`` has no pixels, or ``scale`` is not positive.
    """
    if img.dtype not in (torch.uint8, torch.float32, torch.float64):
        raise TypeError(f'img must be uint8, float32 or float64, got {img.dtype}')
    if not isinstance(scale, (Fraction, int)):
        raise TypeError(f'scale must be an int or a Fraction, got {scale!r}')
    if scale <= 0:
        raise ValueError(f'scale must be positive, got {scale}')
    if img.dim() < 2 or img.numel() == 0:
        raise ValueError(f'img must be (..., H, W) with at least one pixel, got {tuple(img.shape)}')
    scale = Fraction(scale)
    return _resize_axis(_resize_axis(img, scale, -2), scale, -1)


def mod_crop(img: Tensor, multiple: int) -> Tensor:
    """Cut rows at the bottom and columns at the right until both sizes are multiples of ``multiple``.

    Args:
        img: ``(..., H, W)``.
        multiple: Positive integer, the scale of super-resolution.

    Returns:
        A view ``(..., H - H % multiple, W - W % multiple)``.
    """
    height, width = img.shape[-2:]
    return img[..., : height - height % multiple, : width - width % multiple]


def at_scale(hr: Tensor, scale: int) -> Tensor:
    """The HR picture itself, uint8 ``(3, H, W)``, if the scale is 1; otherwise its LR picture."""
    return hr if scale == 1 else imresize(mod_crop(hr, scale), Fraction(1, scale))


def _resize_axis(img: Tensor, scale: Fraction, axis: int) -> Tensor:
    """One pass over ``axis`` (-2 or -1); uint8 in gives rounded uint8 out."""
    phases, denominator = _phases(scale)
    dtype = img.dtype
    if dtype == torch.uint8:
        largest_sum = 255 * max(sum(map(abs, weights)) for _, weights in phases)
        dtype = torch.float32 if largest_sum < _FLOAT32_EXACT else torch.float64

    step, size = scale.denominator, img.shape[axis]
    out_size = math.ceil(size * scale)
    reach = max(len(weights) for _, weights in phases)
    before = max(0, -min(start for start, _ in phases))
    last = max(start for start, _ in phases) + step * (math.ceil(out_size / len(phases)) - 1) + reach - 1
    source = _pad_symmetric(img, axis, before, max(0, last - size + 1)).to(dtype)

    shape = list(img.shape)
    shape[axis] = out_size
    result = torch.empty(shape, dtype=img.dtype, device=img.device)
    for phase, (start, weights) in enumerate(phases):
        target = _strided(result, axis, phase, len(phases), None)
        count = target.shape[axis]
        if count == 0:
            continue
        total = torch.zeros(target.shape, dtype=dtype, device=img.device)
        for tap, weight in enumerate(weights):
            total.add_(_strided(source, axis, before + start + tap, step, count), alpha=weight)
        total.div_(denominator)
        target.copy_(total if img.is_floating_point() else total.add_(0.5).floor_().clamp_(0, 255))
    return result


@lru_cache(maxsize=32)
def _phases(scale: Fraction) -> tuple[tuple[tuple[int, tuple[int, ...]], ...], int]:
    """The weights of each phase of the output grid, and their common denominator.

    Returns:
        For each phase ``(start, weights)``: output pixel ``p m + phase`` is the sum of ``weights[t]`` times input pixel
        ``q m + start + t``, divided by the denominator.
    """
    shrink = min(scale, Fraction(1))  # antialiasing: the kernel is widened by 1 / shrink
    phases = []
    for phase in range(scale.numerator):
        centre = (phase + Fraction(1, 2)) / scale - Fraction(1, 2)
        start = math.floor(centre - 2 / shrink) + 1
        stop = math.ceil(centre + 2 / shrink)
        weights = [_cubic((pixel - centre) * shrink) for pixel in range(start, stop)]
        phases.append((start, [weight / sum(weights) for weight in weights]))
    denominator = math.lcm(*(weight.denominator for _, weights in phases for weight in weights))
    return tuple((start, tuple(int(w * denominator) for w in weights)) for start, weights in phases), denominator


def _cubic(x: Fraction) -> Fraction:
    """Keys' cubic convolution kernel with a = -1/2, zero beyond 2."""
    x = abs(x)
    if x <= 1:
        return (Fraction(3, 2) * x - Fraction(5, 2)) * x * x + 1
    if x <= 2:
        return ((Fraction(-1, 2) * x + Fraction(5, 2)) * x - 4) * x + 2
    return Fraction(0)


def _pad_symmetric(img: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Mirror the picture at its borders, including the border pixel, as often as the padding needs."""
    size = img.shape[axis]
    position = torch.arange(-before, size + after, device=img.device) % (2 * size)
    return img.index_select(axis, torch.minimum(position, 2 * size - 1 - position))


def _strided(img: Tensor, axis: int, start: int, step: int, count: int | None) -> Tensor:
    """``count`` elements (all, if None) of ``axis`` from ``start`` on, every ``step``-th, as a view."""
    window = slice(start, None if count is None else start + step * (count - 1) + 1, step)
    return img[..., window, :] if axis == -2 else img[..., window]
