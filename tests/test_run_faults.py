"""What happens to runs: a second of the same name, full disks, weights that go wrong, processes that will not end."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
import tqdm
from tiny import TORCHRUN, built, finish, options, start, train, write_data

from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.nets.checkpoints import save_whole
from iafmsr.nets.reading import load_checkpoint
from iafmsr.training import validation
from iafmsr.training.batches import Batches
from iafmsr.training.checkpoints import load_resume_state
from iafmsr.training.checks.check import check_options
from iafmsr.training.exact import data_order, listing_digest
from iafmsr.training.saving import fault_of_weights
from iafmsr.training.validation import pictures_apart

FULL = os.environ.get('IAFMSR_FULL') == '1'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with the package and data in it."""
    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(root)
    return root


def at(iteration: int) -> Any:
    return lambda line: re.search(rf'iter:\s*{iteration},', line)


def states(root: Path, name: str) -> set[str]:
    return {path.name for path in (root / 'experiments' / name / 'training_states').iterdir()}


def session(pid: int) -> list[int]:
    """Processes that are alive in the session of a run."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            state, _, _, number = folder.joinpath('stat').read_text().rpartition(')')[2].split()[:4]
        except OSError:
            continue
        if int(number) == pid and state != 'Z':
            found.append(int(folder.name))
    return found


# -- ends ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('workers, persistent', [(0, False), (1, False), (1, True)])
@pytest.mark.parametrize('mode', [None, 'cpu'])
@pytest.mark.parametrize('in_memory', [None, 'host'])
def test_nothing_that_makes_batches_outlives_them(
    tmp_path: Path, mode: str | None, workers: int, persistent: bool, in_memory: str | None
) -> None:
    """And they are the batches of a loader that does nothing ahead."""

    def batches(folder: str, iteration: int, **data: Any) -> Batches:
        root = tmp_path / folder  # an LMDB is opened once in a process
        root.mkdir()
        write_data(root)
        opt = options('x') | {'rank': 0, 'world_size': 1, 'dist': False}
        train = opt['datasets']['train'] | {'phase': 'train', 'scale': 4, 'batch_size_per_gpu': 4} | data
        opt['datasets']['train'] = train | {key: str(root / train[key]) for key in ('dataroot_gt', 'dataroot_lq')}
        return Batches(opt, iteration)

    with batches('plain', 0, num_worker_per_gpu=0) as plain:
        expected = [next(plain)['lq'] for _ in range(10)][3:]
    threads = set(threading.enumerate())
    seen = []
    with (
        pytest.raises(ZeroDivisionError),
        batches(
            'ahead',
            3,
            prefetch_mode=mode,
            num_worker_per_gpu=workers,
            persistent_workers=persistent,
            in_memory=in_memory,
        ) as ahead,
    ):
        for _ in range(7):  # an epoch has 5
            seen.append(next(ahead)['lq'])
        assert ahead.epoch == 1
        1 / 0  # noqa: B018
    for thread in set(threading.enumerate()) - threads:
        thread.join(0 if isinstance(thread, tqdm.TMonitor) else 5)
        assert not thread.is_alive() or isinstance(thread, tqdm.TMonitor), thread
    assert not active_children()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen, expected, strict=True))


PREFETCHERS = [  # prefetch_mode, workers, whether they stay, in_memory
    ('cpu', 1, True, None),
    *([(None, 1, False, None), ('cpu', 1, False, None), ('cpu', 0, False, None), ('cpu', 0, False, 'host')] * FULL),
]


@pytest.mark.parametrize('way', ['end', 'SIGTERM', 'fault', *(['SIGINT', 'SIGUSR1', 'SIGKILL'] * FULL)])
@pytest.mark.parametrize('launcher', [(), *([TORCHRUN] * FULL)], ids=len)
@pytest.mark.parametrize(('mode', 'workers', 'persistent', 'in_memory'), PREFETCHERS)
def test_a_run_that_reads_ahead_ends_on_every_way_out(
    root: Path,
    way: str,
    launcher: tuple[str, ...],
    mode: str | None,
    workers: int,
    persistent: bool,
    in_memory: str | None,
) -> None:
    name = f'ahead_{way}_{mode}_{workers}_{persistent}_{in_memory}_{len(launcher)}'.replace(' ', '_')
    opt = options(name, total_iter=12 if way == 'end' else 4000, train__max_bad_steps=3)
    opt['datasets']['train'] |= {'prefetch_mode': mode, 'num_worker_per_gpu': workers, 'in_memory': in_memory}
    opt['datasets']['train'] |= {'persistent_workers': persistent}
    if way == 'fault':
        opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [4], 'gamma': 1e25}
    begin = time.monotonic()
    process = start(root, opt, launcher=launcher)
    number = getattr(signal, way, None)
    code, log = finish(process, at(6) if number else lambda line: False, number or 0, seconds=150)
    expected = {'end': 0, 'fault': 2, 'SIGKILL': -signal.SIGKILL}.get(way, 75)
    # torchrun gives a code of its own for a signal or a process that fails
    assert code == expected or launcher and way != 'end' and code, log
    assert time.monotonic() - begin < 150
    end = time.monotonic() + 5  # a worker that is still starting ends when it has
    while (alive := processes(f'{name}.yml')) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive and not session(process.pid)
    # torchrun shows one for a signal, and a worker that was handing over a tensor to a process killed by kill -9
    assert launcher or way == 'SIGKILL' or 'Traceback' not in log


def test_data_workers_die_with_a_run_that_is_killed(root: Path) -> None:
    process = start(root, options('killed', total_iter=4000, datasets__train__num_worker_per_gpu=2))
    code, log = finish(process, at(3), signal.SIGKILL)
    assert code == -signal.SIGKILL, log
    end = time.monotonic() + 5
    while (alive := session(process.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive


def processes(*words: str) -> list[int]:
    """Of which the command line and the environment hold all words."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            text = folder.joinpath('cmdline').read_text() + folder.joinpath('environ').read_text()
        except OSError:
            continue
        if text and all(word in text for word in words):
            found.append(int(folder.name))
    return found


