"""The entry points as a user runs them: train from LMDBs, resume, test the checkpoint; from any working directory."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.lmdb_util import LmdbMaker

PICTURES = {'train': 8, 'val': 2}


def write_lmdb(path: Path, pictures: list[np.ndarray]) -> None:
    maker = LmdbMaker(str(path), map_size=1 << 24)
    for i, picture in enumerate(pictures):
        maker.put(cv2.imencode('.png', picture)[1].tobytes(), f'{i:03d}', picture.shape)
    maker.close()


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root of our own, with the package in it and LMDBs of smooth random pictures."""
    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    (root / 'elsewhere').mkdir()
    rng = np.random.default_rng(0)
    for phase, count in PICTURES.items():
        high = [
            cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
            for _ in range(count)
        ]
        write_lmdb(root / f'{phase}_gt.lmdb', high)
        write_lmdb(root / f'{phase}_lq.lmdb', [cv2.resize(p, (24, 24), interpolation=cv2.INTER_AREA) for p in high])
    (root / 'train.yml').write_text(
        yaml.safe_dump(
            options(
                'run',
                'val',
                train={
                    'total_iter': 20,
                    'ema_decay': 0.9,
                    'optim_g': {'type': 'Adam', 'lr': 1e-3},
                    'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [24], 'eta_min': 1e-5},
                    'pixel_opt': {'type': 'L1Loss'},
                    'ie_opt': {'type': 'InformationEntropyLoss', 'loss_weight': 1e-4},
                },
                logger={'print_freq': 5, 'save_checkpoint_freq': 10, 'use_tb_logger': False},
            )
        )
    )
    (root / 'test.yml').write_text(
        yaml.safe_dump(
            options(
                'measured',
                'test',
                path={'pretrain_network_g': 'experiments/run/models/net_g_20.pth', 'param_key_g': 'params_ema'},
            )
        )
    )
    return root


def options(name: str, phase: str, **sections: Any) -> dict[str, Any]:
    def dataset(phase: str, data: str, **keys: Any) -> dict[str, Any]:
        return {
            'name': phase,
            'type': 'PairedImageDataset',
            'dataroot_gt': f'{data}_gt.lmdb',
            'dataroot_lq': f'{data}_lq.lmdb',
            'io_backend': {'type': 'lmdb'},
            **keys,
        }

    datasets = {phase: dataset('held_out', 'val')}
    if phase == 'val':
        datasets['train'] = dataset(
            'seen', 'train', gt_size=48, use_hflip=True, use_rot=True, total_batch_size=4, num_worker_per_gpu=1
        )
    return {
        'name': name,
        'model_type': 'IAFMNetModel',
        'scale': 4,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': datasets,
        'network_g': {'type': 'IAFMNet', 'scale': 4, 'num_feat': 8, 'num_block': 1},
        'path': {},
        'val': {
            'val_freq': 10,
            'save_img': phase == 'test',
            'suffix': None,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}},
        },
        **sections,
    }


def run(root: Path, script: str, *arguments: str, terminal: bool = False) -> str:
    """Run an entry point from another working directory; returns what it wrote to stderr."""
    options_file = f'../{script.removesuffix(".py")}.yml'
    command = [sys.executable, str(root / 'iafmsr' / script), '-opt', options_file, *arguments]
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    if not terminal:
        done = subprocess.run(command, cwd=root / 'elsewhere', env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, 140, 0, 0))  # 24 rows, 140 columns
    with subprocess.Popen(
        command, cwd=root / 'elsewhere', env=environment, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b''
        try:
            while chunk := os.read(ours, 1 << 16):
                written += chunk
        except OSError:  # Linux says so when the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.fixture(scope='module')
def trained(root: Path) -> str:
    """What a training run of 20 iterations wrote to the terminal."""
    return run(root, 'train.py', terminal=True)


def log_of(root: Path, kind: str, number: int = -1) -> str:
    folder = root / ('experiments/run' if kind == 'train' else 'results/measured')
    return sorted(folder.glob(f'{kind}_*.log'))[number].read_text()


def psnr_of(log: str) -> list[float]:
    return [float(value) for value in re.findall(r'# psnr: ([\d.]+)', log)]


def test_train_writes_checkpoints_and_a_plain_log(root: Path, trained: str) -> None:
    models = {path.name for path in (root / 'experiments/run/models').iterdir()}
    assert models == {'net_g_10.pth', 'net_g_20.pth', 'net_g_latest.pth'}
    content = torch.load(root / 'experiments/run/models/net_g_20.pth', weights_only=True)
    assert set(content) == {'params', 'params_ema', 'network_g'}
    log = log_of(root, 'train', 0)
    lines = [line for line in log.splitlines() if 'iter:' in line and 'l_pix' in line]
    assert [int(re.search(r'iter:\s*(\d+)', line)[1]) for line in lines] == [5, 10, 15, 20]
    assert all('l_ie: ' in line and 'bpp: ' in line for line in lines)
    assert '\r' not in log
    assert not (root / 'elsewhere/experiments').exists()


def test_last_validation_is_logged_at_the_last_iteration(root: Path, trained: str) -> None:
    log = log_of(root, 'train', 0)
    assert len(psnr_of(log)) == 2  # the last one comes once
    assert set(re.findall(r'@ (\d+) iter', log)) <= {'10', '20'}


def test_terminal_shows_a_bar_with_eta_and_whole_log_lines(trained: str) -> None:
    assert re.search(r'run: +\d+%\|.*\| 20/20 \[\d\d:\d\d<\d\d:\d\d.*l_pix=', trained)
    # a log line begins where a line begins, and the periodic lines are the bar's business
    assert 'l_pix: ' not in trained
    lines = re.split(r'[\r\n]+', trained)
    assert [line for line in lines if 'INFO: Saving models' in line]
    assert all(re.match(r'\d{4}-\d\d-\d\d ', line) for line in lines if 'INFO: ' in line)


def test_test_reproduces_the_validation_of_training(root: Path, trained: str) -> None:
    stderr = run(root, 'test.py')
    (measured,) = psnr_of(log_of(root, 'test'))
    assert measured == psnr_of(log_of(root, 'train', 0))[-1]
    assert {path.name for path in (root / 'results/measured/visualization/held_out').iterdir()} == {
        '000_measured.png',
        '001_measured.png',
    }
    assert '\r' not in stderr


def test_resume_goes_on_where_the_run_stopped(root: Path, trained: str) -> None:
    stderr = run(root, 'train.py', '--auto_resume', '--force_yml', 'train:total_iter=24')
    assert 'Resuming training from epoch: 10, iter: 20' in stderr
    assert (root / 'experiments/run/models/net_g_10.pth').exists()
    assert not list(root.glob('experiments/*_archived_*'))


def test_a_fault_leaves_the_run_as_it_was(root: Path, trained: str) -> None:
    before = sorted((root / 'experiments').rglob('*'))
    done = subprocess.run(
        [sys.executable, str(root / 'iafmsr/train.py'), '-opt', 'train.yml', '--force_yml', 'train:optim_g:lrr=1'],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == 'iafmsr: error: --force_yml: train.optim_g.lrr: unknown key (did you mean lr?)\n'
    assert sorted((root / 'experiments').rglob('*')) == before
