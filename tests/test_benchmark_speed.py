"""The benchmarks of the sparse convolution and of whole networks: their commands, and what they refuse."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iafmsr.benchmark import sparse
from iafmsr.benchmark.sparse import Case, Timing, crossovers, density_map
from iafmsr.benchmark.values import parse_case, parse_device, parse_shares, parse_size
from iafmsr.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / 'scripts' / script, *arguments], capture_output=True, text=True, timeout=300
    )


def test_sparse_convolution_by_its_command(tmp_path):
    file = tmp_path / 'sparse.json'
    done = run(
        'benchmark_sparse_conv.py',
        '--sizes',
        '24x16',
        '--channels',
        '4',
        '--active',
        '5',
        '100',
        '--seconds',
        '0',
        '--json',
        str(file),
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r'^4, (5|100) %, (idm|random)', done.stdout, re.M)) == 8
    content = json.loads(file.read_text())
    assert len(content['timings']) == 8 and '1 thread' in content['processor']
    for timing in content['timings']:
        dense, gather = (min(v for k, v in timing['ms'].items() if k.startswith(b)) for b in ('dense', 'gather'))
        assert timing['speedup'] == pytest.approx(dense / gather)


def test_networks_by_their_command(tmp_path):
    file = tmp_path / 'nets.json'
    done = run(
        'benchmark_inference.py',
        'IAFMNet:num_feat=8,num_block=1',
        'SAFMN',
        '--cases',
        'x2:32x24',
        '--pictures',
        '2',
        '--json',
        str(file),
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_text())['results']
    assert [net['net'] for net in result['nets']] == ['IAFMNet', 'SAFMN'] and result['size'] == [32, 24]
    for net in result['nets']:
        assert 0 < net['floor_ms'] < net['speed']['median_ms'] and net['speed']['peak_mib'] > 0


@pytest.mark.parametrize(
    'read, value',
    [
        (parse_size, '320'),
        (parse_size, '0x180'),
        (parse_case, 'x5:8x8'),
        (parse_case, '4:8x8'),
        (parse_case, 'x4:8'),
        (lambda value: parse_shares([value]), 0.0),
        (lambda value: parse_shares([value]), 100.5),
        (lambda value: parse_device('cpu', value), 0),
    ],
)
def test_wrong_values_are_named(read, value):
    with pytest.raises(UserError, match=re.escape(f'{value:g}' if isinstance(value, float) else str(value))):
        read(value)


def test_a_wrong_value_ends_a_command_in_a_line():
    done = run('benchmark_sparse_conv.py', '--weights', 'no_such_net')
    assert done.returncode == 2 and done.stdout == ''
    assert re.fullmatch(r'iafmsr: error: .*no_such_net.*\n', done.stderr)


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