def test_ranks_die_with_a_torchrun_that_is_killed(root: Path) -> None:
    process = start(root, options('orphans', total_iter=4000), launcher=TORCHRUN)
    code, log = finish(process, at(3), signal.SIGKILL)
    assert code == -signal.SIGKILL, log
    end = time.monotonic() + 5
    while (alive := processes('orphans.yml')) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive


_ORPHAN = """
import multiprocessing, os, pathlib, signal, time
from iafmsr.bridge.launching import end_with_parent

def work():
    time.sleep(0.5)
    end_with_parent()
    pathlib.Path('alive').touch()

multiprocessing.get_context('fork').Process(target=work).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_whose_parent_has_ended_before_it_could_say_so_ends_too(repo_root: Path, tmp_path: Path) -> None:
    """On a busy machine a data worker takes seconds to start; its rank may be gone by then."""
    command, environment = [sys.executable, '-c', _ORPHAN], os.environ | {'PYTHONPATH': str(repo_root)}
    subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)  # until nobody holds the pipe
    assert not (tmp_path / 'alive').exists()


# torchrun waits half a minute for a stopped process to take its signal, before it kills it
_IMPATIENT = """
from torch.distributed.elastic.multiprocessing.api import PContext
from torch.distributed.run import main
close = PContext.close
PContext.close = lambda self, death_sig=None, timeout=30: close(self, death_sig, 1)
main()
"""


def test_a_stopped_rank_is_named_in_time(root: Path) -> None:
    (root / 'impatient.py').write_text(_IMPATIENT)
    halted: list[int] = []

    def halt(line: str) -> bool:
        if at(3)(line) and not halted:
            halted.extend(pid for pid in processes('stopped_rank.yml', '\0RANK=1\0') if children(pid))
            os.kill(halted[0], signal.SIGSTOP)
        return False

    opt = options('stopped_rank', total_iter=4000, train__timeout=5)
    code, log = finish(start(root, opt, launcher=(str(root / 'impatient.py'), *TORCHRUN[2:])), halt)
    assert code, log
    said = 'iafmsr: error: another process has not answered for 5 s, which is train.timeout; '
    assert f'{said}rank 1 (process {halted[0]}) is stopped' in log
    assert not processes('stopped_rank.yml')


@pytest.mark.parametrize('mode', [None, 'cpu'])
def test_a_stopped_data_worker_is_named_in_time(root: Path, mode: str | None) -> None:
    halted: list[int] = []

    def halt(line: str) -> bool:
        if at(3)(line) and not halted:
            halted.extend(pid for pid in children(process.pid) if 'resource_tracker' not in command(pid))
            os.kill(halted[0], signal.SIGSTOP)
        return False

    data = {'datasets__train__timeout': 3, 'datasets__train__prefetch_mode': mode}
    data['datasets__train__dataset_enlarge_ratio'] = 1000  # no new workers meanwhile
    process = start(root, options('stopped_worker', total_iter=4000, **data))
    code, log = finish(process, halt)
    assert code == 2 and 'Traceback' not in log, log
    assert log.splitlines()[-1] == (
        'iafmsr: error: no batch from the data workers for 3 s, which is datasets.train.timeout; '
        f'worker 0 (process {halted[0]}) is stopped'
    )
    assert not session(process.pid)


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f'/proc/{pid}/task').iterdir() for child in (task / 'children').read_text().split()
    ]


def command(pid: int) -> str:
    return Path(f'/proc/{pid}/cmdline').read_text()


# -- two at once ------------------------------------------------------------------------------------------------------
def test_a_second_run_of_the_same_name_is_refused(root: Path) -> None:
    opt, refused = options('one', total_iter=4000), []

    def second(line: str) -> bool:
        if at(2)(line):
            before = {path for path in root.glob('experiments/*')}, set(root.glob('experiments/one/*'))
            refused.extend(train(root, opt, *arguments) for arguments in ([], ['--auto_resume']))
            # what the first run saves in between lies deeper
            assert ({path for path in root.glob('experiments/*')}, set(root.glob('experiments/one/*'))) == before
            return True
        return False

    process = start(root, opt)
    code, log = finish(process, second)
    assert code == 75, log
    for code, log in refused:
        assert code == 2
        assert log.splitlines()[-1] == (
            f'iafmsr: error: {root}/experiments/one: process {process.pid} is using it; '
            'wait until it ends, or choose another name'
        )
    assert not list(root.glob('experiments/one_archived_*'))


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        'import sys, time; from pathlib import Path; from iafmsr.files.lock import folder_lock\n'
        f'with folder_lock(Path({str(tmp_path / "run")!r})): print("held", flush=True); time.sleep(60)'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'held\n'
        with pytest.raises(UserError, match=f'process {process.pid} is using it'), folder_lock(tmp_path / 'run'):
            pass
        process.kill()
    for _ in range(2):
        with folder_lock(tmp_path / 'run'):
            pass


# -- weights that go wrong --------------------------------------------------------------------------------------------
@pytest.mark.parametrize('spike', [12, 15])
def test_the_last_state_saved_is_good(root: Path, spike: int) -> None:
    """One step of an enormous rate, between two saves and at one: what follows is skipped, and not saved."""
    opt = options(
        f'spike{spike}',
        logger__save_checkpoint_freq=5,
        logger__keep_last=2,
        logger__keep_best=True,
        logger__print_freq=1000,
    )
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [spike - 1], 'gamma': 1e22}
    opt['val']['val_freq'] = 5
    code, log = finish(start(root, opt))
    assert code == 2 and 'Traceback' not in log, log
    assert re.search(r'1\d in a row stop the run \(train.max_bad_steps\); the last state saved is good', log)
    assert states(root, opt['name']) == {'5.state', '10.state'}
    for name in ('5', '10', 'best'):
        weights = load_checkpoint(root / f'experiments/{opt["name"]}/models/net_g_{name}.pth')
        assert all(value.abs().max() < 100 for part in ('params', 'params_ema') for value in weights[part].values())
    assert not (root / f'experiments/{opt["name"]}/models/net_g_latest.pth').exists()


def test_a_run_from_weights_of_nan_is_refused_before_its_folder_is_made(root: Path, tmp_path: Path) -> None:
    net = built(tmp_path).net_g
    torch.nn.init.constant_(net.tail.weight, torch.nan)
    save_whole({'params': net.state_dict()}, root / 'nan.pth')
    code, log = train(root, options('nan', logger__print_freq=1000, path__pretrain_network_g='nan.pth'))
    assert code == 2 and 'Traceback' not in log, log
    assert 'nan.pth: tail.weight holds values that are not finite' in log
    assert not (root / 'experiments/nan').exists()


def test_a_fault_of_weights_is_seen(tmp_path: Path) -> None:
    model = built(tmp_path)
    assert fault_of_weights(model) is None
    assert model.net_g.training
    for value in (torch.nan, 1e25):
        weight = model.net_g_ema.tail.weight.data
        before = weight.clone()
        weight[0, 0] = value
        assert fault_of_weights(model).startswith('net_g_ema has weights')
        weight.copy_(before)


def test_what_waits_for_a_report_is_bounded(tmp_path: Path) -> None:
    model = built(tmp_path, train__max_bad_steps=5)
    generator = torch.Generator().manual_seed(0)
    batch = {
        'lq': torch.rand(1, 3, 8, 8, generator=generator),
        'gt': torch.rand(1, 3, 32, 32, generator=generator),
        'lq_path': ['x.png'],
    }
    for iteration in range(1, 13):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        assert len(model.guard.steps) < 5
    assert 'skipped' not in model.get_current_log()


def test_a_gradient_whose_square_is_infinite_is_skipped(tmp_path: Path) -> None:
    model = built(tmp_path)
    model.net_g.tail.weight.register_hook(lambda gradient: gradient * 0 + 3e19)
    model.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.rand(1, 3, 32, 32)})
    model.optimize_parameters(1)
    assert model.get_current_log()['skipped'] == 1 and not model.optimizer_g.state


# -- full disks -------------------------------------------------------------------------------------------------------
def limited(root: Path, opt: dict[str, Any], **launch: Any) -> subprocess.Popen[str]:
    """A run on a disk that is full in effect: no file may be longer than 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        return start(root, opt, **launch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('way', ['end', 'signal'])
def test_a_full_disk_is_said_line_by_line(root: Path, way: str) -> None:
    opt = options(
        f'full_{way}',
        total_iter=20 if way == 'end' else 4000,
        logger__use_tb_logger=True,
        datasets__train__num_worker_per_gpu=0,
        val__save_img=True,
        val__val_freq=5,
    )
    code, log = finish(limited(root, opt), at(19) if way == 'signal' else lambda line: False)
    assert code == 2 and 'Traceback' not in log and 'Logging error' not in log, log
    assert log.count('File too large; lines of the log are lost') == 1
    assert log.count('TensorBoard: File too large; the run goes on without it.') == 1
    assert 'The pictures of the validation could not be written' in log and 'psnr' in log
    last = log.splitlines()[-1]
    if way == 'end':
        assert 'Iteration 10 could not be saved: File too large' in log
        assert last == (
            'iafmsr: error: the final weights could not be saved: File too large; the last good state is kept'
        )
    else:
        assert re.fullmatch(
            r'iafmsr: error: Stopped by SIGTERM after iteration \d+, which could not be saved; nothing '
            'has been saved before',
            last,
        )


# -- resuming ---------------------------------------------------------------------------------------------------------
SCHEDULES = [
    {'type': 'MultiStepLR', 'milestones': [3, 6], 'gamma': 0.5},
    {'type': 'MultiStepRestartLR', 'milestones': [4], 'gamma': 0.1, 'restarts': [0, 6], 'restart_weights': [1, 0.5]},
    {'type': 'CosineAnnealingRestartLR', 'periods': [9], 'restart_weights': [1], 'eta_min': 0},
]


@pytest.mark.parametrize('model_type', ['IAFMNetModel', 'SRModel'])
@pytest.mark.parametrize('schedule', range(3))
@pytest.mark.parametrize('warmup', [-1, 6])
def test_rates_are_those_of_the_option_file_after_a_resume(
    tmp_path: Path, model_type: str, schedule: int, warmup: int
) -> None:
    """Whatever they were before."""
    common = {'model_type': model_type, 'train__ie_opt': None, 'train__warmup_iter': warmup}
    before = built(tmp_path, train__scheduler=dict(SCHEDULES[schedule - 1]), **common)
    for iteration in range(1, 5):
        before.update_learning_rate(iteration, warmup)
        before.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.rand(1, 3, 32, 32)})
        before.optimize_parameters(iteration)
    before.save(0, 4)
    changed = common | {'train__optim_g': {'type': 'Adam', 'lr': 7e-3, 'betas': [0.8, 0.9], 'weight_decay': 0.1}}
    whole, after = (built(tmp_path, train__scheduler=dict(SCHEDULES[schedule]), **changed) for _ in range(2))
    after.resume_training(load_resume_state(after.opt | {'auto_resume': True}))
    for iteration in range(1, 10):
        whole.update_learning_rate(iteration, warmup)
        if iteration > 4:
            after.update_learning_rate(iteration, warmup)
            assert after.get_current_learning_rate() == whole.get_current_learning_rate()
    group = after.optimizer_g.param_groups[0]
    assert (list(group['betas']), group['weight_decay']) == ([0.8, 0.9], 0.1)
    assert after.optimizer_g.state_dict()['state'][0]['step'] == 4


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'train__optim_g': {'type': 'Muon', 'lr': 1e-3}}, 'was saved with Adam, the option file has Muon'),
        (
            {'network_g': {'type': 'IAFMNet', 'scale': 4, 'num_feat': 12, 'num_block': 1}},
            'its optimizer or its network differs from that of the option file',
        ),
    ],
)
def test_a_state_of_another_optimizer_or_network_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    before = built(tmp_path)
    before.feed_data({'lq': torch.rand(1, 3, 8, 8), 'gt': torch.rand(1, 3, 32, 32)})
    before.optimize_parameters(1)
    before.save(0, 1)
    after = built(tmp_path, **changes)
    state = load_resume_state(after.opt | {'auto_resume': True})
    with pytest.raises(UserError, match=said):
        after.resume_training(state)


