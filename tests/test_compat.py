"""Each cure of BasicSR: that it cures, and that it leaves alone what works."""

import importlib
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import tiny
import torch
import yaml

import iafmsr
from iafmsr.bridge import compat, importing
from iafmsr.bridge.launching import meet_by_slurm
from iafmsr.errors import UserError

# Every rank writes down its weights where BasicSR saves those of rank 0 alone.
MAIN = """
import argparse
import sys

import iafmsr
iafmsr.register()

if __name__ == '__main__':
    import torch
    from iafmsr.bridge.basicsr_api import SRModel
    from iafmsr.tools.training import add_arguments
    from iafmsr.training.loop import train
    from iafmsr.training.testing import test
    root, runs = sys.argv[1], ' '.join(sys.argv[2:]).split(' then ')
    save = SRModel.save

    def save_every_rank(self, epoch, current_iter):
        torch.save(self.get_bare_model(self.net_g).state_dict(), f'{root}/rank{self.opt["rank"]}.pth')
        save(self, epoch, current_iter)

    SRModel.save = save_every_rank
    for run in runs:
        task, *flags = run.split()
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args(['-opt', f'{root}/{task}.yml', *flags])
        {'train': train, 'test': test}[task](args, root)
"""


# ---------------------------------------------------------------- imports


def test_the_cures_of_the_import_are_needed() -> None:
    """When this fails, a new stack needs them no more: take them out."""
    done = subprocess.run([sys.executable, '-c', 'import basicsr'], capture_output=True, text=True)
    assert done.returncode != 0
    assert 'torchvision::nms' in done.stderr or 'functional_tensor' in done.stderr


def test_torchvision_operators_are_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision  # noqa: F401

    assert hasattr(torch.ops.torchvision, 'nms')
    monkeypatch.setattr(torch.library, 'Library', lambda *_: pytest.fail('declared although present'))
    importing.declare_torchvision_operators()


@pytest.mark.parametrize('name', ['_C.so', '_C_stable.so'])
def test_torchvision_declares_its_operators_by_a_library_of_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Declared here first, they would end the process when torchvision 0.29 loads its library."""
    (tmp_path / name).touch()
    loaded: list[Path] = []
    monkeypatch.setattr(importing, 'find_spec', lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    monkeypatch.setattr(torch.ops, 'load_library', loaded.append)
    importing.declare_torchvision_operators()
    assert loaded == [tmp_path / name]


def test_functional_tensor_has_the_function_of_functional() -> None:
    from basicsr.data import degradations
    from torchvision.transforms import functional

    assert degradations.rgb_to_grayscale is functional.rgb_to_grayscale


def test_a_present_functional_tensor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    present = object()
    monkeypatch.setitem(sys.modules, 'torchvision.transforms.functional_tensor', present)
    importing.provide_functional_tensor()
    assert sys.modules['torchvision.transforms.functional_tensor'] is present


@pytest.mark.skipif(sys.version_info < (3, 12), reason='Python 3.11 has distutils')
def test_distutils_is_found_without_start_up_files(repo_root: Path) -> None:
    path = os.pathsep.join([str(repo_root), sysconfig.get_path('purelib')])
    done = subprocess.run(
        [sys.executable, '-S', '-c', 'import iafmsr.bridge.basicsr_api, distutils.version'],
        env={**os.environ, 'PYTHONPATH': path},
    )
    assert done.returncode == 0


def test_importing_again_registers_nothing_twice() -> None:
    """BasicSR's registries raise an AssertionError at a name they have."""
    from basicsr.utils.registry import ARCH_REGISTRY

    importlib.reload(iafmsr)
    iafmsr.register()
    assert 'IAFMNet' in ARCH_REGISTRY


