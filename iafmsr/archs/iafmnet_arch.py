"""IAFMNet: information-aware feature modulation for efficient super-resolution (Xu et al., CVPR 2026)."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from iafmsr.layers.arm import ARM
from iafmsr.layers.cgfn import CGFN
from iafmsr.layers.density import Density, InformationDensityEstimator, quantise, top_k_mask
from iafmsr.layers.igra import IGRA, down
from iafmsr.layers.norm import build_norm
from iafmsr.ops.submanifold import ActiveSites


class IFEM(nn.Module):
    """Information-guided feature enhancement: F1, F2 = split(Conv1x1(x)); IGRA(F1) + ARM(F2)."""

    def __init__(self, num_feat: int, attention: str, ssconv: bool, sparse_backend: str, arm_idm: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
        self.igra = IGRA(num_feat, attention, ssconv, sparse_backend)
        self.arm = ARM(num_feat, arm_idm)

    def forward(self, x: Tensor, idm: Tensor, idm_down: Tensor, sites: ActiveSites) -> Tensor:
        f1, f2 = self.expand(x).chunk(2, dim=1)
        return self.igra(f1, sites, idm_down) + self.arm(f2, idm)


class IFEB(nn.Module):
    """Information-guided feature enhancement block: x = x + IFEM(x, idm); x = x + CGFN(x)."""

    def __init__(self, num_feat: int, ffn_scale: float, norm: str, **ifem) -> None:
        super().__init__()
        self.norm1, self.norm2 = build_norm(norm, num_feat), build_norm(norm, num_feat)
        self.ifem = IFEM(num_feat, **ifem)
        self.cgfn = CGFN(num_feat, ffn_scale)

    def forward(self, x: Tensor, idm: Tensor, idm_down: Tensor, sites: ActiveSites) -> Tensor:
        x = x + self.ifem(self.norm1(x), idm, idm_down, sites)
        return x + self.cgfn(self.norm2(x))


@ARCH_REGISTRY.register()
class IAFMNet(nn.Module):
    """IAFMNet of figure 3: ``net(lq)`` is the image, ``net(lq, return_density=True)`` the image and its density.

    ::

        lq -> head -> F0 -> IDE -> mu, theta -> idm = mean of theta over channels, mask = top k of idm
              F0 -> N x IFEB(., idm, mask) -> (.) idm -> (+) mu -> tail -> PixelShuffle -> sr

    Args:
        scale (int): 2, 3 or 4.
        num_in_ch, num_out_ch (int): image channels.
        num_feat (int): width C.
        num_block (int): number N of IFEBs.
        ffn_scale (float): hidden width of the CGFN over C.
        k (float): share of active sites, in (0, 1]; 0.05 in the paper.
        ide_kernel_size (int): of the estimator's convolutions.
        gdn (bool): False leaves GDN out of the estimator.
        gain (float): F0 is multiplied by it before quantisation, so that the features span several bins.
        detach_idm (bool): True keeps the image's loss from training theta through the map.
        detach_features (bool): True keeps the estimator, hence the entropy loss, from training F0.
        norm (str): before IFEM and CGFN: ``none`` (as drawn), ``l2`` or ``layer``.
        attention (str): ``figure`` or ``text``, see :class:`~iafmsr.layers.igra.IGRA`.
        ssconv (bool): False leaves the sparse convolution out.
        arm_idm (bool): False leaves the map out of ARM.
        sparse_backend (str): see :func:`iafmsr.ops.submanifold.submanifold_conv2d`; no part of the state dict.

    Raises:
        ValueError: when an argument is out of its range.
    """

    def __init__(self, scale: int = 4, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 40, num_block: int = 6,
                 ffn_scale: float = 1.0, k: float = 0.05, ide_kernel_size: int = 1, gdn: bool = True, gain: float = 1.0,
                 detach_idm: bool = False, detach_features: bool = False, norm: str = 'none',
                 attention: str = 'figure', ssconv: bool = True, arm_idm: bool = True,
                 sparse_backend: str = 'dense') -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f'scale must be 2, 3 or 4, got {scale}')
        if not 0 < k <= 1:
            raise ValueError(f'k must be in (0, 1], got {k}')
        self.scale, self.k, self.gain = scale, k, gain
        self.detach_idm, self.detach_features = detach_idm, detach_features

        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.ide = InformationDensityEstimator(num_feat, ide_kernel_size, gdn)
        self.blocks = nn.ModuleList(
            IFEB(num_feat, ffn_scale, norm, attention=attention, ssconv=ssconv, sparse_backend=sparse_backend,
                 arm_idm=arm_idm)
            for _ in range(num_block))
        self.tail = nn.Conv2d(num_feat, num_out_ch * scale ** 2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor, return_density: bool = False) -> Tensor | tuple[Tensor, Density]:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1; with its :class:`Density` on request."""
        f0 = self.head(lq)
        density = self.estimate(f0)
        # all that follows from the map is computed once and shared by the blocks
        idm, idm_down, sites = density.idm, down(density.idm), ActiveSites(density.mask)
        x = f0
        for block in self.blocks:
            x = block(x, idm, idm_down, sites)
        sr = self.upsample(self.tail(x * idm + density.mu / self.gain))
        return (sr, density) if return_density else sr

    def estimate(self, f0: Tensor) -> Density:
        """Shallow features (B, C, H, W) -> their information density."""
        features = self.gain * (f0.detach() if self.detach_features else f0)
        mu, theta = self.ide(features)
        idm = theta.mean(dim=1, keepdim=True)
        idm = idm.detach() if self.detach_idm else idm
        return Density(quantise(features, self.training), mu, theta, idm, top_k_mask(idm, self.k))
