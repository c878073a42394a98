"""The command `iafmsr`: one list of subcommands, one convention for their arguments, mistakes in one line."""

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import iafmsr
from iafmsr.cli import COMMANDS, main, parser_of
from iafmsr.cli.arguments import Parser, add_device
from iafmsr.errors import UserError
from iafmsr.models.precision import has_bf16
from iafmsr.tools import env
from iafmsr.tools.profiling.command import FORMS

WORDS = [[name] for name in COMMANDS] + [['profile', form] for form in FORMS]
MEANS_THE_SAME = ('--device', '--threads', '--data')


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command and of every form of profile."""
    found: dict[str, argparse.ArgumentParser] = {name: parser_of(name) for name in COMMANDS}
    (forms,) = (action.choices for action in found['profile']._actions if isinstance(action.choices, dict))
    return found | {f'profile {name}': parser for name, parser in forms.items()}


def options() -> list[tuple[str, argparse.Action, str]]:
    """Command, option and the help that is shown of it."""
    return [
        (command, action, parser._get_formatter()._expand_help(action))
        for command, parser in parsers().items()
        for action in parser._actions
        if action.option_strings and action.help is not argparse.SUPPRESS and action.dest != 'help'
    ]


def test_help_appears_without_torch() -> None:
    code = (
        'import sys\nfrom iafmsr.cli import main\n'
        f'for words in {[[], *WORDS]}:\n'
        '    try:\n        main([*words, "--help"])\n'
        '    except SystemExit as stop:\n        assert stop.code == 0, words\n'
        '    assert not {"torch", "numpy", "basicsr"} & sys.modules.keys(), words\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, 'COLUMNS': '200'}
    )
    assert done.returncode == 0, done.stderr
    for words in WORDS:
        assert f'usage: iafmsr {" ".join(words)} ' in done.stdout
    assert all(f'\n  {name:11} {summary}\n' in done.stdout for name, (_, summary) in COMMANDS.items())


@pytest.mark.parametrize('argv', [['--version'], ['-m']])
def test_the_version_is_that_of_the_package(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    if argv == ['-m']:
        out = subprocess.run([sys.executable, '-m', 'iafmsr', '--version'], capture_output=True, text=True).stdout
    else:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        out = capsys.readouterr().out
    assert out == f'iafmsr {iafmsr.__version__}\n'


@pytest.mark.parametrize(
    ('argv', 'said'),
    [
        (['upscal'], "there is no command 'upscal' (did you mean upscale?); iafmsr --help lists all commands"),
        (['xyz'], "there is no command 'xyz'; iafmsr --help lists all commands"),
        (['--verson'], 'unrecognized arguments: --verson (did you mean --version?)'),
        (['weights', '--wat'], 'unrecognized arguments: --wat'),
        (['upscale', 'a.png', '--weights', 'x'], 'the following arguments are required: --output'),
        (
            ['inspect', 'a', '--weights', 'x', '--ouput', 'y'],
            'unrecognized arguments: --ouput y (did you mean --output?)',
        ),
        (
            ['upscale', 'a', '--output', 'b', '--weights', 'x', '--device', 'gpu'],
            '--device gpu: must be one of cpu, cuda, mps',
        ),
        (['profile', 'trainin'], 'WHAT trainin: must be one of sparse-conv, training, loading, overhead, gpu'),
        (['complexity', '-opt', 'a.yml', '--size', '1280'], '--size 1280: must be WIDTHxHEIGHT, such as 320x180'),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_word(argv: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, '')
    assert err.startswith(f'iafmsr: error: {said}') and err.count('\n') == 1


def test_without_a_command_the_list_is_shown_and_nothing_has_succeeded(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert 'upscale' in capsys.readouterr().err


def test_every_option_has_a_phrase_for_help_and_says_its_default() -> None:
    for command, action, shown in options():
        name = f'{command} {action.option_strings[0]}'
        assert shown and not shown.endswith('.') and not shown.startswith('of '), name
        # a flag is off; what appends to a file's options has none
        if action.nargs != 0 and not action.required and action.dest != 'force_yml':
            assert shown.count('(default: ') == 1, name


def test_an_option_means_the_same_everywhere() -> None:
    kinds: dict[str, set[object]] = {}
    for _, action, shown in options():
        name = action.option_strings[0]
        if name in MEANS_THE_SAME:
            kinds.setdefault(name, set()).add((shown, action.metavar))
        elif name == '--weights':
            kinds.setdefault(name, set()).add((shown.split(': ', 1)[1].split(' (default')[0], action.metavar))
        elif name in ('--scale', '--size'):
            kinds.setdefault(name, set()).add((str(action.choices or action.metavar), action.type.__name__))
        elif name == '--output':
            assert shown.split()[0] in ('file', 'files', 'folder'), shown
    assert kinds.keys() == {*MEANS_THE_SAME, '--weights', '--scale', '--size'}
    assert all(len(found) == 1 for found in kinds.values()), kinds


def test_env_prints_what_a_bug_report_needs(capsys: pytest.CaptureFixture) -> None:
    assert main(['env']) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told['iafmsr'] == iafmsr.__version__ and f'torch {version("torch")}' in told['packages']
    assert 'thread' in told['processor'] and 'IAFMNet_x4' in told['weights'] and {'CUDA', 'runs'} <= told.keys()


def test_env_names_the_folder_in_which_the_commands_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_root: Path
) -> None:
    """The root of the checkout for who works in it, and else the working directory."""
    monkeypatch.delenv('IAFMSR_DATA', raising=False)
    for here, root in ((repo_root / 'docs', repo_root), (tmp_path, tmp_path)):
        monkeypatch.chdir(here)
        told = dict(env.lines())
        assert told['runs'] == f'{root}: experiments/, results/, tb_logger/'
        assert told['benchmarks'] == f'{root}/datasets/benchmarks'


def test_threads_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    from iafmsr.cli.arguments import use_device

    asked: list[int] = []
    monkeypatch.setattr('torch.set_num_threads', asked.append)
    parser = Parser()
    add_device(parser)
    assert use_device(parser.parse_args(['--threads', '3', '--device', 'cpu'])).type == 'cpu'
    use_device(parser.parse_args([]))
    assert asked == [3]


def test_the_gpu_of_a_mac_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command line, an option file and in Python; untried on one."""
    from iafmsr.bridge.basicsr_api import BaseModel
    from iafmsr.cli.arguments import use_device
    from iafmsr.training.checks.check import check_options

    parser, opt = Parser(), tiny.options('x') | {'device': 'mps'}
    add_device(parser)
    args = parser.parse_args(['--device', 'mps'])
    lacking = 'this machine has no such GPU'
    assert f'device: mps: {lacking}' in check_options(opt, True, '/').faults
    for use in (lambda: use_device(args), lambda: iafmsr.load(device='mps'), lambda: iafmsr.upscale('x', device='mps')):
        with pytest.raises(UserError, match=f'mps: {lacking}'):
            use()
    monkeypatch.setattr('torch.backends.mps.is_available', lambda: True)
    assert use_device(args).type == 'mps'
    assert not any('mps' in fault for fault in check_options(opt, True, '/').faults)
    monkeypatch.setattr('torch.nn.Module.to', lambda net, *args, **keywords: net)
    assert BaseModel({'num_gpu': 0, 'is_train': True, 'device': 'mps'}).device.type == 'mps'
    assert iafmsr.load(device='mps') is not None
    assert not has_bf16(torch.device('mps'))


