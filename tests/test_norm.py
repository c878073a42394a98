"""Norms over the channels."""

import pytest
import torch
import torch.nn.functional as F

from iafmsr.layers.norm import ChannelL2Norm


def test_l2_norm_equals_pytorchs_in_value_and_gradient():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    x[0, :, 1, 1] = 0
    x[1, :, 2, 2] = 1e-14  # below the least norm
    weight = torch.randn_like(x)
    results = []
    for operator in (ChannelL2Norm(), lambda x: F.normalize(x, dim=1)):
        x = x.detach().requires_grad_()
        out = operator(x)
        (out * weight).sum().backward()
        results.append((out, x.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_l2_norm_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(ChannelL2Norm(), torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True))


def test_l2_norm_in_half_precision():
    x = torch.randn(1, 40, 3, 3)
    for dtype in (torch.bfloat16, torch.float16):
        out = ChannelL2Norm()(x.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), F.normalize(x, dim=1), rtol=0.02, atol=0.01)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_l2_of_nothing_is_nothing_in_every_type(dtype):
    assert torch.equal(ChannelL2Norm()(torch.zeros(1, 4, 2, 2, dtype=dtype)), torch.zeros(1, 4, 2, 2, dtype=dtype))
