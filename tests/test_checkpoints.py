"""Checkpoints: whole or not there; the newest whole one is found again, and what was skipped is named."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils import get_root_logger
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import built

from iafmsr.errors import UserError
from iafmsr.files.whole import _partial
from iafmsr.nets.checkpoints import save_whole
from iafmsr.nets.loading import load_net
from iafmsr.nets.reading import load_checkpoint
from iafmsr.training import checkpoints
from iafmsr.training.checkpoints import clear_away, newest_state
from iafmsr.training.exact import DataOrder
from iafmsr.training.saving import Saver

FULL = os.environ.get('IAFMSR_FULL') == '1'


def batch(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        'lq': torch.rand(1, 3, 8, 8, generator=generator),
        'gt': torch.rand(1, 3, 32, 32, generator=generator),
        'lq_path': [f'{seed}.png'],
    }


def step(model: Any, iteration: int) -> None:
    model.update_learning_rate(iteration)
    model.feed_data(batch(iteration))
    model.optimize_parameters(iteration)


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """The options of a run that has saved iterations 5, 10 and 15."""
    model = built(tmp_path)
    for iteration in range(1, 16):
        step(model, iteration)
        if iteration % 5 == 0:
            model.save(0, iteration)
    return model.opt | {'auto_resume': True}


def state(run: dict[str, Any], iteration: int) -> Path:
    return Path(run['path']['training_states'], f'{iteration}.state')


def network(run: dict[str, Any], iteration: int | str) -> Path:
    return Path(run['path']['models'], f'net_g_{iteration}.pth')


def flip(path: Path, position: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 255
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


# -- found again ------------------------------------------------------------------------------------------------------
def test_auto_resume_takes_the_newest_from_any_working_directory(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir('/')
    state(run, 15).with_name('notes.state').touch()
    found = checkpoints.load_resume_state(run)
    assert (found['iter'], found['optimizers'][0]['state'][0]['step']) == (15, 15)
    assert run['path']['resume_state'] == str(state(run, 15))
    assert run['path']['pretrain_network_g'] == str(network(run, 15))


@pytest.mark.parametrize(
    'damage, reason',
    [
        (lambda run: cut(state(run, 15)), '15.state: not a file of weights that loads safely'),
        (lambda run: flip(state(run, 15)), '15.state: damaged'),
        (lambda run: state(run, 15).write_bytes(b''), '15.state: not a file of weights'),
        (lambda run: cut(network(run, 15)), 'net_g_15.pth has changed since it was saved with this state'),
        (lambda run: flip(network(run, 15)), 'net_g_15.pth has changed since it was saved with this state'),
        (lambda run: network(run, 15).unlink(), 'the weights of its iteration 15 are missing'),
        (
            lambda run: os.replace(network(run, 10), network(run, 15)),
            'net_g_15.pth has changed since it was saved with this state',
        ),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_named(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str], damage: Any, reason: str
) -> None:
    damage(run)
    older = 5 if not network(run, 10).exists() else 10
    assert newest_state(run)[1]['iter'] == older
    assert reason in capsys.readouterr().err


def test_with_weights_but_no_state_that_loads_nothing_starts(run: dict[str, Any]) -> None:
    for iteration in (5, 10, 15):
        cut(state(run, iteration))
    with pytest.raises(UserError, match='no state that can be loaded'):
        newest_state(run)
    for iteration in (5, 10, 15):
        state(run, iteration).unlink()
    with pytest.raises(UserError, match='no state that can be loaded'):
        newest_state(run)


def test_before_the_first_state_there_is_nothing_to_resume(run: dict[str, Any]) -> None:
    for iteration in (5, 10, 15):
        state(run, iteration).unlink()
    network(run, 10).unlink()
    network(run, 15).unlink()
    assert newest_state(run) is None  # killed within its first save
    run['path'] |= {key: f'{run["path"][key]}/absent' for key in ('models', 'training_states')}
    assert newest_state(run) is None


def test_a_state_of_basicsr_itself_resumes(run: dict[str, Any]) -> None:
    content = load_checkpoint(state(run, 15))
    stock = {key: content[key] for key in ('epoch', 'iter', 'optimizers', 'schedulers')}
    torch.save(stock, state(run, 15))
    assert newest_state(run)[1]['iter'] == 15


@pytest.mark.parametrize('content', ['absent', 'empty', 'cut', 'code', 'weights'])
def test_a_bad_resume_state_is_named(
    run: dict[str, Any], content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / 'bad.state'
    if content == 'code':
        torch.save({'iter': Payload()}, bad)
    elif content == 'weights':
        torch.save({'params': {}}, bad)
    elif content != 'absent':
        bad.write_bytes(state(run, 10).read_bytes()[:600] if content == 'cut' else b'')
    run |= {'auto_resume': False, 'path': run['path'] | {'resume_state': str(bad)}}
    with pytest.raises(UserError, match=str(bad)):
        checkpoints.load_resume_state(run)
    assert not Path('ran').exists()


# -- exact ------------------------------------------------------------------------------------------------------------
def test_a_model_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Weights, averaged weights, Adam's moments, schedule, best metrics and counters, in the model alone."""
    straight = built(tmp_path)
    for iteration in range(1, 7):
        torch.manual_seed(iteration)
        step(straight, iteration)
        if iteration == 3:
            straight.best_metric_results = {
                'val': {'psnr': {'better': 'higher', 'val': torch.tensor(30.5).numpy()[()], 'iter': 2}}
            }
            straight.guard.skipped = 2
            straight.save(0, 3)
    resumed_opt = straight.opt | {'auto_resume': True}
    found = checkpoints.load_resume_state(resumed_opt)
    resumed = built(tmp_path, path__pretrain_network_g=resumed_opt['path']['pretrain_network_g'])
    resumed.resume_training(found)
    assert resumed.best_metric_results['val']['psnr'] == {'better': 'higher', 'val': 30.5, 'iter': 2}
    assert resumed.guard.skipped == 2
    for iteration in range(4, 7):
        torch.manual_seed(iteration)
        step(resumed, iteration)
    for name in ('net_g', 'net_g_ema'):
        for ours, theirs in zip(*[getattr(m, name).state_dict().values() for m in (straight, resumed)], strict=True):
            assert torch.equal(ours, theirs)
    assert straight.get_current_learning_rate() == resumed.get_current_learning_rate()
    assert straight.get_current_log() == resumed.get_current_log()


