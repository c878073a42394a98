"""Operators that torch's ONNX exporter does not know, written in ONNX's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from iafmsr.ops.submanifold import OPERATOR

__all__ = ['translations']


def translations() -> dict[Any, Callable[..., Any]]:
    """For ``custom_translation_table`` of torch.onnx.export. Package: onnxscript."""
    return {
        torch.ops.aten.hypot.default: _hypot,
        torch.ops.aten.adaptive_max_pool2d.default: _adaptive_max_pool,
        OPERATOR: _submanifold_conv,
    }


def _hypot(x: Any, y: Any) -> Any:
    """Of the Sobel map."""
    from onnxscript import opset18 as op

    return op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))


def _submanifold_conv(x: Any, weight: Any, mask: Any) -> Any:
    """out = M * conv(M * x) + x for x (B, C, H, W): neighbours of the active sites gathered, one matrix product, and
    its rows scattered to their places; the work is in proportion to the number of active sites."""
    from onnxscript import opset18 as op

    channels, _, side, _ = (int(length) for length in weight.shape)
    reach = side // 2

    def whole(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    shape = op.Shape(mask)
    batch, height, width = (op.Slice(shape, whole(axis), whole(axis + 1)) for axis in (0, 2, 3))
    picture, _, row, col = op.Split(op.NonZero(mask), num_outputs=4, axis=0)
    site = op.Reshape(op.Add(op.Mul(op.Add(op.Mul(picture, height), row), width), col), whole(-1))  # (n,)
    # the sites' numbers on a map with a border; n stands for every place that is not active
    wide = op.Add(width, whole(2 * reach))
    size = op.Mul(op.Mul(batch, op.Add(height, whole(2 * reach))), wide)
    corner = op.Add(op.Mul(op.Add(op.Mul(picture, op.Add(height, whole(2 * reach))), row), wide), col)
    corner = op.Reshape(corner, whole(-1, 1))
    count = op.Shape(site)
    own = op.Add(corner, op.Add(op.Mul(wide, whole(reach)), whole(reach)))
    order = op.Range(op.Constant(value_int=0), op.Squeeze(count), op.Constant(value_int=1))
    number = op.ScatterND(op.Expand(count, size), own, order)
    down = whole(*(y for y in range(side) for _ in range(side)))
    right = whole(*(x for _ in range(side) for x in range(side)))
    table = op.Gather(number, op.Add(corner, op.Unsqueeze(op.Add(op.Mul(wide, down), right), whole(0))))  # (n, k k)
    pixels = op.Transpose(x, perm=[0, 2, 3, 1])
    rows = op.Reshape(pixels, whole(-1, channels))
    active = op.Gather(rows, site)
    zero = op.CastLike(op.ConstantOfShape(whole(1, channels)), active)
    patches = op.Reshape(op.Gather(op.Concat(active, zero, axis=0), table), whole(-1, side * side * channels))
    matrix = op.Reshape(op.Transpose(weight, perm=[2, 3, 1, 0]), whole(-1, channels))
    made = op.Add(op.MatMul(patches, matrix), active)
    written = op.ScatterND(rows, op.Unsqueeze(site, whole(1)), made)
    return op.Transpose(op.Reshape(written, op.Shape(pixels)), perm=[0, 3, 1, 2])


def _adaptive_max_pool(x: Any, output_size: Any) -> Any:
    """For a given size of x; along a side that is no multiple of the result's, the windows are gathered, last: engines
    are slow at that."""
    from onnxscript import opset18 as op

    sides = list(zip((2, 3), list(x.shape)[2:], output_size, strict=True))
    if not all(isinstance(number, int) for side in sides for number in side):
        raise ValueError('its adaptive pooling can be exported only for pictures of one size')
    for axis, length, cells in sorted(sides, key=lambda side: side[1] % side[2] > 0):
        if length % cells == 0:
            kernel = [length // cells if axis == other else 1 for other in (2, 3)]
            x, _ = op.MaxPool(x, kernel_shape=kernel, strides=kernel)
            continue
        spans = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
        longest = max(stop - start for start, stop in spans)
        places = [min(start + i, stop - 1) for start, stop in spans for i in range(longest)]
        windows = op.Reshape(op.Constant(value_ints=places), op.Constant(value_ints=[cells, longest]))
        x = op.ReduceMax(op.Gather(x, windows, axis=axis), op.Constant(value_ints=[axis + 1]), keepdims=0)
    return x, op.Constant(value_int=0)  # the latter for the indices, which no network here takes
