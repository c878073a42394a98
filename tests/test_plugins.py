"""Someone else's package: its arch is trained by its option file and used by the commands; and BasicSR's own trainer
takes option files of this project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iafmsr import archs
from iafmsr.errors import UserError
from iafmsr.options.files import load_options
from iafmsr.options.plugins import import_packages
from iafmsr.options.schema import Options

DATA = (
    'num_gpu=0',
    'datasets:train:dataroot_gt=gt',
    'datasets:train:dataroot_lq=lq',
    'datasets:train:io_backend:type=disk',
    'datasets:train:gt_size=32',
    'datasets:train:total_batch_size=2',
    'datasets:train:num_worker_per_gpu=1',
    'datasets:train:in_memory=~',
    'datasets:val:dataroot_gt=gt',
    'datasets:val:dataroot_lq=lq',
    'datasets:val:filename_tmpl="{}"',
    'logger:use_tb_logger=false',
)


@pytest.fixture
def folder(repo_root: Path, tmp_path: Path) -> Path:
    """The example, copied elsewhere, with pictures to train with."""
    shutil.copytree(repo_root / 'examples/mynet', tmp_path, dirs_exist_ok=True)
    for number, picture in enumerate(np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)):
        for name, size in (('gt', 48), ('lq', 12)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(picture).resize((size, size)).save(tmp_path / name / f'{number}.png')
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {'PYTHONPATH': root, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def test_the_example_is_trained_and_upscales(folder: Path) -> None:
    forced = ('--force_yml', *DATA, 'train:total_iter=20')
    done = python(folder, '-m', 'iafmsr', 'train', '-opt', 'train_MyNet_x4.yml', *forced)
    assert done.returncode == 0, done.stdout + done.stderr
    weights = torch.load(folder / 'experiments/train_MyNet_x4/models/net_g_latest.pth', weights_only=True)
    assert 'attentions.0.weigh.weight' in weights['params'] and weights['network_g']['type'] == 'MyNet'
    command = ('-m', 'iafmsr', 'upscale', 'lq/0.png', '--weights', 'experiments/train_MyNet_x4', '--output', 'sr.png')
    refused = python(folder, *command)
    assert refused.returncode == 2 and "has the type 'MyNet'; allowed are" in refused.stderr
    assert 'with --import PACKAGE' in refused.stderr and refused.stdout == ''
    done = python(folder, *command, '--import', 'mynet')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'is not found' not in done.stdout
    assert Image.open(folder / 'sr.png').size == (48, 48)


def files_of_the_page(repo_root: Path) -> dict[str, str]:
    """The files that docs/extending.md shows, each of which begins with its name."""
    text = (repo_root / 'docs/extending.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```(?:python|yaml)\n(# (\S+)\n.*?)```', text, re.DOTALL)
    assert len(blocks) == len(re.findall('```(?:python|yaml)', text))
    return {name: content for content, name in blocks}


@pytest.fixture(scope='module')
def page(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """A folder with the files that docs/extending.md shows, and training pairs; and the page's further commands."""
    folder = tmp_path_factory.mktemp('page')
    text = (repo_root / 'docs/extending.md').read_text(encoding='utf-8')
    for name, content in files_of_the_page(repo_root).items():
        (folder / name).write_text(content)
    (folder / 'my_pictures').mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (264, 264, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'my_pictures/a.png')
    Image.fromarray(pixels[:12, :16]).save(folder / 'photo.jpg')
    prepare, *others = [shlex.split(line)[1:] for line in re.findall(r'^iafmsr .*', text, re.MULTILINE)]
    done = python(folder, '-m', 'iafmsr', *prepare)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, others


@pytest.mark.parametrize(
    ('name', 'logged', 'own'),
    [('my_net', 'l_ie', 'arm.scale.weight'), ('my_parts', 'l_edge', 'blocks.3.ifem.igra.attention.weight')],
)
def test_the_examples_of_the_page_are_trained_and_upscale(
    page: tuple[Path, list[list[str]]], name: str, logged: str, own: str
) -> None:
    folder, commands = page
    train, upscale = (words for words in commands if name in ' '.join(words))
    forced = ('--force_yml', 'num_gpu=0', 'train:total_iter=10', 'datasets:train:num_worker_per_gpu=0')
    done = python(folder, '-m', 'iafmsr', *train, *forced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf'iter: *10, .*{logged}: ', done.stdout + done.stderr)
    weights = torch.load(folder / f'experiments/{name}/models/net_g_latest.pth', weights_only=True)
    assert own in weights['params'] and weights['network_g'].get('guide', 'surprise') == 'surprise'
    done = python(folder, '-m', 'iafmsr', *upscale, '--overwrite')
    assert done.returncode == 0, done.stdout + done.stderr
    assert Image.open(folder / 'photo_x4.png').size == (64, 48)