def test_a_finished_run_goes_on_under_a_longer_schedule(tmp_path: Path) -> None:
    """The state says how far the run is, the option file how the learning rate goes from there."""

    def periods(iterations: int) -> Any:
        schedule = {'type': 'CosineAnnealingRestartLR', 'periods': [iterations], 'restart_weights': [1], 'eta_min': 0}
        return built(tmp_path, train__scheduler=schedule)

    finished, whole = periods(3), periods(8)
    for iteration in range(1, 4):
        step(finished, iteration)
    finished.save(0, 3)
    longer = periods(8)
    longer.resume_training(checkpoints.load_resume_state(finished.opt | {'auto_resume': True}))
    for iteration in range(1, 9):
        step(whole, iteration)
        if iteration > 3:
            step(longer, iteration)
            assert longer.get_current_learning_rate() == whole.get_current_learning_rate()


def test_a_resume_that_cannot_be_exact_says_so(caplog: pytest.LogCaptureFixture) -> None:
    get_root_logger().propagate = True
    saved = DataOrder(seed=0, total_batch=64, pictures=100, ratio=1).state_dict()
    DataOrder(seed=0, total_batch=64, pictures=100, ratio=1).load_state_dict(saved)
    assert not caplog.records
    DataOrder(seed=0, total_batch=32, pictures=90, ratio=1).load_state_dict(saved)
    assert {r.message for r in caplog.records} == {'Not an exact resume: total_batch 64 -> 32, pictures 100 -> 90.'}


def test_x4_starts_from_the_weights_of_x2(tmp_path: Path) -> None:
    """As the option files say; the tail has another shape, and is new, but the same in the average."""
    network = {'type': 'IAFMNet', 'num_feat': 8, 'num_block': 1}
    x2 = built(tmp_path, scale=2, network_g=network | {'scale': 2})
    step_x2 = batch(1) | {'gt': torch.rand(1, 3, 16, 16)}
    x2.feed_data(step_x2)
    x2.optimize_parameters(1)
    x2.save(-1, -1)
    file = tmp_path / 'experiments/run/models/net_g_latest.pth'
    x4 = built(
        tmp_path, network_g=network | {'scale': 4}, path__pretrain_network_g=str(file), path__strict_load_g=False
    )
    trained = load_checkpoint(file)['params']
    for key, value in x4.net_g.state_dict().items():
        assert torch.equal(value, x4.net_g_ema.state_dict()[key])
        assert key.startswith('tail') or torch.equal(value, trained[key])


# -- whole or not there -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize('failing', ['write', 'fsync', 'replace'])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / '5.state'
    save_whole({'a': 1}, path)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == 'write':
        if not Path('/dev/full').exists():
            pytest.skip('no /dev/full')
        _partial(path).symlink_to('/dev/full')  # the real thing
    else:
        monkeypatch.setattr(Path if failing == 'replace' else os, failing, full)
    with pytest.raises(OSError, match='No space left'):
        save_whole({'a': 2}, path)
    assert load_checkpoint(path) == {'a': 1}
    assert [p.name for p in tmp_path.iterdir()] == ['5.state']


def test_a_save_that_fails_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = built(tmp_path)
    opt = model.opt | {'auto_resume': True}
    saver = Saver(model.opt, model)
    saver.regular(0, 1)
    logging.getLogger('basicsr').propagate = True
    with monkeypatch.context() as full:
        full.setattr(os, 'fsync', lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'No space left on device')))
        saver.regular(0, 2)
        assert 'Iteration 2 could not be saved: No space left on device' in caplog.text
        with pytest.raises(UserError, match='final weights could not be saved: No space left'):
            saver.latest()  # of the end there is no next
    assert newest_state(opt)[1]['iter'] == saver.saved_at == 1
    saver.regular(0, 3)
    assert newest_state(opt)[1]['iter'] == 3


