"""Option files for the tests of their check: the smallest with which a run can start, what is changed in it, and how a
command takes or refuses it."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import yaml
from PIL import Image

from iafmsr.errors import cli_errors
from iafmsr.options.command import parse_options
from iafmsr.training.command import add_arguments

DELETE = object()
# what train.py and test.py take; the ablations are what differs from one of them
OPTION_FILES = sorted(
    file for file in Path(__file__).resolve().parent.parent.glob('options/**/*.yml') if file.name != 'ablation.yml'
)


def write_lmdb(folder: Path, pictures: dict[str, tuple[int, int]]) -> None:
    """An LMDB of noise pictures, {key: (height, width)}, as BasicSR reads it."""
    rng = np.random.default_rng(0)
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for key, size in pictures.items():
            transaction.put(key.encode(), rng.integers(0, 256, 3 * size[0] * size[1], np.uint8).tobytes())
    (folder / 'meta_info.txt').write_text(''.join(f'{key}.png ({h},{w},3) 1\n' for key, (h, w) in pictures.items()))


def write_pictures(folder: Path, pictures: dict[str, tuple[int, int]]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in pictures.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository root with data and with an earlier run of the same name."""
    keys = [f'{i:02d}' for i in range(8)]
    (tmp_path / 'data').mkdir()
    write_lmdb(tmp_path / 'data/gt.lmdb', dict.fromkeys(keys, (64, 48)))
    write_lmdb(tmp_path / 'data/lq.lmdb', dict.fromkeys(keys, (16, 12)))
    write_pictures(tmp_path / 'data/val_gt', {'a.png': (32, 35), 'b.png': (40, 48)})
    write_pictures(tmp_path / 'data/val_lq', {'ax4.png': (8, 8), 'bx4.png': (10, 12)})
    (tmp_path / 'experiments/run').mkdir(parents=True)
    (tmp_path / 'experiments/run/precious.txt').write_text('a day of work')
    return tmp_path


def train_options() -> dict[str, Any]:
    """The smallest options with which a run can start."""
    return yaml.safe_load("""
        name: run
        model_type: IAFMNetModel
        scale: 4
        num_gpu: 0
        manual_seed: 0
        datasets:
          train: {name: T, type: PairedImageDataset, dataroot_gt: data/gt.lmdb, dataroot_lq: data/lq.lmdb,
                  io_backend: {type: lmdb}, gt_size: 32, use_hflip: true, use_rot: true,
                  batch_size_per_gpu: 4, num_worker_per_gpu: 0}
          val: {name: V, type: PairedImageDataset, dataroot_gt: data/val_gt, dataroot_lq: data/val_lq,
                filename_tmpl: '{}x4', io_backend: {type: disk}}
        network_g: {type: IAFMNet, scale: 4, num_feat: 8, num_block: 1}
        path: {pretrain_network_g: ~}
        train:
          total_iter: 20
          optim_g: {type: Adam, lr: 0.001, betas: [0.9, 0.99]}
          scheduler: {type: CosineAnnealingRestartLR, periods: [20], restart_weights: [1], eta_min: 0.00001}
          pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
          ie_opt: {type: InformationEntropyLoss, loss_weight: 0.0001}
        val:
          val_freq: 10
          save_img: false
          metrics: {psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: true}}
        logger: {print_freq: 5, save_checkpoint_freq: 10, use_tb_logger: false}
    """)


def set_key(opt: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split('.')
    for section in sections:
        opt = opt.setdefault(section, {})
    if value is DELETE:
        del opt[last]
    else:
        opt[last] = copy.deepcopy(value)


def changed(**keys: Any) -> dict[str, Any]:
    opt = train_options()
    for key, value in keys.items():
        set_key(opt, key, value)
    return opt


def flags(*words: str) -> argparse.Namespace:
    """The arguments of ``iafmsr train`` and ``iafmsr test``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def parse(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Parse options as a command would: from a file, in another working directory than the root."""

    def run(opt: dict[str, Any] | str, *arguments: str, is_train: bool = True) -> dict[str, Any]:
        text = opt if isinstance(opt, str) else yaml.safe_dump(opt, sort_keys=False)
        (root / 'elsewhere').mkdir(exist_ok=True)
        (root / 'elsewhere/x.yml').write_text(text)
        monkeypatch.chdir(root / 'elsewhere')
        with cli_errors():
            return parse_options(flags('-opt', 'x.yml', *arguments), str(root), is_train)

    return run


@pytest.fixture
def refused(root: Path, parse: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Parse options that must be refused: exit code 2, nothing in the root touched; returns the lines of the error."""

    def run(opt: dict[str, Any] | str, *arguments: str, is_train: bool = True) -> list[str]:
        def tree() -> list[Path]:
            return sorted(path for path in root.rglob('*') if path.name not in ('elsewhere', 'x.yml'))

        before = tree()
        with pytest.raises(SystemExit) as exit_info:
            parse(opt, *arguments, is_train=is_train)
        assert exit_info.value.code == 2
        assert tree() == before
        output = capsys.readouterr()
        assert output.out == ''
        lines = output.err.splitlines()
        assert lines and all(line.startswith('iafmsr: error: ') for line in lines)
        return [line.removeprefix('iafmsr: error: ') for line in lines]

    return run
