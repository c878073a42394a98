"""Option files that were not written for this project, or against it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import option_cases
import pytest
import torch
import yaml
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY
from option_cases import DELETE, changed, train_options

from iafmsr.errors import UserError
from iafmsr.options.files import load_options, parse_value
from iafmsr.training.checks.check import check_options

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root


def faults(opt: dict[str, Any]) -> list[str]:
    return check_options(opt, True, '', files=False).faults


def read(folder: Path, opt: dict[str, Any] | str) -> dict[str, Any]:
    file = folder / 'x.yml'
    file.write_text(opt if isinstance(opt, str) else yaml.safe_dump(opt, sort_keys=False))
    return load_options(file)


# -- keys that a model does not read ----------------------------------------------------------------------------------
@pytest.mark.parametrize('model', ['IAFMNetModel', 'SRModel'])
@pytest.mark.parametrize(
    ('name', 'value', 'reader'),
    [
        ('network_d', {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 8}, 'SRGANModel'),
        ('train.gan_opt', {'type': 'GANLoss', 'gan_type': 'vanilla'}, 'SRGANModel'),
        ('train.ldl_opt', {'type': 'L1Loss'}, 'SRGANModel'),
        ('train.optim_d', {'type': 'Adam', 'lr': 1e-4}, 'SRGANModel'),
        ('train.net_d_iters', 1, 'SRGANModel'),
        ('train.net_d_init_iters', 5, 'SRGANModel'),
        ('path.pretrain_network_d', 'd.pth', 'SRGANModel'),
        ('queue_size', 180, 'RealESRNetModel or RealESRGANModel'),
        ('resize_prob', [0.2, 0.7, 0.1], 'RealESRNetModel or RealESRGANModel'),
        ('gt_usm', True, 'RealESRNetModel'),
        ('l1_gt_usm', True, 'RealESRGANModel'),
    ],
)
def test_a_key_that_the_model_does_not_read_is_a_fault(model: str, name: str, value: Any, reader: str) -> None:
    opt = changed(**{'model_type': model, name: value})
    if model == 'SRModel':
        del opt['train']['ie_opt']
    assert faults(opt) == [f'{name}: {model} does not use it, {reader} does']


def test_a_key_that_says_no_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = changed(
        **{
            'model_type': 'SRModel',
            'train.channels_last': False,
            'train.autocast': None,
            'gt_usm': False,
            'network_d': None,
        }
    )
    del opt['train']['ie_opt']
    assert faults(opt) == []

    class TheirModel(MODEL_REGISTRY.get('SRModel')):
        """Somebody else's, which may read any of them."""

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'TheirModel', TheirModel)
    assert faults(changed(**{'model_type': 'TheirModel', 'train.optim_d': {'type': 'Adam', 'lr': 1e-4}})) == []


def test_gan_training_has_its_keys() -> None:
    network_d = {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 8}
    opt = changed(
        **{
            'model_type': 'ESRGANModel',
            'network_d': network_d,
            'train.optim_d': {'type': 'Adam', 'lr': 1e-4},
            'train.gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla'},
            'train.net_d_iters': 1,
        }
    )
    del opt['train']['ie_opt']
    assert faults(opt) == []


def test_pictures_without_lr_need_a_model_that_makes_them() -> None:
    (line,) = faults(changed(**{'datasets.train.type': 'RealESRGANDataset', 'datasets.train.dataroot_lq': DELETE}))
    assert line == (
        'datasets.train.type: RealESRGANDataset has no LR pictures, which IAFMNetModel trains on; '
        'RealESRNetModel and RealESRGANModel make them'
    )


# -- base -------------------------------------------------------------------------------------------------------------
def test_another_dataset_type_keeps_the_keys_that_it_has(tmp_path: Path) -> None:
    base = changed(**{'datasets.train.type': 'PairedSRDataset', 'datasets.train.in_memory': 'gpu'})
    (tmp_path / 'base.yml').write_text(yaml.safe_dump(base))
    opt = read(tmp_path, {'base': 'base.yml', 'datasets': {'train': {'type': 'PairedImageDataset', 'gt_size': 48}}})
    expected = train_options()
    expected['datasets']['train']['gt_size'] = 48  # and no in_memory, which PairedImageDataset does not have
    assert opt == expected and faults(opt) == []
    theirs = read(tmp_path, {'base': 'base.yml', 'datasets': {'train': {'type': 'OfSomebodyElse'}}})
    assert theirs['datasets']['train'] == base['datasets']['train'] | {'type': 'OfSomebodyElse'}


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('only a line', 'not an option file: must be a mapping of keys to values'),
        ('- a\n- b\n', 'not an option file'),
        ('', 'not an option file'),
        ('name: [', 'line 1: not valid YAML'),
    ],
)
def test_a_base_that_is_no_option_file_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / 'base.yml').write_text(content)
    with pytest.raises(UserError) as error:
        read(tmp_path, {'base': 'base.yml', 'name': 'x'})
    assert str(error.value).startswith(f'{tmp_path}/x.yml: base: {tmp_path}/base.yml') and says in str(error.value)


