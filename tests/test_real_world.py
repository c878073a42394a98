"""Real-world and adversarial training: the option files run and resume exactly, wrong options are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from basicsr.models import build_model
from option_cases import flags
from test_models import ADAM, IAFMNET, batch, options

from iafmsr.data.sampling import Draw, SeededByDraw
from iafmsr.errors import UserError
from iafmsr.options.files import load_options
from iafmsr.tools.profiling.contestants import contestants_of
from iafmsr.training.checks.check import check_options
from iafmsr.training.loop import train

DISCRIMINATOR = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4}
FILES = {'Real': ['g'], 'GAN': ['g', 'd']}


def small(repo_root: Path, kind: str, **changes: Any) -> dict[str, Any]:
    """The option file, for the pictures and the size of network of :mod:`tiny`."""
    opt = load_options(repo_root / f'options/train_IAFMNet-{kind}_x4.yml')
    like = tiny.options('run', 20)
    for key in ('network_g', 'val', 'logger', 'num_gpu', 'path'):
        opt[key] = like[key]
    opt['datasets']['train'] |= {
        'dataroot_gt': 'train_gt.lmdb',
        'total_batch_size': 2,
        'num_worker_per_gpu': 0,
        'dataset_enlarge_ratio': 2,
    }
    opt['datasets']['val'] = like['datasets']['val']
    opt['train'] |= {'total_iter': 20, 'scheduler': like['train']['scheduler'], 'autocast': None, 'ema_decay': 0.9}
    if kind == 'GAN':
        opt['network_d'] = DISCRIMINATOR
        del opt['train']['perceptual_opt']  # whose VGG is not here
    return opt | {'gt_size': 32, 'queue_size': 4} | changes


def run(root: Path, opt: dict[str, Any], *arguments: str) -> Path:
    (root / 'x.yml').write_text(yaml.safe_dump(opt))
    train(flags('-opt', str(root / 'x.yml'), *arguments), str(root))
    return root / 'experiments' / opt['name']


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set's 400x400 pixels take a CPU seconds to blur: 64x64 of them."""
    from basicsr.data.realesrgan_dataset import RealESRGANDataset

    stock = RealESRGANDataset.__getitem__

    def getitem(self: Any, index: int) -> dict[str, Any]:
        sample = stock(self, index)
        return sample | {'gt': sample['gt'][:, :64, :64]}

    monkeypatch.setattr(RealESRGANDataset, '__getitem__', getitem)


@pytest.mark.parametrize('kind', FILES)
def test_option_file_trains_and_resumes_to_the_bit(
    tmp_path: Path, repo_root: Path, kind: str, small_pictures: None
) -> None:
    results = []
    for stops in ([20], [10, 20]):
        root = tmp_path / str(len(stops))
        root.mkdir()
        tiny.write_data(root)
        for number, stop in enumerate(stops):
            opt = small(repo_root, kind)
            opt['train']['total_iter'] = stop
            folder = run(root, opt, *(['--auto_resume'] if number else []))
        networks = [torch.load(folder / f'models/net_{net}_20.pth') for net in FILES[kind]]
        state = torch.load(folder / 'training_states/20.state', weights_only=False)
        results.append((networks, state['stateful']['pool'], state['optimizers']))
    for one, other in zip(*map(tensors, results), strict=True):
        assert torch.equal(one, other)
    pool = results[0][1]
    assert pool['queue_ptr'] == 4 and pool['queue_lr'].shape == (4, 3, 8, 8) and pool['queue_gt'].std() > 0
    theta = [p for name, p in results[0][0][0]['params'].items() if 'estimator' in name]
    start = [p for name, p in torch.load(folder / 'models/net_g_10.pth')['params'].items() if 'estimator' in name]
    assert all(not torch.equal(a, b) for a, b in zip(theta, start, strict=True))  # the density is trained


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


# -- adversarial ------------------------------------------------------------------------------------------------------
def adversarial(model_type: str, **train_section: Any) -> dict[str, Any]:
    opt = options(model_type, IAFMNET, network_d=DISCRIMINATOR)
    opt['train'] |= {
        'optim_d': ADAM,
        'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.1},
        **train_section,
    }
    return opt


