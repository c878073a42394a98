"""docs/coverage.md: what its tables say is here is here. Each option trains a step, each command runs as written."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import test_real_world
import tiny
import torch
import yaml
from basicsr.archs.vgg_arch import NAMES
from option_cases import flags
from torch import nn

from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.options.files import over
from iafmsr.tools.benchmark import speed
from iafmsr.tools.benchmark.published import published
from iafmsr.training.loop import train

PAGE = Path(__file__).resolve().parent.parent / 'docs/coverage.md'
TABLES = ('Systems', 'Losses', 'Metrics', 'Strategies', 'Upsampling', 'Data sets')
LIBRARIES = ('BasicSR', 'piq', 'spandrel', 'spandrel, with `spandrel_extra_arches`')
small_pictures = test_real_world.small_pictures

# keywords that make a network small
SMALL: dict[str, dict[str, Any]] = {
    'IAFMNet': {'num_feat': 8, 'num_block': 1},
    'EDSRIDM': {'num_feat': 8, 'num_block': 1},
    'SAFMN': {'dim': 8, 'n_blocks': 1},
    'SMFANet': {'dim': 8, 'n_blocks': 1},
    'IMDN': {'num_feat': 16, 'num_block': 1},
    'RLFN': {'num_feat': 8, 'num_block': 1},
    'BSRN': {'num_feat': 16, 'num_block': 1},
    'PAN': {'num_feat': 8, 'num_block': 1},
    'ShuffleMixer': {'num_feat': 16, 'num_block': 1},
    'ELAN': {'num_feat': 12, 'num_block': 1},
    'ETDS': {'num_feat': 8, 'num_block': 1},
    'ESRT': {'num_feat': 16, 'num_block': 1},
    'RDESA': {'num_feat': 8, 'num_block': 1},
    'EDSR': {'num_feat': 8, 'num_block': 1},
    'RCAN': {'num_feat': 8, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 2},
    'ECBSR': {'num_block': 1, 'num_channel': 4, 'with_idt': False, 'act_type': 'prelu'},
    'SwinIR': {
        'img_size': 8,
        'embed_dim': 8,
        'depths': [1],
        'num_heads': [2],
        'window_size': 4,
        'upsampler': 'pixelshuffledirect',
    },
}
OF_BASICSR = {'EDSR': 'upscale', 'RCAN': 'upscale', 'SwinIR': 'upscale', 'EDSRIDM': 'upscale'}  # else scale
WITH_CHANNELS = ('EDSR', 'RCAN', 'ECBSR', 'EDSRIDM')  # which BasicSR asks for


class Row(NamedTuple):
    table: str
    name: str
    whose: str
    how: str


def rows() -> list[Row]:
    found: list[Row] = []
    for table in re.split(r'^## ', PAGE.read_text(encoding='utf-8'), flags=re.MULTILINE)[1:]:
        title = table.split('\n')[0]
        lines = [line for line in table.splitlines() if line.startswith('|')][2:]
        found += [Row(title, *(cell.strip() for cell in line.strip('|').split('|'))) for line in lines]
    return found


def names(whose: tuple[str, ...]) -> list[Any]:
    return [pytest.param(row, id=f'{row.table}: {row.name}') for row in rows() if row.whose in whose]


def test_every_row_says_whose_it_is_and_how_it_is_switched_on() -> None:
    assert {row.table for row in rows()} == set(TABLES)
    for row in rows():
        assert row.whose in ('ours', 'figures', 'no', *LIBRARIES), row
        assert row.whose == 'no' or re.fullmatch('`[^`]+`', row.how), row
    assert len({row[:2] for row in rows()}) == len(rows()) > 120


# -- what the options and commands need -------------------------------------------------------------------------------
@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A folder with the files that the page names: small pictures where the data sets belong, and weights."""
    base = tmp_path_factory.mktemp('coverage')
    tiny.write_data(base)
    (base / 'datasets/DF2K').mkdir(parents=True)
    (base / 'datasets/DF2K/HR_sub.lmdb').symlink_to(base / 'train_gt.lmdb')
    (base / 'datasets/DF2K/LR_bicubic_X4_sub.lmdb').symlink_to(base / 'train_lq.lmdb')
    (base / 'options').symlink_to(repo_root / 'options')
    torch.manual_seed(0)
    high = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), (208, 112))
    cv2.imwrite(str(base / 'photo.png'), high[:24, :32])
    folders = ['DIV2K/DIV2K_train_HR', 'DIV2K/DIV2K_valid_HR', 'Flickr2K/Flickr2K_HR', 'ImageNet/n01440764']
    folders += [f'benchmarks/{name}/HR' for name in ('Set5', 'Set14', 'BSD100', 'Urban100', 'Manga109')]
    for folder in folders:
        (base / 'datasets' / folder).mkdir(parents=True)
        cv2.imwrite(str(base / 'datasets' / folder / 'a.png'), high)
    (base / 'weights').mkdir()
    for scale in (2, 4):
        section = {'type': 'IAFMNet', 'scale': scale, **SMALL['IAFMNet']}
        net = IAFMNet(scale=scale, **SMALL['IAFMNet'])
        torch.save({'params': net.state_dict(), 'network_g': section}, base / f'weights/IAFMNet_x{scale}.pth')
    return base


