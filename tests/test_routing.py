"""Routed depth: the gathered form is the masked one, and a budget is a share of the training pictures' positions."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from iafmsr.archs import IAFMNet
from iafmsr.layers.routing import Router

SMALL = {'num_feat': 8, 'num_block': 3, 'num_routed': 2, 'scale': 2}


def routed(backend: str = 'gather', **changes: Any) -> IAFMNet:
    """A net whose thresholds divide its own map."""
    torch.manual_seed(0)
    net = IAFMNet(**{**SMALL, 'sparse_backend': backend, **changes})
    for parameter in net.parameters():  # at the start the guide and the density hardly differ from place to place
        parameter.data += 0.2 * torch.randn_like(parameter)
    with torch.no_grad():
        net.train()
        idm = net(pictures(), return_density=True)[1].idm
        net.router.thresholds.copy_(torch.quantile(idm.flatten(), 1 - torch.arange(1, 21) / 20))
    return net.eval()


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 19, 26, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('budget', [0.2, 0.5, 0.93, 1.0])
@pytest.mark.parametrize('changes', [{}, {'ssconv': 'own', 'arm': 'off'}, {'guide': 'idm'}, {'num_routed': 3}], ids=str)
def test_gathered_positions_are_those_of_the_masked_form(budget, changes):
    results = []
    for backend in ('gather', 'dense'):
        net = routed(backend, **changes)
        net.budget = budget
        results.append(net(pictures()))
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)
    net.budget = 1.0
    assert (torch.equal(net(pictures()), results[1])) == (budget == 1)


def test_both_forms_have_the_same_gradients():
    found = []
    for backend in ('gather', 'dense'):
        net = routed(backend).train()
        torch.manual_seed(3)
        net(pictures()).square().mean().backward()
        found.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-3, atol=1e-6)


def test_positions_outside_the_route_keep_what_the_first_blocks_made():
    """With one block everywhere, and none at the positions left out, the net is the one of one block there."""
    net, lq = routed(num_routed=2), pictures(1)
    net.budget = 0.3
    with torch.no_grad():
        idm = net(lq, return_density=True)[1].idm
        short = routed(num_routed=2)
        del short.blocks[1:]
        short.num_block, short.num_routed = 1, 0
        left_out = idm < net.router.threshold(0.3)
        # the tail sees 3x3, the mask is seen there: far from the route both are one
        far = torch.nn.functional.max_pool2d((~left_out).float(), 3, 1, 1) == 0
        far = far.repeat_interleave(2, -2).repeat_interleave(2, -1).expand(1, 3, -1, -1)
        assert 0 < far.sum() < far.numel()
        torch.testing.assert_close(net(lq)[far], short(lq)[far])
        assert not torch.allclose(net(lq)[~far], short(lq)[~far])


def test_in_training_half_of_the_batches_are_whole_and_the_others_of_a_share():
    router, idm = Router(0.2).train(), torch.rand(2, 1, 32, 32)
    torch.manual_seed(0)
    shares = [float(router(idm, 1.0).float().mean()) for _ in range(200)]
    whole = sum(share == 1 for share in shares)
    assert 80 < whole < 120 and 0.2 <= min(shares) < 0.25
    below = [share for share in shares if share < 1]
    assert 0.55 < sum(below) / len(below) < 0.65  # uniform in [0.2, 1]


def test_thresholds_follow_the_training_pictures_and_a_budget_is_a_share_of_them():
    router = Router().train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        router(torch.rand(4, 1, 32, 32, generator=generator), 1.0)
    router.eval()
    idm = torch.rand(1, 1, 200, 200, generator=generator)
    for budget in (0.05, 0.2, 0.33, 0.5, 0.95):
        assert float(router(idm, budget).float().mean()) == pytest.approx(budget, abs=0.02)
    assert router(idm, 1.0).all() and router(0.4 * idm, 0.5).sum() == 0  # flat pictures cost less than rich ones
    kept = router.thresholds.clone()
    router.train()(torch.full((1, 1, 4, 4), torch.nan), 1.0)
    assert torch.equal(router.thresholds, kept)


@pytest.mark.parametrize('backend, kind', list(product(['gather', 'dense'], ['flat', 'one pixel', 'flat beside rich'])))
def test_pictures_without_a_position(backend, kind):
    net = routed(backend)
    net.budget = 0.2
    flat = torch.full((1, 3, 16, 16), 0.3)
    lq = {
        'flat': flat,
        'one pixel': flat[..., :1, :1],
        'flat beside rich': torch.cat([flat, pictures(1)[..., :16, :16]]),
    }[kind]
    sr = net(lq)
    assert sr.isfinite().all() and sr.shape[-1] == 2 * lq.shape[-1]
    torch.testing.assert_close(sr[:1], net(lq[:1]))  # whatever its batch mates


def test_under_autocast_the_same_positions_are_routed():
    net = routed()
    net.budget = 0.4
    exact = net(pictures())
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(net(pictures()).float(), exact, rtol=0, atol=0.1)


@pytest.mark.parametrize('value', [0, -0.1, 1.01, float('nan')])
def test_budgets_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r'budget must be in \(0, 1\], got'):
        routed().budget = value


def test_a_net_without_routed_blocks_takes_no_budget():
    with pytest.raises(ValueError, match='no routed blocks'):
        IAFMNet(num_feat=8, num_block=1).budget = 0.5


@pytest.mark.parametrize('options, name', [({'num_routed': 4}, 'num_routed'), ({'route_map': 'x'}, 'route_map'),
                                           ({'least_budget': 0.0}, 'least budget')])  # fmt: skip
def test_options_out_of_range_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        IAFMNet(**{**SMALL, **options})
