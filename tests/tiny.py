"""A run small enough for a test: data, options and how to launch it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from basicsr.utils.lmdb_util import LmdbMaker

PICTURES = {'train': 10, 'val': 2}
TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')


def write_data(root: Path) -> None:
    """``{train,val}_{gt,lq}.lmdb``: smooth random pictures of 64x64 and a quarter of that."""
    rng = np.random.default_rng(0)
    for phase, count in PICTURES.items():
        high = [
            cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
            for _ in range(count)
        ]
        for side, pictures in (
            ('gt', high),
            ('lq', [cv2.resize(p, (16, 16), interpolation=cv2.INTER_AREA) for p in high]),
        ):
            maker = LmdbMaker(str(root / f'{phase}_{side}.lmdb'), map_size=1 << 24)
            for i, picture in enumerate(pictures):
                maker.put(cv2.imencode('.png', picture)[1].tobytes(), f'{i:03d}', picture.shape)
            maker.close()


def options(name: str, total_iter: int = 40, **changes: Any) -> dict[str, Any]:
    """Options of a run of IAFMNet x4; ``changes`` are ``section__key=value``."""

    def pairs(phase: str) -> dict[str, Any]:
        return {
            'name': phase,
            'type': 'PairedSRDataset',
            'dataroot_gt': f'{phase}_gt.lmdb',
            'dataroot_lq': f'{phase}_lq.lmdb',
            'io_backend': {'type': 'lmdb'},
        }

    opt: dict[str, Any] = {
        'name': name,
        'model_type': 'IAFMNetModel',
        'scale': 4,
        'num_gpu': 0,
        'manual_seed': 3,
        'datasets': {
            'train': pairs('train')
            | {
                'gt_size': 32,
                'use_hflip': True,
                'use_rot': True,
                'total_batch_size': 4,
                'num_worker_per_gpu': 1,
                'dataset_enlarge_ratio': 2,
            },
            'val': pairs('val') | {'type': 'PairedImageDataset'},
        },
        'network_g': {'type': 'IAFMNet', 'scale': 4, 'num_feat': 8, 'num_block': 1},
        'path': {},
        'train': {
            'total_iter': total_iter,
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 2e-3},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [total_iter], 'eta_min': 1e-5},
            'pixel_opt': {'type': 'L1Loss'},
            'ie_opt': {'type': 'InformationEntropyLoss', 'loss_weight': 1e-3},
        },
        'val': {
            'val_freq': 15,
            'save_img': False,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}},
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 10, 'use_tb_logger': False},
    }
    for path, value in changes.items():
        *sections, key = path.split('__')
        section = opt
        for part in sections:
            section = section[part]
        section[key] = value
    return opt


def start(
    root: Path, opt: dict[str, Any], *arguments: str, script: str = 'iafmsr/train.py', launcher: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a run as a user would, from a working directory of no meaning; stderr joins stdout."""
    file = root / f'{opt["name"]}.yml'
    file.write_text(yaml.safe_dump(opt))
    command = [sys.executable, '-u', *launcher, str(root / script), '-opt', str(file), *arguments]
    if launcher:
        command += ['--launcher', 'pytorch']
    return subprocess.Popen(
        command,
        cwd='/',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'CUDA_VISIBLE_DEVICES': ''},
        start_new_session=True,
    )


def finish(
    process: subprocess.Popen[str],
    at: Callable[[str], bool] = lambda line: False,
    number: int = signal.SIGTERM,
    seconds: float = 300,
) -> tuple[int, str]:
    """Read a run's output to its end, with a signal at the first line that ``at`` accepts: exit code and output."""
    lines, sent = [], False
    timer = threading.Timer(seconds, lambda: os.killpg(process.pid, signal.SIGKILL))
    timer.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if not sent and at(line):
                process.send_signal(number)
                sent = True
        return process.wait(), ''.join(lines)
    finally:
        timer.cancel()


def train(root: Path, opt: dict[str, Any], *arguments: str, **launch: Any) -> tuple[int, str]:
    return finish(start(root, opt, *arguments, **launch))


def built(root: Path, **changes: Any) -> Any:
    """The model of such a run, with its folders but without data."""
    from basicsr.models import build_model

    opt = options('run', **changes) | {'rank': 0, 'world_size': 1, 'dist': False, 'is_train': True}
    run = root / 'experiments/run'
    opt['path']['resume_state'] = None
    for key in ('models', 'training_states'):
        opt['path'][key] = str(run / key)
        (run / key).mkdir(parents=True, exist_ok=True)
    return build_model(opt)
