"""1x1 convolutions as matrices: cut, multiplied, and computed by rows."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iafmsr.layers.pointwise import PointwiseConv2d


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', [(1, 5, 7, 9), (2, 5, 1, 1), (3, 5, 4, 1), (1, 5, 1, 6), (17, 5, 3, 2)])
def test_equals_the_convolution_in_value_gradient_and_layout(shape, layout):
    torch.manual_seed(0)
    conv, x = PointwiseConv2d(5, 8).double(), torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    results = []
    for operator in (conv, lambda x: F.conv2d(x, conv.weight, conv.bias)):
        x = x.detach().requires_grad_()
        conv.zero_grad()
        out = operator(x)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
        assert out.is_contiguous(memory_format=layout)
        results.append((out, x.grad, conv.weight.grad, conv.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_convolution_of_convolutions_and_tensors():
    torch.manual_seed(0)
    first, second = PointwiseConv2d(5, 6).double(), PointwiseConv2d(3 + 4, 8).double()
    x, guide = torch.rand(2, 5, 3, 4).double(), torch.rand(2, 4, 3, 4).double()
    one, two = first.of(x).halves()
    torch.testing.assert_close(torch.cat([one.tensor(), two.tensor()], dim=1), first(x))
    torch.testing.assert_close(second.of(two, guide).tensor(), second(torch.cat([first(x)[:, 3:], guide], dim=1)))


def test_the_product_of_matrices_is_in_full_precision_under_autocast():
    first, second, x = PointwiseConv2d(5, 6), PointwiseConv2d(6, 8), torch.rand(1, 5, 3, 4)
    with torch.autocast('cpu', torch.bfloat16):
        both = second.of(first.of(x))
        assert both.tensor().dtype == torch.bfloat16
    torch.testing.assert_close(both.terms[0][1], second.weight.flatten(1) @ first.weight.flatten(1))
    torch.testing.assert_close(both.bias, second.weight.flatten(1) @ first.bias + second.bias)


def test_a_checkpoint_of_convolutions_fits():
    conv, ours = nn.Conv2d(5, 8, 1), PointwiseConv2d(5, 8)
    ours.load_state_dict(conv.state_dict())
    x = torch.rand(1, 5, 3, 4)
    torch.testing.assert_close(ours(x), conv(x))
