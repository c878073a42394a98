"""MyNet: the density and the ARM of iafmsr, with an attention of its own."""

import iafmsr  # noqa: I001, F401  (first: it lets BasicSR be imported beside a current torch)
from basicsr.utils.registry import ARCH_REGISTRY
from iafmsr.layers import ARM, DifferenceConv2d, InformationDensity
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle


class DenseAttention(nn.Module):
    """A factor for each channel, from the mean of the features over the dense places: x * sigmoid(W mean_idm(x))."""

    def __init__(self, num_feat):
        super().__init__()
        self.weigh = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, x, idm):
        mean = (x * idm).sum((2, 3), keepdim=True) / (idm.sum((2, 3), keepdim=True) + 1e-6)
        return x * self.weigh(mean).sigmoid()


@ARCH_REGISTRY.register()
class MyNet(nn.Module):
    def __init__(self, scale=4, num_feat=32, num_block=4):
        super().__init__()
        self.scale = scale
        self.head = DifferenceConv2d(3, num_feat)
        self.density = InformationDensity(num_feat)
        self.arms = nn.ModuleList(ARM(num_feat, num_guide=self.density.num_guide) for _ in range(num_block))
        self.attentions = nn.ModuleList(DenseAttention(num_feat) for _ in range(num_block))
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)

    def forward(self, lq, return_density=False):
        x = self.head(lq)
        density = self.density(x, lq)
        for arm, attention in zip(self.arms, self.attentions):  # noqa: B905
            x = x + attention(arm(x, density.guide), density.idm)
        sr = pixel_shuffle(self.tail(x), self.scale) + interpolate(lq, scale_factor=self.scale, mode='bicubic')
        return (sr, density) if return_density else sr
