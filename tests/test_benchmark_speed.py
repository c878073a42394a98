"""The benchmarks of the sparse convolution and of whole networks: their commands, and what they refuse."""

import json
import re
from typing import Any

import pytest
import torch

from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets.compiled import refusal
from iafmsr.nets.trained import TrainedNet
from iafmsr.tools.benchmark import sparse, speed
from iafmsr.tools.benchmark.sparse import Case, Timing, crossovers, density_map


def profile(*arguments: str) -> int:
    return main(['profile', *arguments, '--device', 'cpu', '--threads', '1'])


def test_sparse_convolution_by_its_command(tmp_path, capsys):
    file = tmp_path / 'sparse.json'
    assert profile(*f'sparse-conv --size 24x16 --channels 4 --active 5 100 --seconds 0 --output {file}'.split()) == 0
    assert len(re.findall(r'^4, (5|100) %, (idm|random)', capsys.readouterr().out, re.M)) == 8
    content = json.loads(file.read_text())
    assert len(content['timings']) == 8 and '1 thread' in content['processor']
    for timing in content['timings']:
        dense, gather = (min(v for k, v in timing['ms'].items() if k.startswith(b)) for b in ('dense', 'gather'))
        assert timing['speedup'] == pytest.approx(dense / gather)


@pytest.mark.skipif(bool(refusal('openvino')), reason="the extra 'fast' is not installed")
def test_networks_by_their_command(tmp_path, capsys, monkeypatch):
    """Peers run in the engine too, at the size that is given; a net that it refuses has a line."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    converted = speed.in_engine

    def refusing(trained: TrainedNet, *args: Any, **keywords: Any) -> TrainedNet:
        if trained.arch == 'ETDS':
            raise UserError('no graph for it')
        return converted(trained, *args, **keywords)

    monkeypatch.setattr(speed, 'in_engine', refusing)
    file = tmp_path / 'nets.json'
    nets = 'IAFMNet:num_feat=8,num_block=1 ETDS:num_feat=8,num_block=1 SAFMN:dim=8,n_blocks=1'
    forms = '--speed torch openvino --size 32x24 --pictures 2 --threads 1'
    assert main(f'benchmark {nets} --scale 2 --sets {forms} --no-cache --device cpu --output {file}'.split()) == 0
    torch_form, openvino = json.loads(file.read_text())['scales'][0]['speed']
    assert (torch_form['form'], openvino['form'], openvino['size']) == ('torch', 'openvino', [32, 24])
    for form in (torch_form, openvino):
        assert form['nets']['SAFMN']['ratio'] == 1 and '1 thread' in form['processor']
        for net in form['nets'].values():
            assert 0 < net['floor_ms'] < net['median_ms'] and net['peak_mib'] > 0
    assert len(torch_form['nets']) == 3 and len(openvino['nets']) == 2
    out, err = capsys.readouterr()
    assert 'x2, 32x24: peak memory' in out and 'iafmsr: ETDS is not timed in openvino: no graph for it\n' in err
    assert [line.split()[1] for line in err.splitlines() if 'is prepared for openvino' in line] == ['IAFMNet', 'SAFMN']


@pytest.mark.parametrize(
    ('arguments', 'fault'),
    [
        (['sparse-conv', '--size', '320'], '--size 320: must be WIDTHxHEIGHT, such as 320x180'),
        (['sparse-conv', '--active', '0'], '--active 0: must be above 0 and at most 100'),
        (['sparse-conv', '--active', '100.5'], '--active 100.5: must be above 0 and at most 100'),
        (['sparse-conv', '--weights', 'no_such_net'], '--weights no_such_net: no such file'),
        (['overhead', '--batch', 'x'], '--batch x: must be a whole number from 1'),
    ],
)
def test_a_wrong_value_ends_a_command_in_a_line(arguments, fault, capsys):
    with pytest.raises(SystemExit) as stop:
        profile(*arguments)
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, '')
    assert err.startswith(f'iafmsr: error: {fault}') and err.count('\n') == 1


def test_the_crossover_is_where_gather_is_never_slower():
    def timing(share: float, gather: float, gradient: bool = False) -> Timing:
        ms = {
            f'{backend} {layout}': time
            for layout in sparse.LAYOUTS
            for backend, time in (('dense', 10.0), ('gather', gather))
        }
        return Timing(Case(8, 8, 4, share, 'idm', gradient), ms, {}, 0.0, 'gather')

    timings = [timing(0.1, 2), timing(0.2, 9), timing(0.2, 11), timing(0.5, 9), timing(0.1, 11, True)]
    assert crossovers(timings) == {False: 0.1, True: 0.0}
    assert timings[0].speedup == 5 and timings[0].auto_ratio == 0.2


def test_the_map_of_a_photograph_has_the_size_asked_for():
    small, large = density_map(None, 40, 30), density_map(None, 700, 500)
    assert small.shape == (1, 1, 30, 40) and large.shape == (1, 1, 500, 700)
    torch.testing.assert_close(large[..., :26, :36], small[..., :26, :36])  # but for what the border changes