def test_no_line_of_another_kind_of_file_is_shown(tmp_path: Path) -> None:
    (tmp_path / 'secret.conf').write_text('password: 1234\n')
    with pytest.raises(UserError) as error:
        read(tmp_path, {'base': 'secret.conf'})
    assert str(error.value) == (
        f'{tmp_path}/x.yml: base: {tmp_path}/secret.conf: the name of an option file must end in .yml'
    )


def test_a_circle_of_files_is_named(tmp_path: Path) -> None:
    (tmp_path / 'y.yml').write_text('base: x.yml\n')
    with pytest.raises(UserError, match='x.yml: base: .*y.yml: base: .*x.yml: starts from itself'):
        read(tmp_path, {'base': 'y.yml'})


@pytest.mark.parametrize('as_base', [False, True])
def test_a_pipe_is_not_waited_for(tmp_path: Path, as_base: bool) -> None:
    os.mkfifo(tmp_path / 'pipe.yml')
    with pytest.raises(UserError, match='pipe.yml: not a regular file'):
        read(tmp_path, {'base': 'pipe.yml'}) if as_base else load_options(tmp_path / 'pipe.yml')
    with pytest.raises(UserError, match='Is a directory'):
        load_options(tmp_path)
    (tmp_path / 'large.yml').write_bytes(b'#' * (2**20 + 1))
    with pytest.raises(UserError, match='large.yml: 1,048,577 bytes are too many'):
        load_options(tmp_path / 'large.yml')


# -- what takes for ever ----------------------------------------------------------------------------------------------
BOMB = '\n'.join(
    [
        'a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]',
        *(f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, 12)),
    ]
)
MERGED = '\n'.join(
    ['a0: &a0 {x: 1, y: 2}', *(f'a{i}: &a{i} {{<<: [{", ".join([f"*a{i - 1}"] * 10)}]}}' for i in range(1, 12))]
)


@pytest.mark.parametrize(
    'place', ['name: *a11', 'train: {scheduler: {periods: *a11}}', 'train: {pixel_opt: {type: *a11}}']
)
@pytest.mark.parametrize('bomb', [BOMB, MERGED], ids=['lists', 'merged'])
def test_aliases_do_not_grow_without_bound(tmp_path: Path, bomb: str, place: str) -> None:
    start = time.process_time()
    with pytest.raises(UserError, match='x.yml, line 1: not valid YAML: its aliases stand for more than 100,000'):
        read(tmp_path, f'{bomb}\n{place}\n')
    assert time.process_time() - start < 5


def test_an_alias_of_itself_is_refused_and_a_plain_one_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='its aliases stand for more than'):
        read(tmp_path, 'name: &a [*a]\n')
    assert read(tmp_path, 'a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n') == {
        'a': {'x': 1},
        'b': {'x': 1},
        'c': {'x': 1, 'y': 2},
    }
    with pytest.raises(UserError, match='--force_yml'):
        parse_value('&a [*a]')