def test_a_file_of_weights_tells_which_network_it_is(tmp_path: Path) -> None:
    """Away from its run, and where shapes tell nothing (k)."""
    model = built(tmp_path, network_g__k=0.25)
    model.save(0, -1)
    file = Path(model.opt['path']['models'], 'net_g_latest.pth').rename(tmp_path / 'away.pth')
    trained = load_net(file)
    lq = torch.rand(1, 3, 8, 8)
    assert trained.net.density.k == 0.25 and torch.allclose(trained.net(lq), model.net_g_ema(lq), atol=1e-6)


def test_a_save_returns_the_sum_of_its_file(tmp_path: Path) -> None:
    total = save_whole({'a': torch.ones(3)}, tmp_path / 'x.pth')
    assert total == hashlib.sha256((tmp_path / 'x.pth').read_bytes()).hexdigest()


def test_the_last_n_are_kept_whole(run: dict[str, Any]) -> None:
    for name in ('latest', 'best'):
        network(run, name).touch()
    left = state(run, 15).with_name('10.state.partial')
    for keep_last in (None, 2):
        kept = len(list(left.parent.glob('*.state')))
        left.touch()
        clear_away(run, keep_last)
        assert not left.exists() and len(list(left.parent.glob('*.state'))) == (keep_last or kept)
    assert {p.name for p in Path(run['path']['training_states']).iterdir()} == {'10.state', '15.state'}
    assert {p.name for p in Path(run['path']['models']).iterdir()} == {
        f'net_g_{name}.pth' for name in (10, 15, 'latest', 'best')
    }


# -- not trusted ------------------------------------------------------------------------------------------------------
class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ('ran',)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if zipped:
        torch.save({'params': Payload()}, 'bad.pth')
    else:
        Path('bad.pth').write_bytes(pickle.dumps({'params': Payload()}, protocol=2))
    with pytest.raises(UserError, match='bad.pth: not a file of weights that loads safely') as info:
        load_checkpoint('bad.pth')
    assert '\n' not in str(info.value)
    model = built(tmp_path)
    with pytest.raises(UserError, match='loads safely'):  # BasicSR's way to weights
        model.load_network(model.net_g, 'bad.pth')
    assert not Path('ran').exists()
    pickle.loads(pickle.dumps(Payload()))
    assert Path('ran').exists()  # it is a real one


# -- damage of any kind, and kill -9 at any moment (long forms under scripts/test.sh --full) ---------------------------
@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    folder = tmp_path_factory.mktemp('damaged')
    model = built(folder)
    step(model, 1)
    model.save(0, 1)
    path = folder / 'experiments/run/training_states/1.state'
    return path.read_bytes(), path


DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.floats(0, 1.2)


@settings(max_examples=1000 if FULL else 40, deadline=None, database=None, derandomize=True)
@given(*DAMAGE)
def test_a_damaged_state_loads_as_it_was_or_is_refused(
    whole: tuple[bytes, Path], changes: list[tuple[float, int]], length: float
) -> None:
    content, path = whole
    damaged = bytearray(content)
    for where, value in changes:
        damaged[min(int(where * len(damaged)), len(damaged) - 1)] = value
    if length < 1:
        del damaged[int(length * len(damaged)) :]
    path.write_bytes(damaged)
    try:
        loaded = load_checkpoint(path)
    except UserError as error:
        assert '\n' not in str(error) and str(path) in str(error)
    else:
        assert loaded['iter'] == 1
        path.write_bytes(content)
        assert str(loaded) == str(load_checkpoint(path))
    assert path.exists()


SAVER = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import iafmsr
iafmsr.register()
from tiny import built
from iafmsr.training.checkpoints import clear_away, newest_state

model = built(Path(sys.argv[1]))
found = newest_state(model.opt | {'auto_resume': True})
iteration = found[1]['iter'] if found else 0
while True:
    iteration += 1
    model.save(0, iteration)
    clear_away(model.opt, 3)
    print(iteration, flush=True)
"""


def test_kill_at_any_moment_leaves_a_newest_state_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that does nothing but save is killed, goes on from what it left, and is killed again."""
    opt = built(tmp_path).opt | {'auto_resume': True}
    last = 0
    for kill in range(50 if FULL else 3):
        process = subprocess.Popen(
            [sys.executable, '-c', SAVER, str(tmp_path), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        first = int(process.stdout.readline())
        assert first == last + 1  # nothing that was said to be saved is lost
        time.sleep(torch.rand(1, generator=torch.Generator().manual_seed(kill)).item() * 0.3)
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split('\n')[:-1] if line]
        process.wait()
        capsys.readouterr()
        last = newest_state(opt)[1]['iter']
        assert 0 <= last - (said[-1] if said else first) <= 1
        assert 'skipped' not in capsys.readouterr().err  # nothing half-written has a final name
