"""From features to the picture: the forms of ``upsampler``. Each takes (num_feat, num_out_ch, scale)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.registry import Forms

UPSAMPLERS = Forms('upsampler')


@UPSAMPLERS.register('pixelshuffle')
class PixelShuffle(nn.Conv2d):
    """Sub-pixel layer (Shi et al., ESPCN, CVPR 2016): a convolution to s^2 pixels at each position.

    Examples:
        >>> PixelShuffle(8, 3, 4)(torch.rand(1, 8, 5, 6)).shape
        torch.Size([1, 3, 20, 24])
    """

    def __init__(self, num_feat: int, num_out_ch: int, scale: int) -> None:
        super().__init__(num_feat, num_out_ch * scale**2, 3, padding=1)
        self.factor = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_out_ch, sH, sW)."""
        # the picture in the contiguous layout, which discriminators and other losses expect
        return F.pixel_shuffle(super().forward(x).contiguous(), self.factor)


@UPSAMPLERS.register('transposed')
class Transposed(nn.ConvTranspose2d):
    """Transposed convolution of stride s; each pixel sees 3x3 positions, as in the sub-pixel layer: kernel 3s x 3s."""

    def __init__(self, num_feat: int, num_out_ch: int, scale: int) -> None:
        super().__init__(num_feat, num_out_ch, 3 * scale, stride=scale, padding=scale)


@UPSAMPLERS.register('nearest_conv')
class NearestConv(nn.Conv2d):
    """Each position is repeated over s x s pixels, then a 3x3 convolution of the pixels follows."""

    def __init__(self, num_feat: int, num_out_ch: int, scale: int) -> None:
        super().__init__(num_feat, num_out_ch, 3, padding=1)
        self.factor = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_out_ch, sH, sW)."""
        return super().forward(F.interpolate(x, scale_factor=self.factor, mode='nearest'))


@UPSAMPLERS.register('decomposed')
class Decomposed(nn.Sequential):
    """Two one-dimensional transposed convolutions: 3s x 1 to s num_out_ch channels, then 1 x 3s."""

    def __init__(self, num_feat: int, num_out_ch: int, scale: int) -> None:
        size, between = 3 * scale, scale * num_out_ch
        super().__init__(
            nn.ConvTranspose2d(num_feat, between, (size, 1), stride=(scale, 1), padding=(scale, 0)),
            nn.ConvTranspose2d(between, num_out_ch, (1, size), stride=(1, scale), padding=(0, scale)),
        )
