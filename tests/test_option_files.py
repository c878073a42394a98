"""The option files of IAFMNet's sizes and scales are one recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from iafmsr.options.files import load_options

SIZES = {
    '': {},
    '-S': {'num_block': 4, 'ffn_scale': 3.6},
    '-L': {'num_feat': 64, 'ffn_scale': 3.5},
    '-lean': {'arm': 'no_idm', 'ssconv': 'none'},
}
CASES = [(size, scale) for size in SIZES for scale in ((4,) if size == '-S' else (2, 3, 4))]


def rescaled(value: Any, scale: int) -> Any:
    """What an option of the x4 file is at another scale: paths and templates name it, sizes in HR pixels follow it."""
    if isinstance(value, dict):
        numbers = {'scale': scale, 'gt_size': 64 * scale, 'crop_border': scale}
        return {key: numbers.get(key, rescaled(child, scale)) for key, child in value.items()}
    if isinstance(value, str):
        return re.sub(r'(?<=[xX])4', str(scale), value)
    return value


@pytest.mark.parametrize(('size', 'scale'), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize('kind', ['train', 'test'])
def test_size_and_scale_are_all_that_differs(repo_root: Path, kind: str, size: str, scale: int) -> None:
    reference = load_options(repo_root / f'options/{kind}_IAFMNet_x4.yml')
    expected = rescaled(reference, scale)
    expected['network_g'] |= SIZES[size]
    expected['name'] = f'{kind}_IAFMNet{size}_x{scale}'
    if kind == 'test':
        expected['path']['pretrain_network_g'] = f'experiments/train_IAFMNet{size}_x{scale}/models/net_g_latest.pth'
    assert load_options(repo_root / f'options/{kind}_IAFMNet{size}_x{scale}.yml') == expected


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_the_routed_net_goes_on_from_the_one_without_routes(repo_root: Path, scale: int) -> None:
    for kind in ('train', 'test'):
        expected = load_options(repo_root / f'options/{kind}_IAFMNet_x{scale}.yml')
        opt = load_options(repo_root / f'options/{kind}_IAFMNet-R_x{scale}.yml')
        assert opt['network_g'] == expected['network_g'] | {'num_routed': 4}
        assert opt['name'] == f'{kind}_IAFMNet-R_x{scale}' and opt['datasets'] == expected['datasets']
        start = f'experiments/train_IAFMNet{"-R" if kind == "test" else ""}_x{scale}/models/net_g_latest.pth'
        assert opt['path']['pretrain_network_g'] == start


def test_what_is_tested_is_what_was_trained(repo_root: Path) -> None:
    train, test = (load_options(repo_root / f'options/{kind}_IAFMNet_x4.yml') for kind in ('train', 'test'))
    assert train['network_g'] == test['network_g']
    assert (train['network_g']['num_feat'], train['network_g']['num_block']) == (40, 6)
    assert test['path']['pretrain_network_g'] == f'experiments/{train["name"]}/models/net_g_latest.pth'


def test_the_recipe_is_the_papers(repo_root: Path) -> None:
    opt = load_options(repo_root / 'options/train_IAFMNet_x4.yml')
    train, data = opt['train'], opt['datasets']['train']
    assert (data['gt_size'] // opt['scale'], data['total_batch_size'], train['total_iter']) == (64, 64, 1_000_000)
    assert (train['optim_g']['lr'], train['scheduler']['eta_min']) == (1e-3, 1e-5)
