"""The command ``iafmsr`` (``python -m iafmsr``): its subcommands, each imported only when it is called."""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib import import_module
from pathlib import Path

import iafmsr
from iafmsr.cli.allocator import keep_freed_memory
from iafmsr.cli.arguments import Parser
from iafmsr.errors import UserError, cli_errors, did_you_mean
from iafmsr.options.plugins import import_packages

__all__ = ['COMMANDS', 'main', 'parser_of', 'register']

# name -> the module and a line for the list of commands. A module's docstring is the command's help; the module has
# add_arguments(parser), which must be quick (no torch at its top), and run(args), which returns the exit code.
COMMANDS = {
    'demo': ('iafmsr.tools.demo', 'enlarge an example picture and compare it with the original'),
    'train': ('iafmsr.tools.training', 'train a network with an option file'),
    'test': ('iafmsr.tools.testing', 'test a trained network with an option file'),
    'upscale': ('iafmsr.tools.inference.command', 'make pictures larger'),
    'inspect': ('iafmsr.tools.inspection.command', 'show where in a picture a network does extra work, and why'),
    'export': ('iafmsr.tools.export.command', 'write a network as an ONNX file or as a file of weights'),
    'serve': ('iafmsr.tools.serve.command', 'enlarge pictures on a page in the browser'),
    'weights': ('iafmsr.tools.weights', 'list the known weights'),
    'benchmark': ('iafmsr.tools.benchmark.command', 'compare networks: PSNR, SSIM, size, time, memory'),
    'ablate': ('iafmsr.tools.ablation.command', 'train variants of the network and compare them'),
    'profile': ('iafmsr.tools.profiling.command', 'measure what takes time in the sparse convolution and in training'),
    'complexity': ('iafmsr.tools.measure.command', 'count parameters, multiply-accumulates and activations'),
    'prepare': ('iafmsr.tools.prepare.command', 'make training or validation pairs from folders of pictures'),
    'download': ('iafmsr.tools.prepare.download_command', 'download the training set DF2K, or the benchmark sets'),
    'env': ('iafmsr.tools.env', 'print the versions, device and folders that a bug report needs'),
}


@cli_errors()
def main(argv: list[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: its name and arguments; those of the process by default.

    Returns:
        The exit code.

    Raises:
        SystemExit: the arguments are wrong, or the command fails as a whole.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        _general().print_help(sys.stderr)
        return 2
    name = argv[0]
    if name.startswith('-'):
        _general().parse_args([name])
    if name not in COMMANDS:
        raise UserError(f'there is no command {name!r}{did_you_mean(name, COMMANDS)}; iafmsr --help lists all commands')
    args = parser_of(name).parse_args(argv[1:])
    args.command, args.command_line = name, shlex.join(['iafmsr', *argv])
    import_packages(args.packages or (), (Path.cwd(),), '--import')
    if name != 'profile':  # which decides that for each of its processes
        keep_freed_memory()
    return import_module(COMMANDS[name][0]).run(args)


def parser_of(name: str) -> Parser:
    """The parser of a command's arguments."""
    command = import_module(COMMANDS[name][0])
    parser = Parser(prog=f'iafmsr {name}', description=command.__doc__)
    command.add_arguments(parser)
    parser.add_argument(
        '--import',
        dest='packages',
        action='append',
        metavar='PACKAGE',
        help='name of your own Python package or module that registers networks; it must be installed, or be in the '
        'working directory (default: none)',
    )
    return parser


@cli_errors()
def register() -> None:
    """:func:`iafmsr.register` at the top of a main module: a spawned data worker imports that module again, and needs
    BasicSR cured to read its dataset.

    Raises:
        SystemExit: BasicSR is not installed.
    """
    iafmsr.register()


def _general() -> argparse.ArgumentParser:
    """What is understood without a command."""
    commands = '\n'.join(f'  {name:11} {summary}' for name, (_, summary) in COMMANDS.items())
    parser = Parser(
        prog='iafmsr',
        usage='iafmsr [-h] [--version] COMMAND ...',
        description='Super-resolution with an information density map.',
        epilog=f'commands (each has its own --help):\n{commands}\n\n'
        'first steps:\n'
        '  iafmsr demo\n'
        '  iafmsr upscale photo.jpg --output photo_x4.png --weights IAFMNet_x4\n\n'
        'documentation: README.md and the folder docs/ of the repository',
    )
    parser.add_argument('--version', action='version', version=f'iafmsr {iafmsr.__version__}')
    return parser