@pytest.mark.parametrize(('stock', 'relativistic'), [('SRGANModel', False), ('ESRGANModel', True)])
def test_adversarial_steps_are_basicsrs(stock: str, relativistic: bool) -> None:
    torch.manual_seed(0)
    # spectral norm moves with each pass, and BasicSR makes one more
    without_state = {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 4, 'input_size': 128}
    ours, theirs = (
        build_model(adversarial(name, **keys) | {'network_d': without_state})
        for name, keys in (('IAFMNetGANModel', {'relativistic': relativistic}), (stock, {}))
    )
    for net in ('net_g', 'net_d', 'net_g_ema'):
        getattr(ours, net).load_state_dict(getattr(theirs, net).state_dict())
    for iteration in range(1, 4):
        logs = []
        for model in (ours, theirs):
            torch.manual_seed(iteration)
            model.feed_data(batch(32))
            model.optimize_parameters(iteration)
            logs.append({key.replace('l_g_pix', 'l_pix'): value for key, value in model.get_current_log().items()})
        assert logs[0] == pytest.approx(logs[1], rel=1e-3)
    for net in ('net_g', 'net_d', 'net_g_ema'):
        for a, b in zip(getattr(ours, net).parameters(), getattr(theirs, net).parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_discriminator_alone_learns_at_first_and_both_skip_what_is_not_finite() -> None:
    torch.manual_seed(0)
    model = build_model(adversarial('IAFMNetGANModel', net_d_init_iters=1, ie_opt={'type': 'InformationEntropyLoss'}))
    before = [[p.clone() for p in net.parameters()] for net in (model.net_g, model.net_d)]

    def moved() -> list[bool]:
        nets = zip((model.net_g, model.net_d), before, strict=True)
        return [any(not torch.equal(p, q) for p, q in zip(net.parameters(), old, strict=True)) for net, old in nets]

    bad = batch()
    bad['gt'] = bad['gt'] * float('nan')
    steps = ((1, bad, [False, False]), (1, batch(), [False, True]), (2, batch(), [True, True]))
    for iteration, data, expected in steps:
        model.feed_data(data)
        model.optimize_parameters(iteration)
        assert moved() == expected
    assert {'l_pix', 'l_ie', 'bpp', 'l_g_gan', 'l_d_real', 'l_d_fake', 'out_d_real'} <= model.get_current_log().keys()


def test_real_gan_aims_at_the_sharpened_truth_as_the_options_say() -> None:
    opt = adversarial('IAFMNetRealGANModel') | {'l1_gt_usm': True, 'percep_gt_usm': False, 'gan_gt_usm': False}
    model = build_model(opt)
    model.gt, model.gt_usm = torch.zeros(1), torch.ones(1)
    assert [model.target(name).item() for name in ('pix', 'percep', 'gan', 'ldl', 'ssim')] == [1, 0, 0, 0, 1]


# -- data -------------------------------------------------------------------------------------------------------------
def test_a_draw_seeds_what_somebody_elses_dataset_draws() -> None:
    class Noise:
        def __getitem__(self, index: int) -> tuple[int, float, float]:
            return index, float(np.random.rand()), float(torch.rand(1))

        def __len__(self) -> int:
            return 3

    dataset = SeededByDraw(Noise())
    first, again, other = (dataset[Draw(1, (0, 0, number))] for number in (5, 5, 6))
    assert first == again and first[0] == other[0] and first[1:] != other[1:] and len(dataset) == 3


# -- before the run ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('where', 'value', 'says'),
    [
        ('queue_size', 5, 'queue_size: 5 is no multiple of the batch of a process, 2'),
        ('gt_size', 404, 'gt_size: 404 must be a multiple of the scale, 4, and at most 400'),
        ('gt_size', 30, 'gt_size: 30 must be a multiple of the scale, 4, and at most 400'),
        ('jpeg_range', None, 'jpeg_range: missing'),
        ('jpeg_range', [95, 30], 'jpeg_range: must be two numbers from 0, the smaller one first, got [95, 30]'),
        ('resize_prob2', [0.5, 0.5], 'resize_prob2: must be three numbers from 0, got [0.5, 0.5]'),
        ('gt_usm', None, 'gt_usm: missing'),
        ('datasets.train.blur_sigma', None, 'datasets.train.blur_sigma: missing'),
        ('datasets.train.kernel_prob2', [1], 'datasets.train.kernel_prob2: 1 numbers for 6 kernels'),
        ('datasets.train.kernel_list', ['isso'], "datasets.train.kernel_list: 'isso' must be one of iso, aniso"),
        (
            'datasets.train.type',
            'PairedSRDataset',
            "datasets.train.type: 'PairedSRDataset': IAFMNetRealModel needs RealESRGANDataset",
        ),
    ],
)
def test_a_fault_of_the_degradations_is_one_line(repo_root: Path, where: str, value: Any, says: str) -> None:
    opt = small(repo_root, 'Real')
    section = opt
    *sections, key = where.split('.')
    for name in sections:
        section = section[name]
    section[key] = value
    faults = check_options(opt, True, '', files=False).faults
    assert any(fault.startswith(says) for fault in faults)
    assert where.endswith('type') or len(faults) == 1


def test_scale_3_does_not_divide_what_the_dataset_gives(repo_root: Path) -> None:
    opt = small(repo_root, 'Real', scale=3, gt_size=33)
    opt['network_g'] = opt['network_g'] | {'scale': 3}
    assert (
        'scale: RealESRGANDataset gives 400x400 pixels, which is not a multiple of 3'
        in check_options(opt, True, '', files=False).faults
    )


def test_profiling_says_that_it_does_not_degrade(repo_root: Path) -> None:
    opt = small(repo_root, 'Real')
    with pytest.raises(UserError, match='the degradations of Real-ESRGAN are not profiled'):
        contestants_of(opt, on_gpu=False)
