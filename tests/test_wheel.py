"""The wheel is whole: an environment of nothing but it and the libraries, outside any checkout, does all the work."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import iafmsr

TINY = (
    'num_gpu=0',
    'datasets:train:dataroot_gt=gt',
    'datasets:train:dataroot_lq=lq',
    'datasets:train:io_backend:type=disk',
    'datasets:train:gt_size=32',
    'datasets:train:total_batch_size=2',
    'datasets:train:num_worker_per_gpu=0',
    'datasets:train:in_memory=~',
    'datasets:val:dataroot_gt=gt',
    'datasets:val:dataroot_lq=lq',
    'datasets:val:filename_tmpl="{}"',
    'network_g:num_feat=8',
    'network_g:num_block=1',
    'train:total_iter=2',
    'logger:use_tb_logger=false',
)


@pytest.fixture(scope='module')
def tree(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, in a folder of the package's name: building writes into the tree."""
    tree = tmp_path_factory.mktemp('above') / 'iafmsr'
    listed = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split('\0')):
        if (repo_root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((repo_root / name).read_bytes())
    return tree


def environment(folder: Path, *install: str) -> Path:
    """The Python of an environment with a package; the libraries are those of this one, by a .pth file."""
    venv.create(folder, with_pip=False, symlinks=os.name == 'posix')
    python = folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    (site,) = folder.rglob('site-packages')
    (site / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
    pip = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--no-deps', '--no-index', '--quiet']
    subprocess.run([*pip, '--no-build-isolation', *install], check=True, cwd=folder)
    return python


@pytest.fixture(scope='module')
def python(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel."""
    folder = tmp_path_factory.mktemp('wheel')
    build = f'from setuptools import build_meta as b; b.build_wheel({str(folder)!r})'
    subprocess.run([sys.executable, '-c', build], cwd=tree, check=True, capture_output=True)
    return environment(folder / 'env', *map(str, folder.glob('*.whl')))


def run(python: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [python.with_name('iafmsr'), *arguments],
        cwd=folder,
        env=environment | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
    for number, picture in enumerate(pixels):
        for name, size in (('gt', 48), ('lq', 12)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(picture).resize((size, size)).save(tmp_path / name / f'{number}.png')
    return tmp_path


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob('*') if path.is_file() and '__pycache__' not in path.parts}


def test_it_upscales_and_inspects_with_the_weights_that_it_brings_and_without_basicsr(
    python: Path, folder: Path
) -> None:
    (site,) = python.parents[1].rglob('site-packages')
    (site / 'hidden.pth').write_text('import sys; sys.modules.update(basicsr=None, torchvision=None, lmdb=None)\n')
    installed = files(python.parents[1])
    listed = run(python, folder, 'weights')
    brought = ['IAFMNet-fast_x4', 'IAFMNet_x2', 'IAFMNet_x3', 'IAFMNet_x4']
    assert [line.split()[0] for line in listed.splitlines()[1:]] == brought
    run(python, folder, 'upscale', 'lq/0.png', '--output', 'made/0.png', '--weights', 'IAFMNet_x4')
    expected = iafmsr.upscale(np.asarray(Image.open(folder / 'lq/0.png')))
    assert np.array_equal(np.asarray(Image.open(folder / 'made/0.png')), expected)
    run(python, folder, 'inspect', 'lq/0.png', '--weights', 'IAFMNet_x2', '--output', 'seen')
    assert any(path.suffix == '.html' for path in (folder / 'seen').iterdir())
    run(python, folder, 'export', '--weights', 'IAFMNet_x4', '--output', 'net.pth')
    run(python, folder, 'serve', '--help')
    assert 'still_life' in run(python, folder, 'demo')
    assert f'iafmsr        {iafmsr.__version__}\n' in run(python, folder, 'env')
    assert files(python.parents[1]) == installed
    (site / 'hidden.pth').unlink()


@pytest.mark.skipif(find_spec('basicsr') is None, reason='BasicSR is not installed')
def test_it_trains_by_the_name_of_an_option_file_and_writes_where_it_is_called(python: Path, folder: Path) -> None:
    installed = files(python.parents[1])
    run(python, folder, 'train', '-opt', 'train_IAFMNet_x4.yml', '--force_yml', *TINY)
    assert (folder / 'experiments/train_IAFMNet_x4/models/net_g_latest.pth').is_file()
    # an option file of one's own may start from it, and say where the run goes
    (folder / 'mine.yml').write_text('base: train_IAFMNet_x4.yml\nname: mine\npath: {root: elsewhere}\n')
    there = [entry.replace('=gt', f'={folder}/gt').replace('=lq', f'={folder}/lq') for entry in TINY]
    run(python, folder, 'train', '-opt', 'mine.yml', '--force_yml', *there)
    assert (folder / 'elsewhere/experiments/mine/models/net_g_latest.pth').is_file()
    assert files(python.parents[1]) == installed


def test_a_shell_in_the_folder_above_a_checkout_finds_the_package(tree: Path, tmp_path: Path) -> None:
    """There the checkout looks like a package of that name without anything in it."""
    python = environment(tmp_path / 'env', '--editable', str(tree))
    code = 'import iafmsr; print(iafmsr.__file__); iafmsr.IAFMNet'
    clean = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run([python, '-c', code], cwd=tree.parent, env=clean, capture_output=True, text=True)
    assert done.stdout == f'{tree}/iafmsr/__init__.py\n' and done.returncode == 0, done.stderr
