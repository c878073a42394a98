"""Muon: orthogonal updates of Adam's size for the layers that mix channels, Adam itself for all else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from test_guard import batch, same, snapshot, step
from tiny import built
from torch import nn

from iafmsr.models.muon import Muon, has_fused, orthogonal
from iafmsr.options.files import load_options
from iafmsr.training.checks.check import check_options

MUON = {'type': 'Muon', 'lr': 1e-2}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for i in steps:
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize('shape', [(4, 8, 24), (4, 24, 8), (1, 5, 5)])
def test_singular_values_become_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    sizes = 10 ** torch.arange(-3.0, -3 + shape[0])[:, None, None]
    matrices = sizes * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    assert (s[:, 0] / s[:, -1]).min() > 1.5
    turned = u.mT @ orthogonal(matrices) @ vh.mT
    values = turned.diagonal(dim1=1, dim2=2)
    assert 0.6 < values.min() and values.max() < 1.25
    assert (turned - torch.diag_embed(values)).abs().max() < 1e-3


def test_an_update_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize('kernel', [1, 3])
def test_momentum_looks_ahead_and_updates_have_adam_s_size_over_all_taps(kernel: int) -> None:
    """The formulas of a single matrix, in their own words: m = .95 m + .05 g, update .2 sqrt(max(O, I K^2)) / K^2 of
    the orthogonal matrix nearest to .95 m + .05 g."""
    taps, shape = kernel**2, (6, 20, kernel, kernel)
    size = 0.2 * (20 * taps) ** 0.5 / taps
    weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    optimizer, m = Muon([weight], lr=0.5), torch.zeros(6, 20 * taps)
    for i in range(3):
        before = weight.detach().clone()
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        optimizer.step()
        g = weight.grad.flatten(1)
        m = 0.95 * m + 0.05 * g
        u, _, vh = torch.linalg.svd(0.95 * m + 0.05 * g, full_matrices=False)
        update = (weight.detach() - before).flatten(1) / (-0.5 * size)
        values = (u.mT @ update @ vh.mT).diagonal()
        assert 0.6 < values.min() and values.max() < 1.25
        torch.testing.assert_close(values.norm(), update.norm(), rtol=1e-4, atol=0)  # nothing points elsewhere
        assert 0.1 < taps * (weight - before).square().mean().sqrt() / 0.5 < 0.25


def test_what_mixes_no_channels_is_adam_s_to_the_bit() -> None:
    ours, theirs = net(), net()
    muon = Muon(ours.parameters(), lr=1e-2)
    fused = has_fused(list(theirs.parameters()))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.9, 0.99), fused=fused)
    train(ours, muon, range(1))
    train(theirs, adam, range(1))
    alike = {key for key, value in ours.state_dict().items() if torch.equal(value, theirs.state_dict()[key])}
    assert alike == {'0.bias', '1.bias', '2.weight', '2.bias', '3.bias'}


def test_a_layout_in_memory_changes_nothing() -> None:
    ours, theirs = net(), net().to(memory_format=torch.channels_last)
    for model in (ours, theirs):
        train(model, Muon(model.parameters(), lr=1e-2), range(3))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_found_inf_leaves_a_step_out() -> None:
    model = net()
    optimizer = Muon(model.parameters(), lr=1e-2)
    train(model, optimizer, range(2))
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()['state']))
    for p in model.parameters():
        p.grad.fill_(float('nan'))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert same(model.state_dict(), before[0]) and same(optimizer.state_dict()['state'], before[1])
    optimizer.found_inf = torch.tensor(0.0)
    train(model, optimizer, range(2, 3))
    assert not same(model.state_dict(), before[0])


def test_a_saved_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    def new() -> object:
        torch.manual_seed(0)
        return built(tmp_path, train__optim_g=MUON, train__channels_last=True)

    whole = new()
    for i in range(1, 4):
        step(whole, i, batch('abc'[i - 1]))
    first, second = new(), new()
    for i in range(1, 3):
        step(first, i, batch('abc'[i - 1]))
    second.net_g.load_state_dict(first.net_g.state_dict())
    second.resume_training(
        copy.deepcopy(
            {
                'optimizers': [first.optimizer_g.state_dict()],
                'epoch': 0,
                'iter': 2,
                'schedulers': [scheduler.state_dict() for scheduler in first.schedulers],
            }
        )
    )
    step(second, 3, batch('c'))
    assert same(second.net_g.state_dict(), whole.net_g.state_dict())


def test_the_guard_and_the_schedule_know_it(tmp_path: Path) -> None:
    model = built(tmp_path, train__optim_g=MUON)
    step(model, 1, batch('good'))
    before = snapshot(model)
    step(model, 2, batch('bad', float('nan')))
    assert same(snapshot(model), before) and model.get_current_log()['skipped'] == 1
    for i in range(2, 22):
        model.update_learning_rate(i)
    assert [group['lr'] for group in model.optimizer_g.param_groups] == [pytest.approx(0.5e-2, rel=0.01)] * 2


def test_only_our_model_class_takes_it(repo_root: Path) -> None:
    def faults(model_type: str) -> list[str]:
        opt = load_options(repo_root / 'options/train_SAFMN_x4.yml', [f'model_type={model_type}'])
        opt['train'] = {
            key: value for key, value in opt['train'].items() if key not in ('fft_opt', 'autocast', 'channels_last')
        } | {'optim_g': MUON}
        return check_options(opt, True, str(repo_root), files=False).faults

    assert faults('IAFMNetModel') == []
    assert faults('SRModel') == ['train.optim_g.type: SRModel does not support Muon, IAFMNetModel does']


def test_weight_decay_shrinks_the_matrices_alone_and_not_in_a_step_left_out() -> None:
    models = [net() for _ in range(3)]
    optimizers = [
        Muon(model.parameters(), lr=0.1, weight_decay=decay) for model, decay in zip(models, (0, 0.5, 0.5), strict=True)
    ]
    start = copy.deepcopy(models[0].state_dict())
    optimizers[2].found_inf = torch.tensor(1.0)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, range(1))
    plain, decayed, left_out = (m.state_dict() for m in models)
    for name, before in start.items():
        is_matrix = before.dim() == 4 and before.shape[1] > 1
        torch.testing.assert_close(decayed[name], plain[name] - (0.05 * before if is_matrix else 0))
        assert torch.equal(left_out[name], before)


@pytest.mark.parametrize(
    ('fault', 'arguments'),
    [
        ('weight_decay', {'weight_decay': -0.1}),
        ('weight_decay', {'lr': 0.1, 'weight_decay': 10.0}),
        ('momentum', {'momentum': 1.0}),
        ('momentum', {'momentum': -0.1}),
        ('learning rate', {'lr': -1.0}),
    ],
)
def test_arguments_out_of_range_are_refused(fault: str, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=fault):
        Muon([nn.Parameter(torch.zeros(2, 2, 1, 1))], **arguments)
