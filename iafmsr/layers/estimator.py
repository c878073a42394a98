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

    The predictor sees the value that it predicts: mu learns to copy it, and theta becomes meaningless
    (docs/method.md).

    Args:
        num_feat (int): channels C.
        kernel_size (int): kernel size of both convolutions; 1 in the figure.
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
    """mu is the mean of the four neighbours, and theta is learned from the deviations |F - mu|.

    theta = softplus(Conv1x1(GDN(Conv(mean3x3(|F - mu|))))). Only the entropy loss trains the scale of the
    Gaussian. But mu is fixed and cannot copy the value that it predicts, so theta has to predict the error of mu.

    Args:
        num_feat (int): channels C.
        kernel_size (int): kernel size of the first convolution.
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
    """A depthwise 5x5 convolution that sees only the positions before the current one, row by row: 12 of the 25."""

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
    et al., NeurIPS 2018), a decoder already knows these values at that position, so the bits are those of a real code.

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
    """mu as in :class:`DeviationEstimator`, and theta computed from the deviations, without learning.

    A Gaussian's standard deviation is sqrt(pi / 2) times its mean absolute deviation. This form is a control: it shows
    what the entropy loss adds.
    """

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in quantisation bins -> mu, theta, both (B, C, H, W) in bins."""
        mu = neighbour_mean(features)
        return mu, lower_bound(math.sqrt(math.pi / 2) * local_mean((features - mu).abs()), THETA_MIN)


_FORMS = ('literal', 'deviation', 'context', 'moments')


def build_estimator(name: str, num_feat: int, kernel_size: int, gdn: bool) -> nn.Module:
    """The estimator called ``name``: ``literal``, ``deviation``, ``context`` or ``moments``.

    Only the first two use ``kernel_size``. ``moments`` has no GDN either.

    Raises:
        ValueError: when the name is unknown.
    """
    if name not in _FORMS:
        raise ValueError(f'ide must be one of {", ".join(_FORMS)}, got {name!r}')
    if name == 'moments':
        return MomentEstimator()
    if name == 'context':
        return ContextEstimator(num_feat, gdn)
    return (LiteralEstimator if name == 'literal' else DeviationEstimator)(num_feat, kernel_size, gdn)