def test_a_run_cannot_end_before_it_resumes(tmp_path: Path) -> None:
    model = built(tmp_path)
    model.save(0, 30)
    opt = built(tmp_path, train__total_iter=20).opt
    with pytest.raises(UserError, match=r'train.total_iter: 20, but .*30.state has iteration 30'):
        load_resume_state(opt | {'auto_resume': True})


def test_changed_data_and_options_are_named_on_resume(root: Path) -> None:
    code, log = train(root, options('changed', total_iter=10))
    assert code == 0, log
    code, log = train(
        root,
        options('changed', total_iter=11, datasets__train__gt_size=16, train__pixel_opt={'type': 'MSELoss'}),
        '--auto_resume',
    )
    assert code == 0, log
    assert ("Not an exact resume: gt_size 32 -> 16, pixel_opt {'type': 'L1Loss'} -> {'type': 'MSELoss'}.") in log
    code, log = train(root, options('changed', total_iter=5), '--auto_resume')
    assert code == 2 and 'train.total_iter: 5, but' in log and 'Traceback' not in log
    code, log = train(root, options('changed', total_iter=20, network_g__num_feat=12), '--auto_resume')
    assert code == 2 and 'Traceback' not in log, log


def test_the_order_of_data_knows_files_ranks_and_threads(tmp_path: Path) -> None:
    data = {'dataroot_gt': str(tmp_path), 'gt_size': 64, 'num_worker_per_gpu': 3}
    (tmp_path / 'a.png').write_bytes(b'123')
    digests = [listing_digest(data)]
    (tmp_path / 'a.png').write_bytes(b'1234')
    digests.append(listing_digest(data))
    (tmp_path / 'a.png').rename(tmp_path / 'b.png')
    digests.append(listing_digest(data))
    assert len(set(digests)) == 3
    opt = options('x') | {'world_size': 2}
    opt['datasets']['train'] = data
    values = data_order(opt, 4, 10, 1).values
    assert values['ranks'] == 2 and values['threads'] == torch.get_num_threads() and values['gt_size'] == 64
    assert values['listing'] == digests[2] and 'num_worker_per_gpu' not in values


