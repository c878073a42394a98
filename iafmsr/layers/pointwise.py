"""1x1 convolutions as what they are: matrices, which can be cut and multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.precision import full_precision

_ONEDNN_BATCH = 16  # from this batch on PyTorch gives 1x1 convolutions to oneDNN, whatever the number of threads


class PointwiseConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` with a 1x1 kernel and a bias, computed as :class:`Pointwise`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        return self.matrix()(x)

    def matrix(self) -> Pointwise:
        """Its weight and bias."""
        return Pointwise(self.weight.flatten(1), self.bias)


@dataclass(frozen=True)
class Pointwise:
    """y = weight x + bias at every position.

    Attributes:
        weight (Tensor): (O, C).
        bias (Tensor | None): (O,).
    """

    weight: Tensor
    bias: Tensor | None = None

    def halves(self) -> tuple[Pointwise, Pointwise]:
        """Those that give the first and the second half of the output channels.

        Two results that each lie together in memory, where the halves of one would have to be copied.
        """
        weights, biases = self.weight.chunk(2), self.bias.chunk(2)
        return Pointwise(weights[0], biases[0]), Pointwise(weights[1], biases[1])

    def after(self, first: Pointwise) -> Pointwise:
        """The one that does the work of two, self(first(x)): the product of the matrices."""
        with full_precision(self.weight):
            return Pointwise(self.weight @ first.weight, torch.addmv(self.bias, self.weight, first.bias))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        kernel = self.weight[:, :, None, None]
        pixels = x.permute(0, 2, 3, 1)
        b, h, w, c = pixels.shape
        if x.device.type != 'cpu' or b >= _ONEDNN_BATCH or not pixels.is_contiguous() or torch.compiler.is_compiling():
            return F.conv2d(x, kernel, self.bias)
        # On one thread PyTorch gives a small batch to a slow kernel. To a 1x1 convolution rows are as good as pictures,
        # and in channels_last a batch of them is another view of the same memory.
        rows = F.conv2d(pixels.reshape(b * h, 1, w, c).permute(0, 3, 1, 2), kernel, self.bias)
        return rows.permute(0, 2, 3, 1).reshape(b, h, w, -1).permute(0, 3, 1, 2)
