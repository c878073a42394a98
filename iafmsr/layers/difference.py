"""A convolution that depends on the differences between pixels, not on their level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.precision import InFloat32, at_least_float32, full_precision


class DifferenceConv2d(InFloat32):
    """A 3x3 convolution in float32 whose kernels sum to zero for every input channel: conv(x + c) = conv(x).

    The result is the bias wherever x is constant. The border of x is repeated, so that it does not look like detail.

    Args:
        in_channels (int): channels of x.
        out_channels (int): channels of the result.

    Examples:
        >>> conv = DifferenceConv2d(3, 8)
        >>> yellow = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
        >>> torch.allclose(conv(yellow), conv.bias.view(8, 1, 1), atol=1e-6)
        True
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        start = nn.Conv2d(in_channels, out_channels, 3)
        # the name distinguishes these weights from those of an ordinary convolution, which have the same shape
        self.differences = start.weight
        # not zero: the features of a flat picture are the bias; if it were zero, a norm would amplify rounding errors
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-0.2, 0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W), float32 or float64."""
        with full_precision(x):
            kernel = self.differences - self.differences.mean(dim=(2, 3), keepdim=True)
            return F.conv2d(F.pad(at_least_float32(x), (1, 1, 1, 1), mode='replicate'), kernel, self.bias)
