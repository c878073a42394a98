"""EDSR guided by an information density map: how IAFMNet's parts are added to another network of BasicSR."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY, EDSR
from iafmsr.layers.arm import ARM
from iafmsr.layers.density import Density
from iafmsr.layers.idm import InformationDensity
from iafmsr.layers.igra import IGRA, down
from iafmsr.layers.precision import ExactConv2d, in_autocast
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d


@ARCH_REGISTRY.register()
class EDSRIDM(EDSR):
    """BasicSR's EDSR, with x = x + ARM(x, guide), x = x + IGRA(x, guide), or both, after each of its blocks.

    Its first convolution repeats the border instead of padding with zeros. Its input is in [0, 255], minus the mean, so
    that the features span many quantisation bins without a gain.

    Args:
        arm (bool): add ARM.
        igra (bool): add IGRA; its blocks share one sparse convolution.
        k (float): share of active sites, in (0, 1].
        ide, gain, idm_unit, detach_idm, detach_features, guide: see
            :class:`~iafmsr.layers.idm.InformationDensity`.
        sparse_backend (str): for IGRA, see :func:`iafmsr.ops.submanifold.submanifold_conv2d`.
        num_feat, num_block, upscale, res_scale: as in EDSR.

    Raises:
        ValueError: when an argument is out of its range.
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        res_scale: float = 1,
        arm: bool = True,
        igra: bool = False,
        k: float = 0.05,
        ide: str = 'deviation',
        gain: float = 1.0,
        idm_unit: str = 'bits',
        detach_idm: bool = True,
        detach_features: bool = True,
        guide: str = 'deviation',
        sparse_backend: str = 'auto',
    ) -> None:
        super().__init__(num_in_ch, num_out_ch, num_feat, num_block, upscale, res_scale)
        # zero padding at the border would look like detail and be active in the mask
        self.conv_first = ExactConv2d(num_in_ch, num_feat, 3, padding=1, padding_mode='replicate')
        self.density = InformationDensity(
            num_feat,
            k,
            ide=ide,
            gain=gain,
            idm_unit=idm_unit,
            detach_idm=detach_idm,
            detach_features=detach_features,
            guide=guide,
        )

        def after_each_block(part: type[nn.Module], wanted: bool, **keywords: Any) -> nn.ModuleList:
            places: list[Any] = [
                part(num_feat, num_guide=self.density.num_guide, **keywords) if wanted else None
                for _ in range(num_block)
            ]
            return nn.ModuleList(places)

        self.arm = after_each_block(ARM, arm)
        self.igra = after_each_block(IGRA, igra)
        self.ssconv = SubmanifoldConv2d(num_feat, 3, sparse_backend) if igra else None

    def forward(self, lq: Tensor, return_density: bool = False) -> Tensor | tuple[Tensor, Density]:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW); with its :class:`Density` on request."""
        self.mean = self.mean.type_as(lq)
        f0 = self.conv_first((lq - self.mean) * self.img_range)
        density = self.density(f0, lq)
        guide_down, sites = down(density.guide), ActiveSites(density.mask)
        x = in_autocast(f0)
        for block, arm, igra in zip(self.body, self.arm, self.igra, strict=True):
            x = block(x)
            if arm is not None:
                x = x + arm(x, density.guide)
            if igra is not None:
                x = x + igra(x, guide_down, sites, self.ssconv)
        sr = self.conv_last(self.upsample(self.conv_after_body(x) + f0)) / self.img_range + self.mean
        return (sr, density) if return_density else sr
