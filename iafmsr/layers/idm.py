"""From shallow features to the information density map and the mask: one module for any network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from iafmsr.layers.density import (
    Density,
    quantise,
    top_k_mask,
    top_k_mask_of_batch,
)
from iafmsr.layers.estimator import build_estimator
from iafmsr.layers.filters import laplacian, local_mean, luma, sobel
from iafmsr.layers.guide import GUIDES, Known
from iafmsr.layers.precision import InFloat32, at_least_float32, full_precision

_UNITS = ('theta', 'bits', 'normalised')
MAPS = ('idm', 'sobel', 'laplacian', 'mean_laplacian', 'random')
_WHOLES = ('batch', 'picture')
_STEPS = 2**15  # steps per bit, to which a map is rounded for the mask


class Maps(NamedTuple):
    """The maps that depend on the whole picture. For a tile they are computed from the picture and passed in.

    Attributes:
        idm (Tensor): (B, 1, H, W), the information density map.
        mask (Tensor): bool, (B, 1, H, W), the active sites.
    """

    idm: Tensor
    mask: Tensor


class InformationDensity(InFloat32):
    """Estimates the density of F0, and turns it into the map that guides a network and the mask of its active sites.

    The keywords after ``k`` set what the paper leaves open or ablates. The fixed maps are controls: their unit is
    that of the learned map, log2(1 + gain * filter).

    Args:
        num_feat (int): channels C of F0.
        k (float): share of active sites, in (0, 1]; in evaluation always a share of each picture. The values of the map
            are compared in steps of 2^-15 bits.
        k_of (str): what k is a share of in training, where the pictures are patches. ``batch``: of the whole batch, so
            that patches full of detail have many active sites and flat ones none, like the areas of a whole picture.
            ``picture``: of each patch, so that all have the same number. The sparse convolution then never learns what
            fully active areas need (docs/experiments-log.md, section 11).
        ide (str): ``literal``, ``deviation``, ``context`` or ``moments``, see :mod:`iafmsr.layers.estimator`.
        ide_kernel_size (int): kernel size of the estimator's first convolutions.
        gdn (bool): False leaves GDN out of the estimator.
        gain (float): F0 is multiplied by it before quantisation, so that the features span several bins.
        idm_unit (str): unit of the density. ``theta``: theta itself. ``bits``: log2(1 + theta), cost up to a constant.
            ``normalised``: ``bits``, divided by the mean of the picture's map. The map is the mean over the channels.
        detach_idm (bool): True: the loss of the image does not train theta through the map.
        detach_features (bool): True: no gradient flows from the estimator to F0, so the entropy loss does not train F0.
        guide (str): what guides the network, one of the forms of :mod:`iafmsr.layers.guide`. With a channel for each of
            F0's: ``deviation``, ``bounded``, ``bits`` or ``density``. Or one map: ``idm`` (the mean density),
            ``sobel``, ``laplacian`` or ``constant`` (1 everywhere).
        mask (str): the map whose top k is active: ``idm``, ``sobel``, ``laplacian``, ``mean_laplacian`` (averaged over
            3x3) or ``random``.

    Raises:
        ValueError: when an argument is out of its range.

    Examples:
        >>> density = InformationDensity(8, k=0.25)(torch.rand(1, 8, 4, 6), torch.rand(1, 3, 4, 6))
        >>> density.idm.shape, density.mask.sum()
        (torch.Size([1, 1, 4, 6]), tensor(6))
    """

    def __init__(
        self,
        num_feat: int,
        k: float = 0.05,
        *,
        ide: str = 'deviation',
        ide_kernel_size: int = 1,
        gdn: bool = True,
        gain: float = 64.0,
        idm_unit: str = 'bits',
        detach_idm: bool = True,
        detach_features: bool = True,
        guide: str = 'bounded',
        mask: str = 'idm',
        k_of: str = 'batch',
    ) -> None:
        super().__init__()
        if not 0 < k <= 1:
            raise ValueError(f'k must be in (0, 1], got {k}')
        if not gain > 0:
            raise ValueError(f'gain must be positive, got {gain}')
        for name, value, known in (
            ('idm_unit', idm_unit, _UNITS),
            ('mask', mask, MAPS),
            ('k_of', k_of, _WHOLES),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {", ".join(known)}, got {value!r}')
        self.form = GUIDES.find(guide)()
        if self.form.per_channel and idm_unit == 'normalised':
            raise ValueError("idm_unit 'normalised' needs a guide of one map: guide must be 'idm'")
        self.k, self.k_of, self.gain, self.idm_unit, self.guide, self.mask = k, k_of, gain, idm_unit, guide, mask
        self.detach_idm, self.detach_features = detach_idm, detach_features
        self.num_guide = num_feat if self.form.per_channel else 1  # channels of the guide
        self.estimator = build_estimator(ide, num_feat, ide_kernel_size, gdn)

    def forward(self, f0: Tensor, lq: Tensor, maps: tuple[Tensor, Tensor] | None = None) -> Density:
        """F0 (B, C, H, W) of the picture lq (B, 3, H, W) -> its :class:`~iafmsr.layers.density.Density`, in float32.

        For a tile, pass ``maps``: the part of the whole picture's maps that the tile covers.
        """
        with full_precision(f0):
            features, mu, theta = self._estimate(f0)
            idm, mask = self.maps(self._local_map(theta), lq) if maps is None else maps
            known = Known(
                features.detach(),
                mu.detach(),
                theta.detach() if self.detach_idm else theta,
                lambda: self._density(theta),
                lambda name: self.choose(name, idm, lq),
            )
            return Density(quantise(features, self.training), mu, theta, idm, mask, self.form(known))

    def local_map(self, f0: Tensor) -> Tensor:
        """F0 (B, C, H, W) -> the learned map (B, 1, H, W) in float32, without normalisation over the picture."""
        with full_precision(f0):
            return self._local_map(self._estimate(f0)[2])

    def maps(self, local_map: Tensor, lq: Tensor) -> Maps:
        """The :meth:`local_map` (B, 1, H, W) of the whole picture lq (B, 3, H, W) -> its final map and its mask."""
        with full_precision(local_map):
            lq = at_least_float32(lq)
            idm = local_map
            if self.idm_unit == 'normalised':
                idm = idm / idm.mean(dim=(2, 3), keepdim=True)
            top_k = top_k_mask_of_batch if self.training and self.k_of == 'batch' else top_k_mask
            # rounded to steps, so that rounding errors in flat areas become ties, which are not active
            return Maps(idm, top_k(torch.round(_STEPS * self.choose(self.mask, idm, lq)), self.k))

    def _estimate(self, f0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F0 in quantisation bins, its mu and its theta: (B, C, H, W) each."""
        features = self.gain * at_least_float32(f0.detach() if self.detach_features else f0)
        return features, *self.estimator(features)

    def _density(self, theta: Tensor) -> Tensor:
        """The density of each value, in the unit of the map."""
        theta = theta.detach() if self.detach_idm else theta
        return theta if self.idm_unit == 'theta' else torch.log2(1 + theta)

    def _local_map(self, theta: Tensor) -> Tensor:
        return self._density(theta).mean(dim=1, keepdim=True)

    def choose(self, name: str, idm: Tensor, lq: Tensor) -> Tensor:
        """The map called ``name``, (B, 1, H, W): the given ``idm``, or a fixed map of lq in the same unit."""
        if name == 'idm':
            return idm
        if name == 'constant':
            return torch.ones_like(idm)
        if name == 'random':
            # evaluation must give the same picture each time, on any device
            generator = None if self.training else torch.Generator().manual_seed(0)
            return torch.rand(idm.shape, generator=generator).to(idm.device)
        y = luma(lq)
        fixed = sobel(y) if name == 'sobel' else laplacian(y)
        return torch.log2(1 + self.gain * (local_mean(fixed) if name == 'mean_laplacian' else fixed))
