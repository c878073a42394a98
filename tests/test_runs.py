"""Whole runs, launched and stopped as users and schedulers do: exact resume, signals, torchrun, data that fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import pytest
import torch
import yaml
from tiny import TORCHRUN, finish, options, start, train, write_data

from iafmsr.data.paired_dataset import PairedSRDataset
from iafmsr.data.sampling import EpochSampler
from iafmsr.nets.reading import load_checkpoint
from iafmsr.training.signals import RESUME_ME

# As iafmsr/train.py; besides, every rank writes down what it has seen and what it has learned.
EVERY_RANK = """
import sys

import torch

from iafmsr import train
from iafmsr.models.iafmnet_model import IAFMNetModel

if __name__ == '__main__':
    step, save = IAFMNetModel.optimize_parameters, IAFMNetModel.save
    seen = []

    def optimize_parameters(self, current_iter):
        seen.append(self.gt.clone())
        step(self, current_iter)

    def save_every_rank(self, epoch, current_iter):
        file = f'{train.ROOT}/{self.opt["name"]}_{current_iter}_rank{self.opt["rank"]}.pth'
        torch.save({'seen': seen, 'net': self.get_bare_model(self.net_g).state_dict()}, file)
        save(self, epoch, current_iter)

    IAFMNetModel.optimize_parameters, IAFMNetModel.save = optimize_parameters, save_every_rank
    train.main()
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with the package and data in it."""
    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    (root / 'every_rank.py').write_text(EVERY_RANK)
    write_data(root)
    return root


def losses_in(log: str) -> dict[int, str]:
    """Iteration -> the numbers of its line in a log, less the times."""
    lines = re.finditer(r'iter:\s*([\d,]+), lr:(\S+)\)\] \[eta:.*?\)\] (.*)', log)
    return {int(found[1].replace(',', '')): found[2] + found[3] for found in lines}


def weights(root: Path, name: str, iteration: int | str) -> dict[str, Any]:
    return load_checkpoint(root / f'experiments/{name}/models/net_g_{iteration}.pth')


def assert_equal_weights(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys() >= {'params', 'params_ema'}
    assert ours['network_g'] == theirs['network_g']
    assert all(
        torch.equal(value, theirs[part][key]) for part in ('params', 'params_ema') for key, value in ours[part].items()
    )


def at(iteration: int) -> Any:
    return lambda line: re.search(rf'iter:\s*{iteration},', line)


@pytest.fixture(scope='module')
def straight(root: Path) -> str:
    """The log of a run of 40 iterations, of which an epoch has 5, without a stop."""
    code, log = train(root, options('straight'))
    assert code == 0, log
    return log


def test_a_run_stopped_by_each_signal_goes_on_to_the_bit(root: Path, straight: str) -> None:
    """Losses of every iteration, final weights and averaged weights, validations and their best."""
    losses, validations = {}, []
    for number, iteration in ((signal.SIGTERM, 3), (signal.SIGUSR1, 12), (signal.SIGINT, 23), (None, 99)):
        process = start(root, options('stopped'), '--auto_resume')
        code, log = finish(process, at(iteration), number)
        assert code == (RESUME_ME if number else 0), log
        assert 'Traceback' not in log
        losses |= losses_in(log)
        validations += re.findall(r'# psnr: .*', log)
        if number:
            assert f'Stopped by {number.name} after iteration {max(losses)}: run the same command again to go on' in log
    assert list(losses) == list(range(1, 41))
    assert losses == losses_in(straight)
    assert validations == re.findall(r'# psnr: .*', straight)
    assert_equal_weights(weights(root, 'straight', 'latest'), weights(root, 'stopped', 'latest'))
    assert not list(root.glob('experiments/*_archived_*'))


def test_a_second_ctrl_c_leaves_at_once(root: Path) -> None:
    process = start(root, options('twice', total_iter=4000))

    def interrupt_twice(line: str) -> bool:
        if at(5)(line):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
        return False

    code, log = finish(process, interrupt_twice)
    assert code in (130, RESUME_ME), log  # two signals in one instant are one signal
    assert 'Traceback' not in log


def test_auto_resume_never_restarts_in_silence(root: Path) -> None:
    opt = options('damaged', total_iter=10, logger__keep_last=1, logger__keep_best=True, val__val_freq=5)
    code, log = train(root, opt)
    assert code == 0, log
    models = {path.name for path in root.glob('experiments/damaged/models/*')}
    assert models == {'net_g_10.pth', 'net_g_best.pth', 'net_g_latest.pth'}
    state = root / 'experiments/damaged/training_states/10.state'
    state.write_bytes(state.read_bytes()[:-50])
    before = sorted(root.glob('experiments/**'))
    code, log = train(root, opt, '--auto_resume')
    assert code == 2
    assert 'skipped' in log and '10.state: not a file of weights that loads safely' in log
    assert 'the run has weights, but no state that can be loaded' in log and 'Traceback' not in log
    assert sorted(root.glob('experiments/**')) == before


@pytest.mark.skipif(os.environ.get('IAFMSR_FULL') != '1', reason='long form: scripts/test.sh --full')
def test_kill_at_50_random_moments_loses_nothing(root: Path, straight: str) -> None:
    """A whole run, killed 50 times anywhere from its first import to its last save, ends as the one without a stop."""
    random, losses = Random(0), {}
    opt = options('killed', logger__save_checkpoint_freq=1, logger__keep_last=3)
    newest = 0
    for _ in range(50):
        process = start(root, opt, '--auto_resume')
        stop = threading.Timer(random.uniform(1, 8), process.kill)
        stop.start()
        code, log = finish(process)
        stop.cancel()
        assert code in (0, -signal.SIGKILL) and 'skipped' not in log and 'Traceback' not in log, log
        losses |= losses_in(log)
        states = [int(path.stem) for path in root.glob('experiments/killed/training_states/*.state')]
        assert max(states, default=0) >= newest
        newest = max(states, default=0)
        if code == 0:  # done before it could be killed: once more from a state in its middle
            for path in root.glob('experiments/killed/training_states/*.state'):
                path.unlink()
            for path in root.glob('experiments/killed/models/*'):
                path.unlink()
            newest = 0
    code, log = train(root, opt, '--auto_resume')
    assert code == 0, log
    assert losses | losses_in(log) == losses_in(straight)
    assert_equal_weights(weights(root, 'straight', 'latest'), weights(root, 'killed', 'latest'))


def test_torchrun_trains_validates_stops_and_resumes(root: Path) -> None:
    """Two processes on CPU: equal weights to the bit, the samples of one process dealt out, exact resume."""
    launch = {'script': 'every_rank.py', 'launcher': TORCHRUN}
    opt = options('ranks', total_iter=15, datasets__train__persistent_workers=True)
    code, log = train(root, opt, **launch)
    assert code == 0, log
    assert log.count('Validation val') == 1 and 'World size (gpu number): 2' in log
    ranks = [torch.load(root / f'ranks_-1_rank{rank}.pth') for rank in range(2)]
    assert all(torch.equal(value, ranks[1]['net'][key]) for key, value in ranks[0]['net'].items())
    latest = weights(root, 'ranks', 'latest')
    assert all(torch.equal(value, ranks[0]['net'][key]) for key, value in latest['params'].items())

    data = opt['datasets']['train'] | {'phase': 'train', 'scale': 4}
    dataset = PairedSRDataset(data | {key: str(root / data[key]) for key in ('dataroot_gt', 'dataroot_lq')})
    sampler = EpochSampler(dataset, ratio=2, seed=opt['manual_seed'])
    for iteration, *shares in zip(range(15), *[rank['seen'] for rank in ranks], strict=True):
        sampler.set_epoch(iteration // 5)
        expected = [dataset[draw]['gt'] for draw in list(sampler)[4 * (iteration % 5) :][:4]]
        assert all(torch.equal(share, torch.stack(expected[rank::2])) for rank, share in enumerate(shares))

    opt = options('halves', total_iter=15, datasets__train__num_worker_per_gpu=0)
    code, first = finish(start(root, opt, '--auto_resume', **launch), at(8))
    assert code != 0 and 'Stopped by' in first, first
    code, second = train(root, opt, '--auto_resume', **launch)
    assert code == 0, second
    assert losses_in(log) == losses_in(first) | losses_in(second)
    assert_equal_weights(weights(root, 'halves', 'latest'), latest)


def test_unreadable_pictures_are_named_once_and_end_a_run_when_many(root: Path, tmp_path: Path) -> None:
    write_data(tmp_path)
    (tmp_path / 'iafmsr').symlink_to(root / 'iafmsr')
    with lmdb.open(str(tmp_path / 'train_lq.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'004', b'noise')
    code, log = train(tmp_path, options('some', total_iter=15), '--force_yml', 'datasets:train:max_unreadable=0.1')
    assert code == 0 and 'Traceback' not in log, log
    assert (
        log.count(
            f'{tmp_path}/train_lq.lmdb, key 004: not a picture; another picture takes its place (1 unreadable so far)'
        )
        == 1
    )
    code, log = train(tmp_path, options('many', total_iter=15))
    assert code == 2 and 'Traceback' not in log, log
    assert '1 of 10 training pictures cannot be read, more than datasets.train.max_unreadable allows (0.01)' in log


def test_the_command_trains_a_dataset_of_basicsr_in_spawned_workers(root: Path) -> None:
    """A worker that is spawned, as under torchrun, has to cure BasicSR before it can read the dataset."""
    file = root / 'command.yml'
    file.write_text(yaml.safe_dump(options('command', total_iter=2, datasets__train__type='PairedImageDataset')))
    command = [*TORCHRUN, '-m', 'iafmsr', 'train', '-opt', str(file), '--launcher', 'pytorch']
    environment = os.environ | {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([sys.executable, *command], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert weights(root, 'command', 'latest')
