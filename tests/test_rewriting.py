"""Graphs that are written anew: 1x1 convolutions that follow one another, and what is computed twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exportable import exportable
from torch import Tensor, nn

from iafmsr.nets.graph import to_onnx
from iafmsr.nets.rewriting import rewrite
from iafmsr.nets.trained import TrainedNet

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
reference = pytest.importorskip('onnx.reference')


class Chain(nn.Module):
    """A body of convolutions by name, and what is made of them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **convolutions: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleDict(convolutions)
        self.of = forward

    def forward(self, lq: Tensor) -> Tensor:
        return self.of(self.body, lq)


def product(wide: int, out: int, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(wide, out, 1, **more)


CHAINS = {
    # name: what is made of the convolutions, the convolutions, how many are left
    'one after the other': (lambda m, x: m['b'](m['a'](x)), {'a': product(3, 8), 'b': product(8, 3)}, 1),
    'three': (
        lambda m, x: m['c'](m['b'](m['a'](x))),
        {'a': product(3, 8), 'b': product(8, 8), 'c': product(8, 3)},
        1,
    ),
    'two that take one': (
        lambda m, x: m['b'](m['a'](x)) * m['c'](m['a'](x)).tanh(),
        {'a': product(3, 3), 'b': product(3, 3), 'c': product(3, 3, bias=False)},
        2,
    ),
    'without bias': (lambda m, x: m['b'](m['a'](x)), {'a': product(3, 8, bias=False), 'b': product(8, 3)}, 1),
    'a bottleneck, which is less arithmetic': (
        lambda m, x: m['b'](m['a'](x)),
        {'a': product(3, 1), 'b': product(1, 3)},
        2,
    ),
    'a value that is also taken otherwise': (
        lambda m, x: m['b'](m['a'](x)) + m['a'](x).relu(),
        {'a': product(3, 3), 'b': product(3, 3)},
        2,
    ),
    'a wider kernel after it': (
        lambda m, x: m['b'](m['a'](x)),
        {'a': product(3, 8), 'b': nn.Conv2d(8, 3, 3, padding=1)},
        2,
    ),
    'a wider kernel before it': (
        lambda m, x: m['b'](m['a'](x)),
        {'a': nn.Conv2d(3, 8, 3, padding=1), 'b': product(8, 3)},
        2,
    ),
    'groups': (lambda m, x: m['b'](m['a'](x)), {'a': product(3, 6, groups=3), 'b': product(6, 3)}, 2),
    'padding': (
        lambda m, x: m['b'](m['a'](x))[..., 1:-1, 1:-1],
        {'a': product(3, 8), 'b': product(8, 3, padding=1)},
        2,
    ),
}


@pytest.mark.parametrize('name', CHAINS)
def test_products_that_follow_one_another_are_one(name: str) -> None:
    """V (U x + u) + v is one product, where that is less arithmetic; the result stays, for pictures of any size."""
    torch.manual_seed(0)
    forward, convolutions, left = CHAINS[name]
    net = Chain(forward, **convolutions).eval()
    model = onnx.load_from_string(to_onnx(TrainedNet(net, 'Chain', scale=1)))
    assert sum(node.op_type == 'Conv' for node in model.graph.node) == left
    lq = torch.rand(2, 3, 5, 7)
    (got,) = reference.ReferenceEvaluator(model).run(None, {'lq': lq.numpy()})
    assert torch.allclose(torch.from_numpy(got), net(lq), rtol=0, atol=1e-6)


def test_ifem_is_three_products_in_a_graph() -> None:
    """Without the guide, expand of IFEM, expand and scale of ARM are one product each for F1, b and s."""
    count = {}
    for arm in ('no_idm', 'off'):
        nodes = onnx.load_from_string(to_onnx(exportable(arm=arm, ssconv='none'))).graph.node
        count[arm] = sum(node.op_type == 'Conv' for node in nodes)
    assert count['no_idm'] == count['off'] + 1  # s


def test_the_first_convolution_of_iafmnet_is_computed_once() -> None:
    """The mask and the guide are of the same features; the exporter writes these for each of them."""
    graph = onnx.load_from_string(to_onnx(exportable())).graph
    kernels = {tensor.name: tuple(tensor.dims[1:]) for tensor in graph.initializer}
    assert [kernels.get(node.input[1]) for node in graph.node if node.op_type == 'Conv'].count((3, 3, 3)) == 1
    assert sum(node.op_type == 'Softplus' for node in graph.node) == 1  # of theta


def test_what_is_computed_twice_becomes_one() -> None:
    """But for random numbers; and what the graph gives keeps its name, also for those who took it before."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x) => (float[n] sum, float[n] named, float[n] other)
        <float one = {1.0}, float uno = {1.0}, float two = {2.0}, float zero = {0.0}>
        {
            a = Add(x, one)
            b = Mul(a, two)
            named = Add(x, uno)
            c = Mul(named, two)
            other = Add(x, one)
            d = Mul(x, one)
            r = RandomUniformLike(x)
            s = RandomUniformLike(x)
            noise = Sub(r, s)
            none = Mul(noise, zero)
            sum = Sum(b, c, d, none)
        }
        """
    )
    x = torch.rand(5).numpy()
    before = reference.ReferenceEvaluator(model).run(None, {'x': x})
    rewrite(model.graph)
    onnx.checker.check_model(model)
    count = [node.op_type for node in model.graph.node].count
    # the second Add is the first's; the third has to keep a name of its own
    assert (count('Add'), count('Mul'), count('RandomUniformLike')) == (2, 3, 2)
    after = reference.ReferenceEvaluator(model).run(None, {'x': x})
    assert all((one == two).all() for one, two in zip(before, after, strict=True))
