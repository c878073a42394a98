"""What other projects of BasicSR's family write in their option files (SAFMN, SMFANet, SeemoRe, HAT, traiNNer).

What means the same here is taken. What does not is a fault that says what to write instead.
"""

from __future__ import annotations

import re
from typing import Any

_RENAMED_SCALE = ('SAFMN', 'SMFANet')
# a key that this project does not have -> the value that changes nothing
_WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    '': {'use_amp': False, 'amp_bf16': False, 'use_channels_last': False, 'use_compile': False, 'fast_matmul': False},
    'datasets.*': {'task': 'SR', 'accum_iter': 1},
    'train': {'grad_clip': False},
    'train.fft_opt': {'reduction': 'mean'},
    'val': {'val_enabled': True, 'metrics_enabled': True, 'tile_size': 0},
}
# key, or `key=value`, or `key=~` -> what to write instead
_INSTEAD = {
    'manual_seed=~': '~ draws another seed at each start, so that no run can be resumed: write a number, such as 0',
    'val.val_freq=~': '~ is no number of iterations: write one, or leave out the section val for no validation',
    'model_type=HATModel': 'write SRModel or IAFMNetModel',
    'network_g.type=HAT': 'write `type: Spandrel` and `id: HAT`',
    'network_g.type=SeemoRe': 'write `type: Spandrel` and `id: SeemoRe`',
    'network_g.upscaling_factor': 'write scale',
    'use_amp': 'write `train: {autocast: bf16}`, or fp16',
    'amp_bf16': 'write `train: {autocast: bf16}`',
    'use_channels_last': 'write `train: {channels_last: true}`',
    'use_compile': 'write `train: {compile: default}`',
    'compile_mode': 'write `train: {compile: default}`, or another mode',
    'datasets.*.task': 'leave it out, all datasets are for super-resolution',
    'datasets.*.lq_size': 'write gt_size, which is lq_size times the scale',
    'datasets.*.accum_iter': 'write total_batch_size, which is accum_iter times as large, and `train: {accumulate: N}`',
    'train.fft_opt.reduction': 'leave it out, FFTLoss always takes the mean',
    **{
        f'train.optim_g.type={name}': 'write AdamW, or Muon for a short training'
        for name in ('Adan', 'AdanSF', 'adan', 'adan_sf', 'Lion', 'Prodigy')
    },
    'val.val_enabled': 'leave out the section val for no validation',
    'val.metrics_enabled': 'leave out the section metrics for no metrics',
    'val.tile_size': 'leave it out for whole pictures, or write tile',
}


def advice(where: str, value: Any) -> str | None:
    """What to write instead of a key (value: None) or instead of a value of it; None when nothing is known."""
    where = re.sub(r'^datasets\.[^.]+', 'datasets.*', where)
    if value is None:
        return _INSTEAD.get(f'{where}=~', _INSTEAD.get(where))
    return _INSTEAD.get(f'{where}={value}')


def translated(opt: Any) -> Any:
    """The options of one file, with what means the same written as it is here; what does not is left as it is."""
    if not isinstance(opt, dict):
        return opt
    opt = {**opt, **{key: dict(opt[key]) for key in opt if isinstance(opt[key], dict)}}
    datasets, train = (opt.get(key) if isinstance(opt.get(key), dict) else {} for key in ('datasets', 'train'))
    for phase in (phase for phase in datasets if isinstance(datasets[phase], dict)):
        datasets[phase] = _dataset(_plain(datasets[phase], 'datasets.*'), opt.get('scale'))
    for name in ('train', 'val'):
        if isinstance(opt.get(name), dict):
            opt[name] = _plain(opt[name], name)
    if isinstance(train.get('fft_opt'), dict) and train['fft_opt'].get('type', 'FFTLoss') == 'FFTLoss':
        opt['train']['fft_opt'] = _plain(train['fft_opt'], 'train.fft_opt')
    network = opt.get('network_g')
    if isinstance(network, dict) and network.get('type') in _RENAMED_SCALE and 'scale' not in network:
        opt['network_g'] = {'scale' if key == 'upscaling_factor' else key: value for key, value in network.items()}
    return _plain(opt, '')


def _plain(section: dict[Any, Any], where: str) -> dict[Any, Any]:
    """A section without the keys whose values change nothing."""
    without_effect = [(key, type(value), value) for key, value in _WITHOUT_EFFECT[where].items()]  # 1 is not true
    return {key: value for key, value in section.items() if (key, type(value), value) not in without_effect}


def _dataset(section: dict[Any, Any], scale: Any) -> dict[Any, Any]:
    for key in ('dataroot_gt', 'dataroot_lq'):
        if isinstance(section.get(key), list) and len(section[key]) == 1:
            section[key] = section[key][0]
    if 'gt_size' not in section and all(type(value) is int for value in (scale, section.get('lq_size'))):
        section['gt_size'] = scale * section.pop('lq_size')
    return section