def test_applying_twice_changes_nothing() -> None:
    from basicsr.models.base_model import BaseModel
    from basicsr.models.sr_model import SRModel
    from basicsr.utils import options

    owners = (options, BaseModel, SRModel)
    before = [dict(vars(owner)) for owner in owners]
    compat.apply()
    assert all(dict(vars(owner)) == old for owner, old in zip(owners, before, strict=True))


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-4', 1e-4),
        ('-1', -1),
        ('-1.5', -1.5),
        ('+2.5E+3', 2500.0),
        ('.5e-1', 0.05),
        ('!!float 1e-4', 1e-4),
        ('7', 7),
        ('0.5', 0.5),
        ('[1e-4, -2, a]', [1e-4, -2, 'a']),
        ('true', True),
        ('False', False),
        ('~', None),
        ('None', None),
        ('none', 'none'),
        ('x4', 'x4'),
        ('e-4', 'e-4'),
        ('1e', '1e'),
        ('a/b.yml', 'a/b.yml'),
        ('1.2.3', '1.2.3'),
        ('[__import__("os").abort()]', ['__import__("os").abort()']),
    ],
)
def test_force_yml_reads_numbers_as_numbers(text: str, value: Any) -> None:
    from basicsr.utils import options

    read = options._postprocess_yml_value(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize('text', ['!!python/object/apply:os.abort []', '[1,', '@x'])
def test_force_yml_refuses_what_is_no_value(text: str) -> None:
    from basicsr.utils import options

    with pytest.raises(UserError, match='--force_yml'):
        options._postprocess_yml_value(text)


def test_option_files_are_data() -> None:
    from basicsr.utils import options

    loader = options.ordered_yaml()[0]
    assert yaml.load('{lr: 1e-4, name: IAFMNet_x4}', loader) == {'lr': 1e-4, 'name': 'IAFMNet_x4'}
    with pytest.raises(yaml.YAMLError):
        yaml.load('a: !!python/object/apply:os.abort []', loader)


def test_options_for_gpus_are_rewritten_and_named() -> None:
    opt = {'num_gpu': 2, 'datasets': {'train': {'prefetch_mode': 'cuda'}, 'val': {}}}
    assert compat.without_cuda(opt) == ['num_gpu: 0 (was 2)', 'datasets: train: prefetch_mode: None (was cuda)']
    assert opt == {'num_gpu': 0, 'datasets': {'train': {'prefetch_mode': None}, 'val': {}}}
    assert compat.without_cuda(opt) == []


# ---------------------------------------------------------------- whole runs, with a tiny net of BasicSR's own


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with pictures, and with option files written for a GPU."""
    root = tmp_path_factory.mktemp('project')
    noise = np.random.default_rng(0)
    for scale, size in (('hr', 32), ('lr', 16)):
        (root / scale).mkdir()
        for name in 'abcd':
            cv2.imwrite(str(root / scale / f'{name}.png'), noise.integers(0, 256, (size, size, 3), np.uint8))
    pairs = {
        'type': 'PairedImageDataset',
        'dataroot_gt': str(root / 'hr'),
        'dataroot_lq': str(root / 'lr'),
        'io_backend': {'type': 'disk'},
    }
    common = {
        'name': 'tiny',
        'model_type': 'SRModel',
        'scale': 2,
        'num_gpu': 1,
        'manual_seed': 0,
        'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1, 'upscale': 2},
        'val': {
            'val_freq': 2,
            'save_img': True,
            'suffix': None,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}},
        },
        'path': {'strict_load_g': True, 'resume_state': None},
    }
    train = {
        **common,
        'datasets': {
            'train': {
                **pairs,
                'name': 'train',
                'gt_size': 16,
                'use_hflip': True,
                'use_rot': True,
                'batch_size_per_gpu': 1,
                'num_worker_per_gpu': 1,
                'dataset_enlarge_ratio': 10,
                'persistent_workers': True,
                'prefetch_mode': 'cuda',
                'pin_memory': True,
            },
            'val': {**pairs, 'name': 'val'},
        },
        'train': {
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [3]},
            'total_iter': 2,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
    }
    test = {
        **common,
        'datasets': {
            'test_1': {**pairs, 'name': 'with_gt'},
            'test_2': {
                'type': 'SingleImageDataset',
                'name': 'lq_only',
                'dataroot_lq': str(root / 'lr'),
                'io_backend': {'type': 'disk'},
            },
            'test_3': {**pairs, 'name': 'with_gt_again'},
        },
    }
    (root / 'train.yml').write_text(yaml.safe_dump(train))
    (root / 'test.yml').write_text(yaml.safe_dump(test))
    (root / 'main.py').write_text(MAIN)
    return root


def run(project: Path, *runs: str, launcher: tuple[str, ...] = ()) -> str:
    """Runs BasicSR's pipelines as a user without a GPU would, from a working directory of no meaning."""
    done = subprocess.run(
        [sys.executable, *launcher, str(project / 'main.py'), str(project), *' then '.join(runs).split()],
        cwd='/',
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_train_resume_and_test_without_cuda(project: Path) -> None:
    weights = project / 'experiments/tiny/models/net_g_4.pth'
    log = run(
        project,
        'train --force_yml train:optim_g:lr=1e-3',
        'train --auto_resume --force_yml train:optim_g:lr=1e-3 train:total_iter=4',
        f'test --force_yml path:pretrain_network_g={weights}',
    )
    assert log.count('No CUDA device: num_gpu: 0 (was 1), datasets: train: prefetch_mode: None (was cuda)\n') == 2
    assert 'lr:(1.000e-03,)' in log
    assert log.count('Resuming training from epoch: 0, iter: 2.') == 1
    assert not list((project / 'experiments').glob('*_archived_*'))
    assert weights.exists()
    assert 'Validation with_gt\n' in log and 'Validation with_gt_again\n' in log and 'Validation lq_only' not in log
    assert len(list((project / 'results/tiny/visualization/lq_only').iterdir())) == 4


def test_torchrun_on_cpu_gives_both_ranks_the_same_weights(project: Path) -> None:
    """Each rank learns from pictures of its own: equal weights mean averaged gradients."""
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
    log = run(project, 'train --launcher pytorch --force_yml name=two train:optim_g:lr=1e-3', launcher=launcher)
    assert 'World size (gpu number): 2' in log
    first, second = (torch.load(project / f'rank{rank}.pth') for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = torch.load(project / 'experiments/two/models/net_g_2.pth')['params']
    assert all(torch.equal(first[name], saved[name]) for name in first)


# The last tensors' names are gone when gloo has sent them, and nothing lets go of the interpreter until its end.
LAST_WORDS = """
import sys
import time

import iafmsr.bridge.basicsr_api
import torch
import torch.distributed as dist
from basicsr.utils import options

options.init_dist('pytorch')
sys.setswitchinterval(60)
for _ in range(8):
    dist.all_reduce(torch.ones(1), async_op=True)
end = time.perf_counter() + .5
while time.perf_counter() < end:
    pass
"""


def test_gloo_does_not_abort_a_process_that_ends() -> None:
    alone = {
        'RANK': '0',
        'LOCAL_RANK': '0',
        'WORLD_SIZE': '1',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': '0',
        'CUDA_VISIBLE_DEVICES': '',
    }
    done = subprocess.run([sys.executable, '-c', LAST_WORDS], env=os.environ | alone, timeout=120)
    assert done.returncode == 0


def test_the_pytorch_launcher_asks_for_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.utils import options

    monkeypatch.delenv('LOCAL_RANK', raising=False)
    with pytest.raises(UserError, match='torchrun'):
        options.init_dist('pytorch')


def test_the_slurm_launcher_meets_without_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list of nodes is one argument of scontrol, whatever stands in it."""
    nodes = f'a[1-2]; touch {tmp_path}/pwned'
    (tmp_path / 'scontrol').write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {tmp_path}/asked\nprintf "127.0.0.1\\nb\\n"\n')
    (tmp_path / 'scontrol').chmod(0o755)
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK', 'SLURM_PROCID'):
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)  # and restored at the end, whatever is set
    for name, value in {'NTASKS': '2', 'NODELIST': nodes, 'LOCALID': '1'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    with pytest.raises(UserError, match='--launcher slurm: SLURM_PROCID is not set'):
        meet_by_slurm()
    monkeypatch.setenv('SLURM_PROCID', '1')
    with monkeypatch.context() as context, pytest.raises(UserError, match='scontrol does not know the nodes'):
        context.setenv('PATH', str(tmp_path / 'nothing'))
        meet_by_slurm()
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    meet_by_slurm(port=1234)
    assert (tmp_path / 'asked').read_text() == f'show|hostnames|{nodes}|' and not (tmp_path / 'pwned').exists()
    names = ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK')
    assert [os.environ[name] for name in names] == ['127.0.0.1', '1234', '2', '1', '1']


def test_the_slurm_launcher_trains_on_a_cpu(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho 127.0.0.1\n')
    (tmp_path / 'scontrol').chmod(0o755)
    tiny.write_data(tmp_path)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in {'NTASKS': '1', 'PROCID': '0', 'LOCALID': '0', 'NODELIST': 'x'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    opt = tiny.options('slurm', 2) | {'dist_params': {'backend': 'nccl', 'port': port}}
    code, log = tiny.train(tmp_path, opt, '--launcher', 'slurm')
    assert code == 0 and 'Traceback' not in log, log


# ---------------------------------------------------------------- Real-ESRGAN


def test_blur_takes_pictures_whose_channels_lie_last() -> None:
    from basicsr.models import realesrgan_model, realesrnet_model

    picture, kernel = torch.rand(2, 3, 40, 40), torch.rand(2, 21, 21)
    last = picture.contiguous(memory_format=torch.channels_last)
    for module in (realesrgan_model, realesrnet_model):
        assert torch.equal(module.filter2D(last, kernel), module.filter2D(picture, kernel))
        jpeg = module.DiffJPEG(differentiable=False)
        assert jpeg.cuda() is jpeg and type(jpeg).__name__ == 'DiffJPEG'