@pytest.mark.parametrize(
    ('network', 'says'),
    [
        ({'num_block': 1e9}, 'network_g.num_block: 1000000000.0 is more than 10,000'),
        ({'num_block': 10**9}, 'network_g.num_block: 1000000000 is more than 10,000'),
        ({'num_block': 10_000}, 'network_g: IAFMNet cannot be built: more than 10,000 modules'),
        ({'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 4, 'num_block': 10**9}, 'is more than 10,000'),
    ],
)
def test_a_network_without_end_is_refused_in_time(network: dict[str, Any], says: str) -> None:
    start = time.process_time()
    opt = train_options()
    opt['network_g'] = network if 'type' in network else opt['network_g'] | network
    assert any(says in fault for fault in faults(opt))
    assert time.process_time() - start < 20


def test_a_long_value_is_not_shown_whole() -> None:
    (line,) = faults(changed(name=['x' * 10_000]))
    assert line.startswith("name: must be a string, got ['xxx") and len(line) < 300


# -- weights of losses ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('train.pixel_opt.loss_weight', -1),
        ('train.ie_opt.loss_weight', -1e-4),
        ('train.pixel_opt.loss_weight', float('nan')),
        ('train.ie_opt.loss_weight', float('inf')),
        ('train.perceptual_opt', {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}, 'style_weight': -0.1}),
        ('train.perceptual_opt', {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': -1}}),
    ],
)
def test_a_weight_below_0_is_refused(name: str, value: Any) -> None:
    (line,) = faults(changed(**{name: value}))
    assert line.startswith(name) and 'weight' in line and 'must be a number from 0, got ' in line


def test_weights_of_0_and_of_other_peoples_losses_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(torch.nn.Module):
        def __init__(self, loss_weight: float = 1.0) -> None:
            super().__init__()

    monkeypatch.setitem(LOSS_REGISTRY._obj_map, 'Theirs', Theirs)
    theirs = {'type': 'Theirs', 'loss_weight': -1}
    assert faults(changed(**{'train.pixel_opt': theirs, 'train.ie_opt.loss_weight': 0})) == []


# -- files of other projects ------------------------------------------------------------------------------------------
def others() -> dict[str, Any]:
    """As SAFMN and SMFANet write it, with `task` of SeemoRe's and what traiNNer adds."""
    opt = changed(
        **{
            'model_type': 'IAFMNetModel',
            'network_g': {'type': 'SAFMN', 'dim': 8, 'n_blocks': 1, 'upscaling_factor': 4},
            'train.fft_opt': {'type': 'FFTLoss', 'loss_weight': 0.05, 'reduction': 'mean'},
            'train.ie_opt': DELETE,
            'train.optim_g': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'train.grad_clip': False,
            'use_amp': False,
            'use_channels_last': False,
            'val.val_enabled': True,
        }
    )
    opt['datasets']['train'] |= {
        'task': 'SR',
        'dataroot_gt': ['data/gt.lmdb'],
        'dataroot_lq': ['data/lq.lmdb'],
        'lq_size': 8,
        'accum_iter': 1,
    }
    del opt['datasets']['train']['gt_size']
    opt['datasets']['val'] |= {'task': 'SR'}
    return opt


def test_what_means_the_same_is_taken(parse: Callable[..., Any]) -> None:
    opt = parse(others())
    assert opt['network_g'] == {'type': 'SAFMN', 'dim': 8, 'n_blocks': 1, 'scale': 4}
    assert opt['train']['fft_opt'] == {'type': 'FFTLoss', 'loss_weight': 0.05}
    assert opt['train']['optim_g'] == {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0, 'betas': [0.9, 0.99]}
    data = opt['datasets']['train']
    assert data['gt_size'] == 32 and data['dataroot_gt'].endswith('/data/gt.lmdb')
    assert not {'task', 'lq_size', 'accum_iter'} & data.keys()
    assert not {'use_amp', 'use_channels_last'} & opt.keys() and 'val_enabled' not in opt['val']


@pytest.mark.parametrize(
    ('name', 'value', 'says'),
    [
        ('manual_seed', None, 'manual_seed: ~ draws another seed at each start, so that no run can be resumed: write'),
        ('val.val_freq', None, 'val.val_freq: ~ is no number of iterations: write one, or leave out the section val'),
        ('network_g.upscaling_factor', 4, 'network_g.upscaling_factor: unknown key: write scale'),
        (
            'train.fft_opt',
            {'type': 'FFTLoss', 'reduction': 'sum'},
            'train.fft_opt.reduction: unknown key: leave it out',
        ),
        ('datasets.train.task', 'denoising', 'datasets.train.task: unknown key: leave it out'),
        ('datasets.val_2', {'task': 'x'}, 'datasets.val_2.task: unknown key: leave it out'),
        (
            'datasets.train.dataroot_gt',
            ['a', 'b'],
            'datasets.train.dataroot_gt: a list is only for training with PairedSRDataset or OnTheFlyDataset',
        ),
        ('datasets.train.accum_iter', 2, 'datasets.train.accum_iter: unknown key: write total_batch_size'),
        ('train.optim_g.type', 'Adan', "train.optim_g.type: 'Adan' is not known: write AdamW, or Muon for a short"),
        ('train.grad_clip', True, 'train.grad_clip: must be a number above 0, got True'),
        ('use_amp', True, 'use_amp: unknown key: write `train: {autocast: bf16}`'),
        ('model_type', 'HATModel', "model_type: 'HATModel' is not known: write SRModel or IAFMNetModel"),
        (
            'network_g',
            {'type': 'SeemoRe'},
            "network_g.type: 'SeemoRe' is not known: write `type: Spandrel` and `id: Seem",
        ),
    ],
)
def test_what_does_not_is_named_with_what_to_write(
    refused: Callable[..., list[str]], name: str, value: Any, says: str
) -> None:
    opt = changed(**{name: value})
    if name == 'datasets.val_2':
        opt['datasets']['val_2'] |= opt['datasets']['val']
    assert any(f'x.yml: {says}' in line for line in refused(opt))