def test_basicsrs_own_trainer_takes_an_option_file_of_ours(folder: Path, repo_root: Path) -> None:
    (folder / 'mine.yml').write_text('base: train_IAFMNet_x4.yml\nname: mine\nnetwork_g: {num_feat: 8, num_block: 1}\n')
    (folder / 'train.py').write_text(files_of_the_page(repo_root)['train.py'])
    done = python(folder, 'train.py', '-opt', 'mine.yml', '--force_yml', *DATA, 'train:total_iter=2')
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / 'experiments/mine/models/net_g_latest.pth').is_file()


def test_forms_of_a_package_are_options_of_iafmnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention, guide, feed-forward network and upsampler: a step trains the parameters of each."""
    monkeypatch.setattr(sys, 'path', [*sys.path])
    (tmp_path / 'my_forms.py').write_text(
        'from torch import nn\n'
        'from iafmsr.layers import ATTENTIONS, FFNS, GUIDES, UPSAMPLERS\n\n'
        '@ATTENTIONS.register("mine")\n'
        'class Attention(nn.Conv2d):\n'
        '    guided = True\n'
        '    def __init__(self, num_feat): super().__init__(num_feat, num_feat, 1)\n'
        '    def forward(self, x, guide, guidance): return guidance.add(super().forward(x), guide)\n\n'
        '@GUIDES.register("mine")\n'
        'class Guide(nn.Conv2d):\n'
        '    per_channel = False\n'
        '    def __init__(self): super().__init__(1, 1, 3, padding=1)\n'
        '    def forward(self, known): return super().forward(known.map("idm")).sigmoid()\n\n'
        '@FFNS.register("mine")\n'
        'class FFN(nn.Conv2d):\n'
        '    def __init__(self, num_feat, ffn_scale): super().__init__(num_feat, num_feat, 1)\n'
        '    def forward(self, x, route): return super().forward(x)\n\n'
        '@UPSAMPLERS.register("mine")\n'
        'class Upsampler(nn.Sequential):\n'
        '    def __init__(self, num_feat, num_out_ch, scale):\n'
        '        super().__init__(nn.Upsample(scale_factor=scale), nn.Conv2d(num_feat, num_out_ch, 1))\n'
    )
    import_packages(['my_forms'], [tmp_path], '--import')
    forms = dict.fromkeys(('attention', 'guide', 'ffn', 'upsampler'), 'mine')
    net = archs.find('IAFMNet')(scale=2, num_feat=8, num_block=1, guidance='product', **forms)
    assert net(torch.rand(2, 3, 9, 12)).shape == (2, 3, 18, 24)
    net(torch.rand(2, 3, 16, 16)).square().mean().backward()
    parts = (net.blocks[0].ifem.igra.attention, net.density.form, net.blocks[0].cgfn, net.tail[1])
    assert all(part.weight.grad.abs().sum() > 0 for part in parts)
    with pytest.raises(ValueError, match="upsampler must be one of pixelshuffle, .*, mine, got 'yours'"):
        archs.find('IAFMNet')(upsampler='yours')


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / 'a.yml'
    file.write_text('import: [no_such_package]\n')
    with pytest.raises(UserError, match=r'a\.yml: import: no package no_such_package on the path of Python'):
        load_options(file)


def test_what_a_package_raises_itself_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'path', [*sys.path])
    (tmp_path / 'wanting_package.py').write_text('import no_such_library\n')
    with pytest.raises(ModuleNotFoundError, match='no_such_library'):
        import_packages(['wanting_package'], [tmp_path], '--import')


def test_the_schema_knows_the_key() -> None:
    assert 'import' in Options.model_fields