# -- launching and validating -----------------------------------------------------------------------------------------
def test_torchrun_trains_under_basicsr_s_model_class(root: Path) -> None:
    """No loss trains theta there: unannounced, DistributedDataParallel dies at the second iteration."""
    opt = options('srmodel', total_iter=3, train__ie_opt=None) | {'model_type': 'SRModel'}
    code, log = train(root, opt, launcher=TORCHRUN)
    assert code == 0, log
    assert 'find_unused_parameters is set to true: no loss trains' in log


def test_the_flag_of_the_launcher_before_torchrun_is_taken(root: Path) -> None:
    code, log = train(root, options('old_launcher', total_iter=2), '--local-rank=0')
    assert code == 0, log
    assert 'eta: 0:00:00' in log and 'eta: -' not in log
    assert log.count('Validation val') == 1


def test_loggers_that_cannot_work_are_faults() -> None:
    opt = options('x', logger__keep_best=True, logger__wandb={'project': 'p'})
    del opt['datasets']['val']['dataroot_gt']
    opt['datasets']['val']['type'] = 'SingleImageDataset'
    faults = check_options(opt, True, '/', files=False).faults
    assert 'logger.wandb: needs use_tb_logger: true, since it copies the records of TensorBoard' in faults
    assert 'logger.keep_best: needs a val set with dataroot_gt, and val.metrics, to find the best weights' in faults