@pytest.fixture(autouse=True)
def small_world(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow stand-ins for what would be downloaded, and few pictures to be timed."""
    monkeypatch.chdir(root)
    monkeypatch.setenv('IAFMSR_DATA', str(root / 'datasets'))
    monkeypatch.setattr('iafmsr.nets.files.FOLDER', root / 'weights')
    monkeypatch.setattr('iafmsr.models.metrics._metric', lambda name: lambda sr, hr: (sr - hr).abs().mean())
    monkeypatch.setattr('iafmsr.training.checks.validation.missing_package', lambda _: None)
    monkeypatch.setattr('iafmsr.training.checks.training.check_vgg', lambda *_: None)
    monkeypatch.setattr('basicsr.archs.vgg_arch.vgg.vgg19', lambda pretrained: SimpleNamespace(features=narrow_vgg()))
    monkeypatch.setattr('iafmsr.tools.benchmark.run.measure_speed', briefly)
    monkeypatch.setattr(speed, 'Alone', Here)


def briefly(specs: Any, form: str, size: Any, device: torch.device, cache: Any, pictures: int) -> speed.Timed:
    """The measurement on two small pictures."""
    return speed.measure_speed(specs, form, (16, 12), device, cache, 2)


class Here(nullcontext[Any]):
    """In the place of :class:`~iafmsr.tools.benchmark.alone.Alone`, without a process."""

    def __init__(self, name: str, build: Callable[..., Any], *args: Any) -> None:
        super().__init__(self)
        self.net = build(*args)

    def ask(self, question: Callable[..., Any], *args: Any) -> Any:
        return question(self.net, *args)


def narrow_vgg() -> list[nn.Module]:
    features: list[nn.Module] = []
    for name in NAMES['vgg19']:
        if name.startswith('conv'):
            features.append(nn.Conv2d(4 if features else 3, 4, 3, padding=1))
        else:
            features.append(nn.ReLU() if name.startswith('relu') else nn.MaxPool2d(2))
    return features


def options(fragment: dict[str, Any]) -> dict[str, Any]:
    """An option file of one step on small pictures, with the page's fragment in it."""
    opt = tiny.options('run', 1)
    opt['datasets']['train'] |= {'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 4}
    network = fragment.get('network_g', {})
    arch = network.get('type', 'IAFMNet')
    opt['network_g'] = {'type': arch, OF_BASICSR.get(arch, 'scale'): 4, **SMALL[arch]}
    if arch in WITH_CHANNELS:
        opt['network_g'] |= {'num_in_ch': 3, 'num_out_ch': 3}
    if arch not in ('IAFMNet', 'EDSRIDM'):
        del opt['train']['ie_opt']
    elif arch == 'IAFMNet' and 'num_feat' in network:
        network = {**network, **SMALL['IAFMNet']}
    return over(opt, {**fragment, 'network_g': network})


def run(opt: dict[str, Any], root: Path) -> dict[str, Any]:
    """Train to the end and validate; what the run has saved."""
    shutil.rmtree(root / 'experiments', ignore_errors=True)
    (root / 'run.yml').write_text(yaml.safe_dump(opt))
    train(flags('-opt', 'run.yml'), str(root))
    return torch.load(root / 'experiments/run/models/net_g_latest.pth')


# -- rows -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('row', names(('ours', 'BasicSR', 'piq')))
def test_what_is_here_trains_a_step_or_runs(row: Row, root: Path, repo_root: Path, small_pictures: None) -> None:
    how = row.how.strip('`')
    if how.startswith('iafmsr '):
        written = shlex.split(how)[1:]
        assert main(written) == 0
    elif how.startswith('options/'):
        opt = test_real_world.small(repo_root, re.search(r'-(\w+)_', how)[1], name='run')
        opt['train']['total_iter'] = 1
        assert all(value.isfinite().all() for value in run(opt, root)['params'].values())
    else:
        fragment = yaml.safe_load('{' + how + '}')
        saved = run(options(fragment), root)
        asked = {key: value for key, value in fragment.get('network_g', {}).items() if key not in SMALL['IAFMNet']}
        assert saved['network_g'].items() >= asked.items()
        assert all(value.isfinite().all() for value in saved['params'].values())


@pytest.mark.parametrize('row', names(tuple(name for name in LIBRARIES if name.startswith('spandrel'))))
def test_what_spandrel_has_it_knows(row: Row) -> None:
    extra = row.whose != 'spandrel'
    if find_spec('spandrel_extra_arches' if extra else 'spandrel') is None:
        pytest.skip('needs the extra spandrel' + (' and spandrel_extra_arches' if extra else ''))
    from iafmsr.archs.spandrel_arch import _registry

    section = yaml.safe_load(row.how.strip('`').removeprefix('network_g: '))
    assert section['type'] == 'Spandrel'
    assert section['id'] in {support.architecture.id for support in _registry()}


@pytest.mark.parametrize('row', names(('figures',)))
def test_published_figures_are_known(row: Row) -> None:
    known = shlex.split(row.how.strip('`'))[3:]
    assert known and all(published(name, 4) for name in known)
