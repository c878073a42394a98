"""The keys that an option file may hold, and their types: BasicSR's for single-image super-resolution, and ours.

Sections that have a ``type`` (networks, losses, optimizers, schedulers, metrics) are not listed: their keys are the
keywords of the class of that name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from iafmsr.basicsr_api import CosineAnnealingRestartLR, MultiStepRestartLR
from iafmsr.data.augmentation import AUGMENTATIONS
from iafmsr.models.compilation import MODES
from iafmsr.models.muon import Muon


@dataclass(frozen=True)
class Kind:
    """A type of value: its name in a message and its test."""

    name: str
    accepts: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ANY = Kind('a value', lambda value: True)
TEXT = Kind('a string', lambda value: isinstance(value, str))
FLAG = Kind('true or false', lambda value: isinstance(value, bool))
NUMBER = Kind('a number', is_number)
WHOLE = Kind('a whole number', is_whole)
NATURAL = Kind('a whole number from 0', lambda value: is_whole(value) and value >= 0)
COUNT = Kind('a whole number from 1', lambda value: is_whole(value) and value > 0)
# an iteration count may be written 5e3, or !!float 5e3 as in BasicSR's files
ITERATIONS = Kind('a whole number from 1', lambda value: is_number(value) and value > 0 and float(value).is_integer())
POSITIVE = Kind('a number above 0', lambda value: is_number(value) and 0 < value < float('inf'))
NUMBERS = Kind('a list of numbers', lambda value: isinstance(value, list) and all(map(is_number, value)))
TEXTS = Kind('a list of strings', lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value))
SECTION = Kind('a section of keys', lambda value: isinstance(value, dict))
SHARE = Kind('a number from 0 to 1', lambda value: is_number(value) and 0 <= value <= 1)
COMPILER = Kind(' or '.join(MODES), lambda value: value in MODES)
PRECISION = Kind('bf16 or fp16', lambda value: value in ('bf16', 'fp16'))
GPUS = Kind('auto or a whole number from 0', lambda value: value == 'auto' or NATURAL.accepts(value))

# Real-ESRGAN's degradation, two rounds of it
_ROUNDS = ('', '2')
_DEGRADATION = (dict.fromkeys(('high_order_degradation', 'gt_usm', 'l1_gt_usm', 'percep_gt_usm', 'gan_gt_usm'), FLAG)
                | {'queue_size': COUNT, 'gt_size': COUNT, 'second_blur_prob': NUMBER}
                | {f'{key}{i}': NUMBER for key in ('gaussian_noise_prob', 'gray_noise_prob') for i in _ROUNDS}
                | {f'{key}{i}': NUMBERS for i in _ROUNDS for key in
                   ('resize_prob', 'resize_range', 'noise_range', 'poisson_scale_range', 'jpeg_range')})
_BLUR = ({f'{key}{i}': kind for i in _ROUNDS for key, kind in
          {'blur_kernel_size': COUNT, 'kernel_list': TEXTS, 'kernel_prob': NUMBERS, 'blur_sigma': NUMBERS,
           'betag_range': NUMBERS, 'betap_range': NUMBERS, 'sinc_prob': NUMBER}.items()} | {'final_sinc_prob': NUMBER})

KNOWN: dict[str, dict[str, Kind]] = {
    '': {'name': TEXT, 'model_type': TEXT, 'scale': COUNT, 'num_gpu': GPUS, 'manual_seed': NATURAL,
         'find_unused_parameters': FLAG, 'datasets': SECTION, 'network_g': SECTION, 'network_d': SECTION,
         'path': SECTION, 'train': SECTION, 'val': SECTION, 'logger': SECTION, 'dist_params': SECTION} | _DEGRADATION,
    'path': {'resume_state': TEXT, 'ignore_resume_networks': TEXTS}
            | {f'{key}_{net}': kind for net in 'gd' for key, kind in
               {'pretrain_network': TEXT, 'param_key': TEXT, 'strict_load': FLAG}.items()},
    'train': {'total_iter': ITERATIONS, 'warmup_iter': WHOLE, 'ema_decay': NUMBER, 'scheduler': SECTION,
              'net_d_iters': COUNT, 'net_d_init_iters': NATURAL, 'autocast': PRECISION, 'channels_last': FLAG,
              'compile': COMPILER, 'max_bad_steps': COUNT}
             | dict.fromkeys(('optim_g', 'optim_d', 'pixel_opt', 'perceptual_opt', 'ie_opt', 'fft_opt', 'gan_opt',
                              'ldl_opt', 'teacher'), SECTION),
    'train.teacher': {'weight': POSITIVE, 'until': ITERATIONS, 'weights': TEXT},
    'val': {'val_freq': ITERATIONS, 'save_img': FLAG, 'suffix': TEXT, 'pbar': FLAG, 'metrics': SECTION},
    'logger': {'print_freq': ITERATIONS, 'save_checkpoint_freq': ITERATIONS, 'keep_last': COUNT, 'keep_best': FLAG,
               'use_tb_logger': FLAG, 'wandb': SECTION},
    'logger.wandb': {'project': TEXT, 'resume_id': TEXT},
    'metric': {'crop_border': NATURAL, 'test_y_channel': FLAG},
    'dist_params': {'backend': TEXT, 'port': COUNT},
    'io_backend': {'type': TEXT, 'readonly': FLAG, 'lock': FLAG, 'readahead': FLAG,
                   'server_list_cfg': TEXT, 'client_cfg': TEXT, 'sys_path': TEXT},
}
LOADER = {'name': TEXT, 'type': TEXT, 'io_backend': SECTION, 'mean': NUMBERS, 'std': NUMBERS, 'use_shuffle': FLAG,
          'num_worker_per_gpu': NATURAL, 'batch_size_per_gpu': COUNT, 'total_batch_size': COUNT,
          'dataset_enlarge_ratio': COUNT, 'prefetch_mode': TEXT, 'num_prefetch_queue': COUNT, 'pin_memory': FLAG,
          'persistent_workers': FLAG}
PATCHES = {'gt_size': COUNT, 'use_hflip': FLAG, 'use_rot': FLAG}
_PAIRS = {'dataroot_gt': TEXT, 'dataroot_lq': TEXT, 'filename_tmpl': TEXT} | PATCHES
DATASETS: dict[str, dict[str, Kind]] = {
    'PairedImageDataset': _PAIRS | {'meta_info_file': TEXT, 'color': TEXT},
    'PairedSRDataset': _PAIRS | {'meta_info_file': TEXT, 'color': TEXT, 'max_unreadable': SHARE, 'in_memory': TEXT}
                       | {'dataroot_teacher': TEXT} | dict.fromkeys(AUGMENTATIONS, SHARE),
    'RealESRGANPairedDataset': _PAIRS | {'meta_info': TEXT},
    'SingleImageDataset': {'dataroot_lq': TEXT, 'meta_info_file': TEXT, 'color': TEXT},
    'RealESRGANDataset': {'dataroot_gt': TEXT, 'meta_info': TEXT} | PATCHES | _BLUR,
}
SCHEDULERS = {'MultiStepLR': MultiStepRestartLR, 'MultiStepRestartLR': MultiStepRestartLR,
              'CosineAnnealingRestartLR': CosineAnnealingRestartLR}
OPTIMIZERS = {'Adam': torch.optim.Adam, 'Muon': Muon}
