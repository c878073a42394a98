"""The trainer's basics: clipping, parts of a batch, warm-up, skipped steps and exact resume under every optimizer; what
TensorBoard shows; a second stage."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import option_cases
import pytest
import torch
import yaml
from option_cases import DELETE, changed, flags
from tiny import built, options
from torch import nn

from iafmsr.errors import UserError
from iafmsr.models.guard import StepGuard
from iafmsr.models.optimizers import OPTIMIZERS, build_optimizer
from iafmsr.training.options import parse_options
from iafmsr.training.progress import Reports
from iafmsr.training.validation import show

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
NAMES = sorted(OPTIMIZERS)


def batch(seed: int, spoilt: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    lq, gt = (torch.rand(4, 3, side, side, generator=generator) for side in (8, 32))
    gt[0, 0, 0, 0] = torch.nan if spoilt else gt[0, 0, 0, 0]
    return {'lq': lq, 'gt': gt, 'lq_path': [f'{seed}.png']}


def step(model: Any, iteration: int, spoilt: bool = False) -> None:
    torch.manual_seed(iteration)
    model.update_learning_rate(iteration, warmup_iter=model.opt['train'].get('warmup_iter', -1))
    model.feed_data(batch(iteration, spoilt))
    model.optimize_parameters(iteration)


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize('name', NAMES)
def test_every_optimizer_trains_skips_bad_steps_and_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    """With clipping, parts of a batch and a warm-up."""
    changes = {
        'train__optim_g': {'type': name, 'lr': 1e-3},
        'train__grad_clip': 0.1,
        'train__accumulate': 2,
        'train__warmup_iter': 3,
    }
    whole = built(tmp_path, **copy.deepcopy(changes))
    start = copy.deepcopy(whole.net_g.state_dict())
    step(whole, 1)
    assert not same(start, whole.net_g.state_dict())
    before = copy.deepcopy((whole.net_g.state_dict(), whole.optimizer_g.state_dict()['state']))
    step(whole, 2, spoilt=True)
    assert same(before[0], whole.net_g.state_dict()) and whole.get_current_log()['skipped'] == 1
    assert str(before[1]) == str(whole.optimizer_g.state_dict()['state'])
    whole.save(0, 2)
    for iteration in (3, 4, 5):
        step(whole, iteration)
    run = tmp_path / 'experiments/run'
    again = built(tmp_path, path__pretrain_network_g=str(run / 'models/net_g_2.pth'), **copy.deepcopy(changes))
    again.opt['path']['resume_state'] = 'x.state'
    again.resume_training(torch.load(run / 'training_states/2.state', weights_only=False))
    for iteration in (3, 4, 5):
        step(again, iteration)
    assert same(whole.net_g.state_dict(), again.net_g.state_dict())


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    """Also where its moments would fit."""
    model = built(tmp_path)
    step(model, 1)
    model.save(0, 1)
    other = built(tmp_path, train__optim_g={'type': 'AdamW', 'lr': 1e-3})
    with pytest.raises(UserError, match='was saved with Adam, the option file has AdamW'):
        other.resume_training(torch.load(tmp_path / 'experiments/run/training_states/1.state', weights_only=False))


def test_gradients_beyond_the_norm_are_made_as_long_as_it() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    for clip, expected in ((None, 5.0), (10.0, 5.0), (1.0, 1.0)):
        weight.grad = None
        guard = StepGuard(torch.device('cpu'), False, 10, clip)
        guard.backward((weight * weight.detach()).sum())
        guard.step(torch.optim.SGD([weight], lr=0), 1, [])
        assert weight.grad.norm() == pytest.approx(expected, rel=1e-5)
        assert weight.grad[1] / weight.grad[0] == pytest.approx(4 / 3)


@pytest.mark.parametrize('parts', [2, 4])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Of losses that are means over the batch; the mask of a whole batch, ``k_of: batch``, is that of each part."""
    monkeypatch.setattr(torch, 'rand_like', lambda x: torch.full_like(x, 0.3))
    found = []
    for count in (1, parts):
        torch.manual_seed(0)
        model = built(
            tmp_path, train__accumulate=count, network_g__k_of='picture', train__optim_g={'type': 'SGD', 'lr': 0}
        )
        step(model, 1)
        found.append(({n: p.grad for n, p in model.net_g.named_parameters()}, model.get_current_log()))
        assert model.lq.shape[0] == 4
    for name, gradient in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], gradient, rtol=1e-4, atol=1e-6)
    assert found[1][1]['l_pix'] == pytest.approx(float(found[0][1]['l_pix']), rel=1e-5)


