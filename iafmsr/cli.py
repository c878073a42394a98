"""The command ``iafmsr`` (``python -m iafmsr``): its subcommands, each imported only when it is called."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from iafmsr.errors import cli_errors
from iafmsr.training.allocator import keep_freed_memory

__all__ = ['main']

# name -> the module and a line for the list of commands. A module's docstring is the command's help; the module has
# add_arguments(parser), which must be quick (no torch at its top), and run(args), which returns the exit code.
COMMANDS = {
    'upscale': ('iafmsr.inference.command', 'make pictures larger'),
    'inspect': ('iafmsr.inspection.command', 'show where a network spends its work, and why'),
    'export': ('iafmsr.export.command', 'write a network as an ONNX file'),
    'serve': ('iafmsr.serve.command', 'a page to drop pictures on, in the browser'),
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
    parser = argparse.ArgumentParser(prog='iafmsr', description='Super-resolution with an information density map.')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for name, (module, summary) in COMMANDS.items():
        if argv[:1] == [name]:
            command = import_module(module)
            chosen = commands.add_parser(
                name, help=summary, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            command.add_arguments(chosen)
            chosen.set_defaults(run=command.run)
        else:
            commands.add_parser(name, help=summary)
    args = parser.parse_args(argv)
    keep_freed_memory()
    return args.run(args)
