"""Information density estimators: mu and theta of a Gaussian for every value of the shallow features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.bound import lower_bound
from iafmsr.layers.filters import local_mean, neighbour_mean
from iafmsr.layers.gdn import GDN

THETA_MIN = 0.11  # least standard deviation, in quantisation bins (the usual bound in learned compression)


def _conv(num_feat: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(num_feat, num_feat, kernel_size, padding=kernel_size // 2)


class LiteralEstimator(nn.Module):
    """The form of the paper's figure 3: two branches, mu = GELU(GDN(Conv(F))), theta = softplus(GDN(Conv(F))).

    Nothing hides F from its own predictor: mu learns to copy it, and theta stops meaning anything
    (docs/method.md).

    Args:
        num_feat (int): channels C.
        kernel_size (int): of both convolutions; 1 as drawn.
        gdn (bool): False leaves GDN out (the paper's ablation).
    """

    def __init__(self, num_feat: int, kernel_size: int = 1, gdn: bool = True) -> None:
        super().__init__()

        def branch() -> nn.Sequential:
            return nn.Sequential(_conv(num_feat, kernel_size), GDN(num_feat) if gdn else nn.Identity())

        self.mu, self.theta = branch(), branch()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in quantisation bins -> mu, theta, both (B, C, H, W) in bins."""
        return F.gelu(self.mu(features)), lower_bound(F.softplus(self.theta(features)), THETA_MIN)


class DeviationEstimator(nn.Module):
    """Fine detail is hidden from mu: mu = mean of the four neighbours, theta learned from the deviations |F - mu|.

    theta = softplus(Conv1x1(GDN(Conv(mean3x3(|F - mu|))))): still a Gaussian whose scale the entropy loss alone
    learns, but mu, fixed, cannot copy what it has to predict, so that theta has to tell how far off it is.

    Args:
        num_feat (int): channels C.
        kernel_size (int): of the first convolution.
        gdn (bool): False leaves GDN out.
    """

    def __init__(self, num_feat: int, kernel_size: int = 1, gdn: bool = True) -> None:
        super().__init__()
        self.theta = nn.Sequential(
            _conv(num_feat, kernel_size), GDN(num_feat) if gdn else nn.Identity(), nn.Conv2d(num_feat, num_feat, 1)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in quantisation bins -> mu, theta, both (B, C, H, W) in bins."""
        mu = neighbour_mean(features)
        deviation = local_mean((features - mu).abs())
        return mu, lower_bound(F.softplus(self.theta(deviation)), THETA_MIN)


class CausalDWConv2d(nn.Conv2d):
    """A depthwise 5x5 convolution that sees only what comes before a position, row by row: 12 of the 25 places."""

    seen: Tensor

    def __init__(self, num_feat: int) -> None:
        super().__init__(num_feat, num_feat, 5, padding=2, groups=num_feat)
        self.register_buffer('seen', (torch.arange(25) < 12).view(5, 5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.conv2d(x, self.weight * self.seen, self.bias, padding=2, groups=self.groups)


class ContextEstimator(nn.Module):
    """mu, theta = split(Conv1x1(GDN(CausalDWConv5x5(round(F))))): both from the quantised values before a position.

    The conditional entropy that the paper names as future work. As in the context models of learned compression (Minnen
    et al., NeurIPS 2018) a decoder has these values when it comes to the position, so the bits are those of a code.

    Args:
        num_feat (int): channels C.
        gdn (bool): False leaves GDN out.
    """

    def __init__(self, num_feat: int, gdn: bool = True) -> None:
        super().__init__()
        self.context = nn.Sequential(
            CausalDWConv2d(num_feat),
            GDN(num_feat) if gdn else nn.Identity(),
            nn.Conv2d(num_feat, 2 * num_feat, 1),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in quantisation bins -> mu, theta, both (B, C, H, W) in bins."""
        mu, theta = self.context(features.round()).chunk(2, dim=1)
        return mu, lower_bound(F.softplus(theta), THETA_MIN)


class MomentEstimator(nn.Module):
    """mu of :class:`DeviationEstimator`, and the theta that its deviations give without learning.

    A Gaussian's standard deviation is sqrt(pi / 2) times its mean absolute deviation. The control of what the entropy
    loss teaches.
    """

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in quantisation bins -> mu, theta, both (B, C, H, W) in bins."""
        mu = neighbour_mean(features)
        return mu, lower_bound(math.sqrt(math.pi / 2) * local_mean((features - mu).abs()), THETA_MIN)


_FORMS = ('literal', 'deviation', 'context', 'moments')


def build_estimator(name: str, num_feat: int, kernel_size: int, gdn: bool) -> nn.Module:
    """The estimator called ``name``: ``literal``, ``deviation``, ``context`` or ``moments``.

    Only the first two have a kernel of ``kernel_size``; ``moments`` has no GDN either.

    Raises:
        ValueError: for another name.
    """
    if name not in _FORMS:
        raise ValueError(f'ide must be one of {", ".join(_FORMS)}, got {name!r}')
    if name == 'moments':
        return MomentEstimator()
    if name == 'context':
        return ContextEstimator(num_feat, gdn)
    return (LiteralEstimator if name == 'literal' else DeviationEstimator)(num_feat, kernel_size, gdn)