@pytest.mark.parametrize(
    'scheduler',
    [
        {'type': 'MultiStepLR', 'milestones': [8], 'gamma': 0.5},
        {'type': 'CosineAnnealingRestartLR', 'periods': [1000], 'eta_min': 0},
    ],
)
def test_a_warm_up_reaches_the_full_rate(tmp_path: Path, scheduler: dict[str, Any]) -> None:
    """BasicSR's MultiStepLR stays at the warm-up's last rate."""
    model = built(tmp_path, train__scheduler=scheduler, train__optim_g={'type': 'SGD', 'lr': 1.0})
    rates = []
    for iteration in range(1, 11):
        model.update_learning_rate(iteration, warmup_iter=5)
        rates += model.get_current_learning_rate()
    steps = scheduler['type'] == 'MultiStepLR'
    expected = [0.2, 0.4, 0.6, 0.8] + [1.0] * 4 + [0.5 if steps else 1.0] * 2
    assert rates == pytest.approx(expected, abs=1e-3)


@pytest.mark.skipif(torch.__version__ < '2.4', reason='fused Adam on a CPU came with torch 2.4')
def test_adam_is_fused_unless_another_kind_is_asked_for() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    assert build_optimizer('AdamW', parameters, 1e-3).defaults['fused']
    assert not build_optimizer('Adam', parameters, 1e-3, foreach=True).defaults['fused']


@pytest.mark.parametrize(
    ('changes', 'culprit'),
    [
        ({'train.optim_g.type': 'Adan'}, "'Adan' is not known: write AdamW, or Muon for a short training"),
        ({'train.optim_g.type': 'LBFGS'}, "'LBFGS' is not known"),
        ({'train.optim_g': {'type': 'SGD', 'lr': 0.1, 'betas': [0, 1]}}, 'train.optim_g.betas: unknown key'),
        (
            {'model_type': 'SRModel', 'train.optim_g.type': 'AdamW', 'train.ie_opt': DELETE},
            'SRModel does not support AdamW',
        ),
        ({'train.grad_clip': 0}, 'train.grad_clip: must be a number above 0, got 0'),
        (
            {'train.accumulate': 3},
            'train.accumulate: the 4 pictures of a process in a batch cannot be split into 3 equal parts',
        ),
        (
            {
                'datasets.train.type': 'PairedSRDataset',
                'datasets.train.batch_size_per_gpu': 1,
                'datasets.train.mixup': 1,
            },
            'datasets.train.mixup: needs at least 2 pictures in the batch of each process',
        ),
    ],
)
def test_what_cannot_be_is_refused(refused: Callable[..., list[str]], changes: dict[str, Any], culprit: str) -> None:
    (line,) = refused(changed(**changes))
    assert culprit in line


class Board:
    """What is put on TensorBoard."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self.shown[name] = value

    def add_image(self, name: str, picture: torch.Tensor, iteration: int) -> None:
        self.shown[name] = picture


class Loader(list[dict[str, Any]]):
    dataset = SimpleNamespace(opt={'name': 'val'})


@pytest.mark.parametrize('decay', [0, 0.9])
def test_result_map_and_mask_of_the_first_picture_are_shown(tmp_path: Path, decay: float) -> None:
    model, board = built(tmp_path, train__ema_decay=decay), Board()
    show(model, Loader([batch(1), batch(2)]), 7, board)
    assert {name: tuple(picture.shape) for name, picture in board.shown.items()} == {
        'val/result': (3, 32, 32),
        'val/idm': (1, 8, 8),
        'val/mask': (1, 8, 8),
    }
    assert all(0 <= picture.min() <= picture.max() <= 1 for picture in board.shown.values())
    assert board.shown['val/mask'].unique().tolist() in ([0.0, 1.0], [0.0])
    assert model.is_train and model.net_g.training
    step(model, 1)


def test_the_learning_rate_is_shown_with_the_losses() -> None:
    board = Board()
    opt = options('x', logger__use_tb_logger=True) | {'rank': 0, 'dist': False}
    with Reports(opt, 0, board) as reports:
        reports.losses(
            {'epoch': 0, 'iter': 5, 'lrs': [0.25], 'time': 1.0, 'data_time': 0.0, 'l_pix': torch.tensor(2.0)}
        )
    assert board.shown == {'learning_rate': 0.25, 'losses/l_pix': 2.0}


# -- stages -----------------------------------------------------------------------------------------------------------
def test_a_second_stage_is_a_file_that_starts_from_the_first_ones_weights(root: Path) -> None:
    """docs/strategies.md: `base`, another name, and the weights; then whatever differs."""
    model = built(root)
    model.save(0, -1)
    (root / 'stage1.yml').write_text(yaml.safe_dump(changed(**{'network_g': model.opt['network_g']})))
    (root / 'stage2.yml').write_text("""
base: stage1.yml
name: stage2
path: {pretrain_network_g: experiments/run/models/net_g_latest.pth, param_key_g: params_ema}
train: {total_iter: 10, optim_g: {type: SGD, lr: 0.01}, curriculum: {k: {5: 0.1}}}
""")
    (root / 'experiments/stage2').mkdir()
    opt = parse_options(flags('-opt', str(root / 'stage2.yml')), str(root))
    assert opt['train']['optim_g'] == {'type': 'SGD', 'lr': 0.01} and opt['train']['pixel_opt']['type'] == 'L1Loss'
    assert opt['path']['pretrain_network_g'].endswith('experiments/run/models/net_g_latest.pth')
