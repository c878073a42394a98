"""The density estimators, and the fixed filters beside them."""

import pytest
import torch
import torch.nn.functional as F

from iafmsr.layers.density import information, quantise
from iafmsr.layers.estimator import THETA_MIN, ContextEstimator, DeviationEstimator, LiteralEstimator, MomentEstimator
from iafmsr.layers.filters import laplacian, local_mean, local_std, neighbour_mean, sobel


@pytest.mark.parametrize('estimator', [LiteralEstimator, DeviationEstimator, ContextEstimator])
@pytest.mark.parametrize('gdn', [True, False])
def test_theta_has_its_bound_and_every_parameter_learns(estimator, gdn):
    torch.manual_seed(0)
    ide = estimator(4, gdn=gdn)
    mu, theta = ide(10 * torch.randn(2, 4, 5, 5))
    assert (theta >= THETA_MIN).all()
    (mu.sum() + theta.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ide.parameters())


def test_entropy_alone_teaches_theta_where_the_detail_is():
    """Half the map is noise of deviation 8, half is flat: theta has to become large there and small here."""
    torch.manual_seed(0)
    ide = DeviationEstimator(2)
    optimizer = torch.optim.Adam(ide.parameters(), 1e-2)

    def features():
        noise = torch.zeros(4, 2, 16, 16)
        noise[..., 8:] = 8 * torch.randn(4, 2, 16, 8)
        return noise

    costs = []
    for _ in range(200):
        f = features()
        mu, theta = ide(f)
        cost = information(quantise(f, training=True), mu, theta).mean()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    theta = ide(features())[1]
    assert costs[-1] < 0.5 * costs[0]
    # a value minus the mean of its four neighbours has deviation 8 sqrt(1 + 1/4)
    assert theta[..., 10:].mean().item() == pytest.approx(8 * 1.25**0.5, rel=0.2)
    assert theta[..., :6].max() < 1


def test_context_knows_of_a_position_what_came_before_it_alone():
    """A change of one value changes mu and theta in the two rows below and to the right of it, and nowhere else."""
    torch.manual_seed(0)
    ide, features = ContextEstimator(3).double(), 10 * torch.randn(1, 3, 9, 9, dtype=torch.float64)
    changed = features.clone()
    changed[..., 4, 4] += 5
    moved = sum((a - b).abs().sum(1)[0] for a, b in zip(ide(features), ide(changed), strict=True)) > 0
    reached = torch.zeros(9, 9, dtype=torch.bool)
    reached[4, 5:7] = reached[5:7, 2:7] = True
    assert torch.equal(moved, reached)


def test_moments_find_the_deviation_of_noise_without_learning():
    torch.manual_seed(0)
    mu, theta = MomentEstimator()(8 * torch.randn(4, 2, 32, 32, dtype=torch.float64))
    assert theta.mean().item() == pytest.approx(8 * 1.25**0.5, rel=0.02)
    assert (MomentEstimator()(torch.ones(1, 2, 4, 4))[1] == THETA_MIN).all()


def test_means_leave_out_what_lies_beyond_the_border():
    x = torch.rand(1, 2, 5, 6, dtype=torch.float64)
    assert torch.allclose(neighbour_mean(x)[0, 0, 0, 0], (x[0, 0, 0, 1] + x[0, 0, 1, 0]) / 2)
    cross = x[0, 1, 1, 3] + x[0, 1, 3, 3] + x[0, 1, 2, 2] + x[0, 1, 2, 4]
    assert torch.allclose(neighbour_mean(x)[0, 1, 2, 3], cross / 4)
    assert torch.allclose(local_mean(x)[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    constant = torch.full((1, 2, 4, 3), 7.0)
    torch.testing.assert_close(neighbour_mean(constant), constant)
    torch.testing.assert_close(local_mean(constant), constant)
    assert torch.equal(neighbour_mean(torch.ones(1, 1, 1, 1)), torch.zeros(1, 1, 1, 1))  # no neighbours at all


def test_filters_on_a_ramp_and_a_point():
    ramp = torch.arange(8.0).repeat(6, 1)[None, None]
    assert torch.allclose(sobel(ramp)[..., 1:-1, 1:-1], torch.ones(()))  # one value a pixel
    assert torch.allclose(laplacian(ramp)[..., 1:-1, 1:-1], torch.zeros(()))
    assert torch.allclose(local_std(ramp)[..., 1:-1, 1:-1], torch.tensor(2 / 3).sqrt(), atol=1e-3)
    point = F.pad(torch.ones(1, 1, 1, 1), (3, 3, 3, 3))
    assert laplacian(point)[0, 0, 3, 3] == 1 and laplacian(point)[0, 0, 3, 4] == 0.25
