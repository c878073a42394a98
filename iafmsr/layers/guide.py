"""The forms of the option ``guide``: how the guide of the network is computed from the features of a picture.

The constructor of a form takes no arguments. ``per_channel`` is True if the guide has one channel per channel of F0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iafmsr.layers.density import information
from iafmsr.layers.registry import Forms

GUIDES = Forms('guide')


class Known(NamedTuple):
    """The values that a guide is computed from.

    Attributes:
        features, mu (Tensor): (B, C, H, W), F0 times the gain and its predicted mean, in quantisation bins, detached.
        theta (Tensor): (B, C, H, W), the predicted standard deviation, in bins; detached if ``detach_idm`` is True.
        density (Callable): returns the density of each value in the unit of the map, (B, C, H, W).
        map (Callable): returns the map of a name (``idm``, ``sobel``, ``laplacian`` or ``constant``), (B, 1, H, W).
    """

    features: Tensor
    mu: Tensor
    theta: Tensor
    density: Callable[[], Tensor]
    map: Callable[[str], Tensor]


class ChannelGuide(nn.Module):
    """A guide with one channel for each channel of F0."""

    per_channel = True


@GUIDES.register('deviation')
class Deviation(ChannelGuide):
    """log2(1 + |gain F0 - mu|): how far each value is from its prediction, on a logarithmic scale."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        return torch.log2(1 + (known.features - known.mu).abs())


@GUIDES.register('bounded')
class Bounded(ChannelGuide):
    """d / (1 + d) with d = |gain F0 - mu|: in [0, 1) for any picture."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        deviation = (known.features - known.mu).abs()
        return deviation / (1 + deviation)


@GUIDES.register('bits')
class Bits(ChannelGuide):
    """-log2 p, with p from mu and theta: the coding cost of each value in bits."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        return information(known.features, known.mu, known.theta)


@GUIDES.register('density')
class Expected(ChannelGuide):
    """The density of each value: the expected value of ``deviation`` and of ``bits``, no sharper than theta."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        return known.density()


class OneMap(nn.Module):
    """One map for all channels: the mean density, a fixed filter of the picture, or 1 everywhere."""

    per_channel = False

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, known: Known) -> Tensor:
        """(B, 1, H, W)."""
        return known.map(self.name)


for _name in ('idm', 'sobel', 'laplacian', 'constant'):
    GUIDES.register(_name)(partial(OneMap, _name))
