"""What guides the network: the forms of ``guide``, made of what is known of a picture.

A form is built of nothing. It says by ``per_channel`` whether the guide has a channel for each of F0's, or one.
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
    """What a guide is made of.

    Attributes:
        features, mu (Tensor): (B, C, H, W), F0 times the gain and its predicted mean, in quantisation bins, detached.
        theta (Tensor): (B, C, H, W), the predicted standard deviation, in bins; detached where ``detach_idm`` says so.
        density (Callable): gives the density of each value in the unit of the map, (B, C, H, W).
        map (Callable): the map of a name, (B, 1, H, W): ``idm``, ``sobel``, ``laplacian`` or ``constant``.
    """

    features: Tensor
    mu: Tensor
    theta: Tensor
    density: Callable[[], Tensor]
    map: Callable[[str], Tensor]


class ChannelGuide(nn.Module):
    """A guide with a channel for each of F0's."""

    per_channel = True


@GUIDES.register('deviation')
class Deviation(ChannelGuide):
    """log2(1 + |gain F0 - mu|), the length of what mu does not know."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        return torch.log2(1 + (known.features - known.mu).abs())


@GUIDES.register('bounded')
class Bounded(ChannelGuide):
    """d / (1 + d) with d = |gain F0 - mu|, which no picture takes out of [0, 1)."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        deviation = (known.features - known.mu).abs()
        return deviation / (1 + deviation)


@GUIDES.register('bits')
class Bits(ChannelGuide):
    """-log2 p under theta, the cost of each value."""

    def forward(self, known: Known) -> Tensor:
        """(B, C, H, W)."""
        return information(known.features, known.mu, known.theta)


@GUIDES.register('density')
class Expected(ChannelGuide):
    """The density of each value, which is the expectation of the two above and no sharper than theta."""

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
