"""The information density of shallow features: quantisation, coding cost, and the mask of the densest sites."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from iafmsr.layers.bound import lower_bound
from iafmsr.layers.precision import at_least_float32, full_precision

LIKELIHOOD_MIN = 1e-9  # smallest probability of a bin: no value costs more than 29.9 bits
# erfc(8) is 1e-29. Beyond 8, erfc and its gradient become subnormal numbers, which a CPU computes ten times slower
_FURTHEST = 8.0


class Density(NamedTuple):
    """The results of the estimator for a batch: all that the entropy loss and the tools need.

    Attributes:
        features (Tensor): (B, C, H, W), F0 times the gain, quantised (noise added in training, rounded in evaluation).
        mu (Tensor): (B, C, H, W), the predicted mean, in quantisation bins.
        theta (Tensor): (B, C, H, W), the predicted standard deviation, in quantisation bins, at least 0.11.
        idm (Tensor): (B, 1, H, W), the information density map: the mean over the channels, not negative.
        mask (Tensor): bool, (B, 1, H, W), the active sites.
        guide (Tensor): (B, C or 1, H, W), the guide of the network: one map for each channel, or one map for all.
    """

    features: Tensor
    mu: Tensor
    theta: Tensor
    idm: Tensor
    mask: Tensor
    guide: Tensor


def quantise(features: Tensor, training: bool) -> Tensor:
    """Quantisation to whole numbers: U(-1/2, 1/2) added in training, rounding in evaluation (IAFMNet, section 3.1)."""
    return features + (torch.rand_like(features) - 0.5) if training else features.round()


def interval_probability(features: Tensor, mu: Tensor, theta: Tensor) -> Tensor:
    """p = Phi((f + 1/2 - mu) / theta) - Phi((f - 1/2 - mu) / theta): the Gaussian mass of the bin around f.

    The bin is mirrored into the lower tail first, where erfc keeps its precision. Value and gradient are finite for
    any finite input.

    Args:
        features, mu (Tensor): any shape, in quantisation bins.
        theta (Tensor): the standard deviation, positive, of the same shape.

    Returns:
        Tensor: p in [0, 1], without a positive floor: values below 1e-29 become zero.
    """
    slope = math.sqrt(0.5) / theta
    # the first clamp keeps the products finite; at such a distance p is zero anyway
    away = (features - mu).abs().clamp(max=1e18)
    inner, outer = ((slope * (away + edge)).clamp(max=_FURTHEST) for edge in (-0.5, 0.5))
    return (torch.erfc(inner) - torch.erfc(outer)) / 2


def information(features: Tensor, mu: Tensor, theta: Tensor) -> Tensor:
    """R = -log2 p of each quantised value, in bits, between 0 and 29.9 (the likelihood has a floor of 1e-9).

    Computed in float32 at least, also under autocast. Shapes as in :func:`interval_probability`.
    """
    with full_precision(features):
        features, mu, theta = (at_least_float32(t) for t in (features, mu, theta))
        return -torch.log2(lower_bound(interval_probability(features, mu, theta), LIKELIHOOD_MIN))


def num_active(height: int, width: int, k: float) -> int:
    """Number of active sites of a picture: max(1, floor(k H W + 0.5)).

    Computed in whole numbers, with k rounded to a millionth: an exported graph, without float64, gives the same number.

    Raises:
        ValueError: when the share k is not in (0, 1].
    """
    if not 0 < k <= 1:
        raise ValueError(f'k must be in (0, 1], got {k}')
    share = Fraction(k).limit_denominator(10**6)
    return max(1, (2 * share.numerator * height * width + share.denominator) // (2 * share.denominator))


def top_k_mask(idm: Tensor, k: float) -> Tensor:
    """The sites with the highest values of a map, :func:`num_active` of them in every picture, fewer where values tie.

    Equal values are either all active or all inactive: those that would exceed the number are left out. So a flat
    picture has no active sites, nor has the blank part of a page, and no mask depends on the order of the positions.

    Args:
        idm (Tensor): (B, 1, H, W).
        k (float): the share of active sites, in (0, 1].

    Returns:
        Tensor: bool, (B, 1, H, W), without gradient.

    Examples:
        >>> top_k_mask(torch.tensor([[[[1.0, 3.0, 2.0, 0.0]]]]), k=0.5)
        tensor([[[[False,  True,  True, False]]]])
    """
    b, _, h, w = idm.shape
    values, n = idm.detach().reshape(b, -1), num_active(h, w, k)
    threshold = values.topk(n, dim=1).values[:, -1:]
    reached = values >= threshold
    tied_fit = reached.sum(dim=1, keepdim=True) <= n
    return (reached & (tied_fit | (values > threshold))).view(b, 1, h, w)


def top_k_mask_of_batch(idm: Tensor, k: float) -> Tensor:
    """The sites with the highest values in the batch of all processes: k is a share of the batch, not of a picture.

    Arguments and result as in :func:`top_k_mask`. The number of active sites differs from picture to picture.
    """
    return own_part(top_k_mask(from_all_processes(idm).view(1, 1, -1, idm.shape[-1]), k), idm)


def own_part(mask: Tensor, idm: Tensor) -> Tensor:
    """This process's part of the ``mask`` of all processes, whose maps lie one below the other."""
    b, _, h, w = idm.shape
    own = dist.get_rank() if parallel() else 0
    return mask.view(-1, 1, h, w)[own * b : (own + 1) * b]


def from_all_processes(x: Tensor) -> Tensor:
    """x (B, ...) of every process, one after the other, without gradient: (processes B, ...)."""
    here = x.detach().contiguous()
    if not parallel():
        return here
    everywhere = [torch.empty_like(here) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, here)
    return torch.cat(everywhere)


def parallel() -> bool:
    """Whether several processes train one network."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