def test_a_network_needs_no_float64() -> None:
    """Which the GPU of a Mac does not have."""

    class Float64(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            wide.extend(func for leaf in tree_leaves(made) if getattr(leaf, 'dtype', None) == torch.float64)
            return made

    wide: list[object] = []
    net = iafmsr.IAFMNet(scale=2, num_feat=8, num_block=1)
    with Float64():
        for training in (True, False):
            sr, density = net.train(training)(torch.rand(1, 3, 24, 17), return_density=True)
            (sr.mean() + iafmsr.InformationEntropyLoss()(density)[0]).backward()
    assert not wide


def test_complexity_counts_the_nets_of_option_files(repo_root: Path, capsys: pytest.CaptureFixture) -> None:
    files = [str(repo_root / f'options/train_IAFMNet_x{scale}.yml') for scale in (2, 4)]
    assert main(['complexity', '-opt', *files, '--size', '1280x720']) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith('| options | net | params | GMACs at 1280x720 ')
    assert rows[3].startswith('| train_IAFMNet_x4 | IAFMNet x4 | 203,264 | 10.77 |')


def test_a_name_with_control_characters_stays_one_line() -> None:
    """And cannot steer the terminal."""
    assert str(UserError('a\rb\x1b[31m\u2028c: no such file')) == r'a\rb\x1b[31m\u2028c: no such file'
    assert str(UserError('one fault\nanother')).splitlines() == ['one fault', 'another']
