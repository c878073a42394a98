"""Interval probabilities, bits, and the mask of the densest sites."""

import math

import pytest
import torch

from iafmsr.layers.density import (
    LIKELIHOOD_MIN,
    information,
    interval_probability,
    quantise,
    top_k_mask,
)


@pytest.mark.parametrize('theta', [0.11, 0.5, 3.0, 20.0])
@pytest.mark.parametrize('mu', [0.0, 0.3, -7.5])
def test_probabilities_of_all_bins_sum_to_one(mu, theta):
    bins = torch.arange(-400, 401, dtype=torch.float64)
    p = interval_probability(bins, torch.full_like(bins, mu), torch.full_like(bins, theta))
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)


def test_closed_form_in_float64():
    x, mu, theta = 2.0, 1.25, 0.8

    def cdf(v):
        return 0.5 * (1 + math.erf(v / math.sqrt(2)))

    p = cdf((x + 0.5 - mu) / theta) - cdf((x - 0.5 - mu) / theta)
    args = (torch.tensor([v], dtype=torch.float64) for v in (x, mu, theta))
    assert information(*args).item() == pytest.approx(-math.log2(p), rel=1e-12)


def test_gradient_in_closed_form():
    torch.manual_seed(0)
    args = [torch.randn(50, dtype=torch.float64, requires_grad=True) * scale for scale in (3, 1)]
    theta = (0.11 + 3 * torch.rand(50, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(interval_probability, (*args, theta))


def test_the_tail_keeps_its_precision_in_float32():
    x, mu, theta = torch.tensor([5.0]), torch.tensor([0.0]), torch.tensor([1.0])
    exact = interval_probability(x.double(), mu.double(), theta.double())  # 3.4e-6: 1 - cdf loses it in float32
    torch.testing.assert_close(interval_probability(x, mu, theta).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize('x', [0.0, 1e-30, 1.0, -50.0, 1e10, 3e38, -3e38])
@pytest.mark.parametrize('mu', [0.0, 3e38, -3e38])
@pytest.mark.parametrize('theta', [0.11, 1.0, 1e20, 3e38])
def test_value_and_gradient_are_finite_for_any_finite_input(x, mu, theta):
    args = [torch.tensor([v], requires_grad=True) for v in (x, mu, theta)]
    bits = information(*args)
    bits.sum().backward()
    assert 0 <= bits.item() <= -math.log2(LIKELIHOOD_MIN) + 1e-4
    assert all(torch.isfinite(a.grad).all() for a in args)


def test_entropy_of_the_model_is_the_mean_cost_under_the_model():
    torch.manual_seed(0)
    mu, theta = torch.zeros(200_000), torch.full((200_000,), 2.0)
    coded = quantise(theta * torch.randn(200_000), training=False)
    bins = torch.arange(-60, 61, dtype=torch.float64)
    p = interval_probability(bins, torch.zeros_like(bins), torch.full_like(bins, 2.0))
    entropy = -(p * p.clamp(min=1e-300).log2()).sum().item()
    assert information(coded, mu, theta).mean().item() == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize('k', [0, -0.1, 1.01, math.nan])
def test_a_share_out_of_its_range_is_named(k):
    with pytest.raises(ValueError, match='k must be in'):
        top_k_mask(torch.rand(1, 1, 4, 4), k)


def test_quantise():
    x = torch.tensor([-1.6, 0.2, 3.4])
    assert quantise(x, training=False).tolist() == [-2, 0, 3]
    noise = quantise(torch.zeros(100_000), training=True)
    assert -0.5 <= noise.min() and noise.max() <= 0.5
    assert noise.var().item() == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (8, 8), (13, 29), (64, 64)])
@pytest.mark.parametrize('k', [0.001, 0.05, 0.5, 1.0])
@pytest.mark.parametrize('kind', ['noise', 'flat', 'steps'])
def test_the_highest_k_are_active_and_equal_values_stand_or_fall_together(size, k, kind):
    torch.manual_seed(0)
    idm = {
        'noise': torch.rand(3, 1, *size),
        'flat': torch.ones(3, 1, *size),
        'steps': torch.randint(3, (3, 1, *size)).float(),
    }[kind]
    mask = top_k_mask(idm, k)
    n = max(1, math.floor(k * size[0] * size[1] + 0.5))
    assert mask.dtype == torch.bool and mask.shape == idm.shape
    for values, chosen in zip(idm.flatten(1).tolist(), mask.flatten(1).tolist(), strict=True):
        # a value is active when it and all that are at least as high are no more than n
        assert chosen == [sum(other >= value for other in values) <= n for value in values]
    if kind == 'noise':
        assert mask.flatten(1).sum(1).tolist() == [n] * 3
