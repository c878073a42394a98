"""Routed depth: the last blocks work only at some positions. The other positions keep the features of earlier blocks.

A block consists of operations on single positions (1x1 convolutions, norms, gates, sums) and of a few that read a
neighbourhood. The latter are called through a :class:`Route`, which decides what they see: the features are zero at
positions that are left out. :class:`Masked` multiplies by a mask and computes all positions. :class:`Gathered` gives
the same result, but keeps only the chosen positions, as the rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iafmsr.layers.density import from_all_processes, own_part, top_k_mask
from iafmsr.layers.precision import InFloat32
from iafmsr.ops.sites import ActiveSites

Spatial = Callable[..., Tensor]
_LEVELS = 20  # budgets 1/20, 2/20, ... whose thresholds are kept
_MOMENTUM = 0.01


class Route:
    """All positions: the route of a block that is not routed."""

    def enter(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) -> the same in the layout of the route."""
        return x

    def leave(self, routed: Tensor, x: Tensor) -> Tensor:
        """Routed features at the positions of the route, x (B, C, H, W) at the others."""
        return routed

    def spatial(self, operation: Spatial, x: Tensor, *args: Any) -> Tensor:
        """Apply an ``operation`` that reads neighbourhoods of (B, C, H, W) to x in the layout of the route."""
        return operation(x, *args)


class Masked(Route):
    """A route over the positions of a mask that computes all positions.

    Args:
        mask (Tensor): bool, (B, 1, H, W); True at the positions of the route.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def leave(self, routed: Tensor, x: Tensor) -> Tensor:
        return torch.where(self.mask, routed, x)

    def spatial(self, operation: Spatial, x: Tensor, *args: Any) -> Tensor:
        return operation(x * self.mask, *args)


class Gathered(Route):
    """Only the positions of a mask: features are (1, C, n, 1), one row for each of the n positions of the batch.

    Args:
        sites (ActiveSites): the positions; at least one.
    """

    def __init__(self, sites: ActiveSites) -> None:
        self.sites = sites

    def enter(self, x: Tensor) -> Tensor:
        return self.sites.take(x).t()[None, :, :, None]

    def leave(self, routed: Tensor, x: Tensor) -> Tensor:
        return self.sites.put(x, self._rows(routed))

    def spatial(self, operation: Spatial, x: Tensor, *args: Any) -> Tensor:
        return self.enter(operation(self.sites.spread(self._rows(x)), *args))

    @staticmethod
    def _rows(x: Tensor) -> Tensor:
        return x[0, :, :, 0].t()


EVERYWHERE = Route()


class Guided(NamedTuple):
    """What follows from the density of a batch, computed once and used by every block.

    Attributes:
        guide (Tensor): (B, C or 1, H, W).
        guide_down (Tensor): Down(guide), (B, C or 1, ceil(H/8), ceil(W/8)).
        sites (ActiveSites): the active sites of the mask M.
    """

    guide: Tensor
    guide_down: Tensor
    sites: ActiveSites
    route: Route = EVERYWHERE


class Router(InFloat32):
    """Selects the positions of the routed blocks: those where the map reaches a threshold, the same for all pictures.

    The threshold of a budget b is the value that a share b of all positions of the training pictures reaches. So a
    picture full of detail has a larger share than b, and a flat one a smaller one. In training the share is random for
    every batch: 1 in half of them, from ``low`` to 1 in the others. The thresholds are a moving average over batches.

    Args:
        low (float): smallest budget in training, in (0, 1].

    Raises:
        ValueError: when ``low`` is out of its range.

    Examples:
        >>> Router().eval()(torch.rand(1, 1, 6, 6), budget=1).all()
        tensor(True)
    """

    thresholds: Tensor

    def __init__(self, low: float = 0.2) -> None:
        super().__init__()
        if not 0 < low <= 1:
            raise ValueError(f'the least budget must be in (0, 1], got {low}')
        self.low = low
        self.register_buffer('thresholds', torch.zeros(_LEVELS))

    def forward(self, idm: Tensor, budget: float) -> Tensor:
        """Map (B, 1, H, W) -> bool mask of the same shape; the budget is used in evaluation only."""
        if self.training:
            maps = from_all_processes(idm)
            self._follow(maps)
            return own_part(top_k_mask(maps.view(1, 1, -1, idm.shape[-1]), self._share(idm.device)), idm)
        return idm >= self.threshold(budget)

    def threshold(self, budget: float) -> Tensor:
        """The value that a share ``budget`` of the training pictures' positions reaches, in the unit of the map."""
        if budget >= 1:
            return self.thresholds.new_tensor(-torch.inf)
        place = max(budget * _LEVELS - 1, 0)
        return torch.lerp(self.thresholds[int(place)], self.thresholds[int(place) + 1], place % 1)

    def _share(self, device: torch.device) -> float:
        drawn = float(from_all_processes(torch.rand(1, device=device))[0])  # one for all processes
        return min(1.0, self.low + 2 * (1 - self.low) * drawn)

    @torch.no_grad()
    def _follow(self, idm: Tensor) -> None:
        shares = torch.arange(1, _LEVELS + 1, device=idm.device) / _LEVELS
        found = torch.quantile(idm.flatten(), 1 - shares)
        # values that are not finite must not enter the moving average
        self.thresholds.lerp_(torch.where(found.isfinite(), found, self.thresholds), _MOMENTUM)
