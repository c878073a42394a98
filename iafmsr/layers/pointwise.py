"""1x1 convolutions as what they are: matrices, which can be cut and multiplied before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.precision import full_precision, in_autocast
from iafmsr.ops.strips import Pending, room_for

_ONEDNN_BATCH = 16  # from this batch on PyTorch gives 1x1 convolutions to oneDNN, whatever the number of threads


@dataclass(frozen=True)
class Projection(Pending):
    """What 1x1 convolutions will give, sum(weight x) + bias at every position, before it is computed.

    A convolution of it is another product of matrices; its halves are two results that each lie together in memory,
    where the halves of one would have to be copied.

    Attributes:
        terms: pairs of x (B, C, H, W) and its weight (O, C).
        bias (Tensor): (O,).
    """

    terms: tuple[tuple[Tensor, Tensor], ...]
    bias: Tensor

    def halves(self) -> tuple[Projection, Projection]:
        """The first and the second half of the channels."""
        first, second = zip(*(weight.chunk(2) for _, weight in self.terms), strict=True)
        sources, biases = [x for x, _ in self.terms], self.bias.chunk(2)
        return (Projection(tuple(zip(sources, first, strict=True)), biases[0]),
                Projection(tuple(zip(sources, second, strict=True)), biases[1]))

    def tensor(self) -> Tensor:
        """(B, O, H, W)."""
        (x, weight), *others = self.terms
        result = pointwise(x, weight, self.bias)
        for x, weight in others:
            result = result.add_(pointwise(x.to(result.dtype), weight, None))
        return result

    def write(self, target: Tensor, rows: slice) -> None:
        terms = [(x[0, :, rows].permute(1, 2, 0), weight) for x, weight in self.terms]
        pixels = target.permute(1, 2, 0)
        if not all(t.is_contiguous() and t.dtype == self.bias.dtype for t in (pixels, *(x for x, _ in terms))):
            target.copy_(self.tensor()[0, :, rows])
            return
        pixels, bias = pixels.flatten(0, 1), self.bias
        for x, weight in terms:
            bias = torch.addmm(bias, x.flatten(0, 1), weight.t(), out=pixels)

    def room(self, batch: int, height: int) -> Tensor:
        x = self.terms[0][0]
        return room_for(x, batch, height, len(self.bias), in_autocast(x[:0]).dtype)


class PointwiseConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` with a 1x1 kernel and a bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        return self.of(x).tensor()

    def of(self, *inputs: Tensor | Projection) -> Projection:
        """The convolution of the inputs, their channels one after the other, before it is computed."""
        sizes = [len(x.bias) if isinstance(x, Projection) else x.shape[1] for x in inputs]
        terms, bias = [], self.bias
        for x, weight in zip(inputs, self.weight.flatten(1).split(sizes, dim=1), strict=True):
            if isinstance(x, Projection):
                with full_precision(weight):
                    terms += [(source, weight @ inner) for source, inner in x.terms]
                    bias = torch.addmv(bias, weight, x.bias)
            else:
                terms.append((x, weight))
        return Projection(tuple(terms), bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """weight x + bias at every position: (B, C, H, W), weight (O, C), bias (O,) -> (B, O, H, W)."""
    kernel = weight[:, :, None, None]
    pixels = x.permute(0, 2, 3, 1)
    b, h, w, c = pixels.shape
    if bias is not None and x.device.type == 'cpu' and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        # oneDNN takes a quarter of the backward pass to sum up a bias's gradient; PyTorch a twentieth
        result = pointwise(x, weight, None)
        return result.add_(bias.to(result.dtype)[:, None, None])
    if x.device.type != 'cpu' or b >= _ONEDNN_BATCH or not pixels.is_contiguous() or torch.compiler.is_compiling():
        return F.conv2d(x, kernel, bias)
    # On one thread PyTorch gives a small batch to a slow kernel. To a 1x1 convolution rows are as good as pictures, and
    # in channels_last a batch of them is another view of the same memory.
    rows = F.conv2d(pixels.reshape(b * h, 1, w, c).permute(0, 3, 1, 2), kernel, bias)
    return rows.permute(0, 2, 3, 1).reshape(b, h, w, -1).permute(0, 3, 1, 2)
