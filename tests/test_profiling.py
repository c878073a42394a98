"""The profile of a training: what it compares, what its stages add up to, what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import options, write_data

from iafmsr.errors import UserError
from iafmsr.tools.profiling import floor as floor_module
from iafmsr.tools.profiling.contestants import contestants_of
from iafmsr.tools.profiling.floor import Floor, floor_of
from iafmsr.tools.profiling.profile import profile_training
from iafmsr.tools.profiling.runner import STAGES, Loaders, Runner
from iafmsr.tools.profiling.stopwatch import Stopwatch, replaced
from iafmsr.training.options import options_of_training

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('root')
    write_data(root)
    return root


def write(root: Path, **changes: Any) -> Path:
    file = root / 'small.yml'
    file.write_text(yaml.safe_dump(options('small', **changes)))
    return file


def test_contestants_differ_by_one_switch_each(root: Path) -> None:
    opt = options_of_training(
        write(root, train__autocast='bf16', datasets__train__in_memory='host', network_g__sparse_backend='gather'), root
    )
    found = contestants_of(opt, on_gpu=False)
    names = [
        'BasicSR',
        'plain',
        '+ memory kept',
        '+ channels_last',
        '+ sparse_backend: auto',
        '+ autocast: bf16',
        '+ in_memory: host',
        '+ compile: default',
        'the file as it is',
    ]
    assert list(found) == names
    assert [name for name, contestant in found.items() if not contestant.keeps_memory] == ['BasicSR', 'plain']
    found = {name: contestant.options for name, contestant in found.items()}
    assert found['plain'] == found['+ memory kept']
    stock = found['BasicSR']
    assert (stock['model_type'], stock['datasets']['train']['type']) == ('SRModel', 'PairedImageDataset')
    assert stock['network_g']['sparse_backend'] == 'dense'
    assert not {'ie_opt', 'autocast', 'channels_last'} & stock['train'].keys()
    for before, after in zip(names[2:-2], names[3:-1], strict=True):
        differences = [
            (section, key)
            for section, key in ((s, k) for s in ('train', 'network_g') for k in found[after][s])
            if found[before][section].get(key) != found[after][section][key]
        ]
        differences += [
            key for key in found[after]['datasets']['train'] if key not in found[before]['datasets']['train']
        ]
        assert len(differences) == 1, (before, after)
    assert found['the file as it is']['train']['autocast'] == 'bf16'


def test_stock_basicsr_has_the_optimizer_that_it_knows(root: Path) -> None:
    opt = options_of_training(write(root, train__optim_g={'type': 'Muon', 'lr': 1e-2}), root)
    found = contestants_of(opt, on_gpu=False)
    assert found['BasicSR'].options['train']['optim_g'] == {'type': 'Adam', 'lr': 1e-2}
    assert found['plain'].options['train']['optim_g']['type'] == 'Muon'
    Runner(found['BasicSR'].options, Loaders())


def test_a_file_that_is_one_of_the_steps_is_not_measured_twice(root: Path) -> None:
    opt = options_of_training(write(root, train__autocast='bf16', train__channels_last=True), root)
    assert '+ autocast: bf16, the file as it is' in contestants_of(opt, on_gpu=False)
    assert len(contestants_of(opt, on_gpu=False)) == 8


def test_stages_add_up_and_an_inner_one_is_not_counted_twice() -> None:
    watch = Stopwatch(CPU)
    start = time.perf_counter()
    with watch.stage('outer'):
        time.sleep(0.02)
        watch.timed('inner', time.sleep)(0.05)
        with watch.stage('inner'):
            time.sleep(0.01)
    assert sum(watch.seconds.values()) == pytest.approx(time.perf_counter() - start, abs=2e-3)
    assert watch.seconds['inner'] >= 0.06 and 0.02 <= watch.seconds['outer'] < 0.05


def test_what_was_replaced_is_put_back_after_an_error_too() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    owner = Owner()
    with (
        pytest.raises(ZeroDivisionError),
        replaced((owner, 'method', lambda f: lambda: f() + 1), (Owner, 'nothing', lambda f: f)),
    ):
        assert owner.method() == 2
        raise ZeroDivisionError
    assert owner.method() == 1 and not vars(owner)


def test_a_turn_trains_and_its_stages_are_the_iteration(root: Path) -> None:
    found = contestants_of(options_of_training(write(root), root), on_gpu=False)
    loaders = Loaders()
    for name in ('BasicSR', 'plain', '+ in_memory: host'):
        runner = Runner(found[name].options, loaders)
        before = [parameter.clone() for parameter in runner.model.net_g.parameters()]
        runner.turn(4)
        runner.turn(4)  # an epoch has five batches: they go on into the next
        assert any(not torch.equal(a, b) for a, b in zip(before, runner.model.net_g.parameters(), strict=True))
        seconds, stages = runner.medians()
        assert set(stages) == set(STAGES) and all(stages[stage] > 0 for stage in STAGES)
        assert 0.5 * seconds < sum(stages.values()) < 1.5 * seconds
        weights = sum(parameter.nbytes for parameter in runner.model.net_g.parameters()) / 2**20
        assert 4 * weights < runner.peak_mib < 100  # weights, their average, two moments, and the batch


def test_where_there_is_hr_alone_basicsr_s_loader_takes_our_dataset(root: Path) -> None:
    opt = options('hr')
    opt['datasets']['train'] |= {'type': 'OnTheFlyDataset', 'dataroot_gt': 'train_gt.lmdb'}
    opt['datasets']['train'].pop('dataroot_lq')
    (root / 'hr.yml').write_text(yaml.safe_dump(opt))
    found = contestants_of(options_of_training(root / 'hr.yml', root), on_gpu=False)
    runner = Runner(found['BasicSR'].options, Loaders())
    runner.turn(1)
    assert type(runner.model).__name__ == 'SRModel' and runner.medians()[0] > 0


def test_contestants_with_the_same_data_share_a_set_in_memory(root: Path) -> None:
    contestants = contestants_of(options_of_training(write(root), root), on_gpu=False)
    found, loaders = {name: contestant.options for name, contestant in contestants.items()}, Loaders()
    assert loaders.get(found['+ in_memory: host']) is loaders.get(found['+ compile: default'])
    assert loaders.get(found['plain']) is loaders.get(found['+ channels_last'])
    assert loaders.get(found['plain']) is not loaders.get(found['BasicSR'])


def test_the_floor_is_that_of_the_batch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opt = options_of_training(write(root), root)
    monkeypatch.setattr(floor_module, 'has_bf16', lambda device: False)
    (small,) = floor_of(opt, CPU)
    monkeypatch.setattr(floor_module, 'has_bf16', lambda device: True)
    monkeypatch.setattr(floor_module, 'rate', lambda device, dtype: 1.0)
    opt['datasets']['train']['batch_size_per_gpu'] *= 3
    large, half = floor_of(opt, CPU)
    assert large.gmacs == pytest.approx(3 * small.gmacs) and large.gbytes == pytest.approx(3 * small.gbytes)
    assert half.gmacs == large.gmacs and half.gbytes == large.gbytes / 2
    assert Floor('x', 8, 4, 3, 2).ms == 2000


def test_the_command_refuses_in_one_line(root: Path, repo_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'iafmsr', 'profile', 'training', '-opt', str(root / 'none.yml')],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count('\n')) == (2, 1) and 'none.yml' in done.stderr


def test_the_profile_says_what_it_measured(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', 'no-compiler-here')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    profile = profile_training(str(write(root, train__autocast='bf16')), root, iterations=1, turns=1)
    assert [row.name for row in profile.rows][-2:] == [
        '+ compile: default (not possible: not compiled)',
        'the file as it is',
    ]
    figures = json.loads(profile.as_json())
    assert figures['rows'][0]['times_stock'] == 1 and set(figures['rows'][1]['stages_ms']) == set(STAGES)
    text = profile.as_text()
    assert text.splitlines()[0].startswith('small: 4 of 8x8 LR, x4; ')
    table = [line for line in text.splitlines() if line.startswith('|')]
    assert len(table) == 2 + len(profile.rows) and len({line.count('|') for line in table}) == 1


def test_faults_of_the_file_are_said_first(root: Path) -> None:
    file = write(root, datasets__train__dataroot_gt='elsewhere.lmdb')
    with pytest.raises(UserError, match='datasets.train.dataroot_gt: .*elsewhere.lmdb: no such folder'):
        profile_training(str(file), root)
