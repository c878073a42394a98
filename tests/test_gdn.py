"""GDN is the published layer."""

import pytest
import torch

from iafmsr.layers.bound import lower_bound
from iafmsr.layers.gdn import GDN


def test_closed_form_at_the_start():
    x = 3 * torch.randn(2, 5, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(GDN(5).double()(x), x / torch.sqrt(1 + 0.1 * x**2))


def test_closed_form_with_channels_mixed():
    gdn = GDN(3).double()
    beta, gamma = torch.rand(3, dtype=torch.float64) + 0.1, torch.rand(3, 3, dtype=torch.float64)
    with torch.no_grad():
        gdn.beta.copy_(beta.sqrt())
        gdn.gamma.copy_(gamma.sqrt())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    norm = beta.view(1, 3, 1, 1) + torch.einsum('ij,bjhw->bihw', gamma, x**2)
    torch.testing.assert_close(gdn(x), x / norm.sqrt(), rtol=1e-9, atol=1e-9)


def test_gradcheck():
    gdn = GDN(3).double()
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gdn, x)


def test_beta_and_gamma_stay_in_range_and_can_come_back():
    gdn = GDN(2)
    with torch.no_grad():
        gdn.beta.fill_(-1.0)
        gdn.gamma.fill_(-1.0)
    x = torch.randn(1, 2, 3, 3)
    y = gdn(x)
    torch.testing.assert_close(y, x / 1e-6**0.5, rtol=1e-3, atol=0)  # beta_min alone divides
    y.abs().sum().backward()  # descent wants more division: beta has to grow
    assert (gdn.beta.grad < 0).all()


@pytest.mark.parametrize('grad, kept', [(-1.0, True), (1.0, False)])
def test_lower_bound_is_left_upwards_only(grad, kept):
    x = torch.tensor([0.0], requires_grad=True)
    y = lower_bound(x, 0.5)
    assert y.item() == 0.5
    y.backward(torch.tensor([grad]))
    assert x.grad.item() == (grad if kept else 0)


def test_half_precision_does_not_overflow():
    x = torch.full((1, 4, 2, 2), 1000.0)  # squares are beyond float16
    with torch.autocast('cpu', torch.bfloat16):
        y = GDN(4)(x.to(torch.bfloat16))
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x / torch.sqrt(1 + 0.1 * x**2), rtol=1e-2, atol=0)