def test_a_validation_goes_on_without_its_pictures(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    class Model:
        def validation(self, loader: Any, iteration: int, board: Any, save_img: bool) -> None:
            calls.append(save_img)
            if save_img:
                raise OSError(28, 'No space left on device')

    assert not validation.validate(Model(), None, 1, None, True)
    assert calls == [True, False]
    assert validation.validate(Model(), None, 1, None, False)


def test_a_test_without_its_pictures_fails(root: Path) -> None:
    """With its measurements in the log; a disk is full in effect."""
    opt = options('measured', val__save_img=True, val__suffix=None)
    opt['datasets'] = {'test': opt['datasets']['val']}
    del opt['train'], opt['logger'], opt['val']['val_freq']
    code, log = finish(limited(root, opt, script='iafmsr/test.py'))
    assert code == 2 and 'Traceback' not in log and '# psnr:' in log, log
    assert log.splitlines()[-1] == (
        f'iafmsr: error: {root}/results/measured/visualization: the pictures of val are incomplete'
    )


def test_pictures_of_two_validation_sets_are_kept_apart(root: Path) -> None:
    """Both sets have a 000 and a 001; of one set alone the pictures lie where BasicSR puts them."""
    opt = options('two', 4, val__save_img=True, val__val_freq=4)
    opt['datasets']['val_2'] = opt['datasets']['val'] | {'name': 'other', 'dataroot_gt': 'train_gt.lmdb'}
    opt['datasets']['val_2']['dataroot_lq'] = 'train_lq.lmdb'
    code, log = train(root, opt)
    assert code == 0, log
    folder = root / 'experiments/two/visualization'
    expected = {f'{name}/{i:03d}/{i:03d}_4.png' for name, n in (('val', 2), ('other', 10)) for i in range(n)}
    assert {str(path.relative_to(folder)) for path in folder.rglob('*.png')} == expected
    with pictures_apart(opt | {'path': {'visualization': 'x'}}, None, ['alone']):
        pass  # and the set's name is not asked for
    assert 'Validation val' in log and 'Validation other' in log
