"""The information entropy loss."""

import pytest
import torch
from basicsr.losses import build_loss

from iafmsr.layers.density import Density, information, top_k_mask
from iafmsr.models.losses import InformationEntropyLoss


def density(batch=2, dtype=torch.float64, requires_grad=False) -> Density:
    torch.manual_seed(0)
    mu, theta = 4 * torch.randn(batch, 3, 4, 5, dtype=dtype), 0.2 + 3 * torch.rand(batch, 3, 4, 5, dtype=dtype)
    features = mu + theta * torch.randn(batch, 3, 4, 5, dtype=dtype)  # above the likelihood floor
    parts = [t.requires_grad_(requires_grad) for t in (features, mu, theta)]
    idm = theta.mean(1, keepdim=True)
    return Density(*parts, idm, top_k_mask(idm, 0.05), idm)


def test_reductions():
    d = density()
    bits = information(d.features, d.mu, d.theta)
    expected = {'sum': bits.sum() / 2, 'pixel': bits.sum() / (2 * 4 * 5), 'mean': bits.mean()}
    for reduction, value in expected.items():
        loss, bpp = InformationEntropyLoss(0.5, reduction)(d)
        torch.testing.assert_close(loss, 0.5 * value)
        torch.testing.assert_close(bpp, expected['pixel'])


@pytest.mark.parametrize('reduction', ['sum', 'pixel', 'mean'])
def test_means_the_same_however_a_batch_is_shared(reduction):
    d, loss = density(4), InformationEntropyLoss(1.0, reduction)
    halves = [loss(Density(*(t[i : i + 2] for t in d)))[0] for i in (0, 2)]
    torch.testing.assert_close(loss(d)[0], sum(halves) / 2)


def test_gradcheck():
    d = density(1, requires_grad=True)

    def loss(features, mu, theta):
        return InformationEntropyLoss(1.0, 'mean')(Density(features, mu, theta, d.idm, d.mask, d.guide))[0]

    assert torch.autograd.gradcheck(loss, (d.features, d.mu, d.theta))


def test_float32_inside_under_autocast():
    d = density(dtype=torch.float32)
    exact = InformationEntropyLoss()(d)[0]
    with torch.autocast('cpu', torch.bfloat16):
        loss = InformationEntropyLoss()(d)[0]
    assert loss.dtype == torch.float32 and torch.equal(loss, exact)


def test_registered_and_refuses_an_unknown_reduction():
    assert isinstance(build_loss({'type': 'InformationEntropyLoss', 'loss_weight': 1e-4}), InformationEntropyLoss)
    with pytest.raises(ValueError, match='sum, pixel, mean'):
        InformationEntropyLoss(reduction='none')
