"""Count parameters, FLOPs (multiply-accumulates) and activations of the networks of option files.

  iafmsr complexity -opt options/train_IAFMNet_x4.yml options/train_SAFMN_x4.yml

The numbers are for one picture. They are printed as a Markdown table.
"""

from __future__ import annotations

import argparse

from iafmsr.cli.arguments import Size, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('-opt', nargs='+', required=True, metavar='FILE.yml', help='option files, one or more')
    parser.add_argument('--size', type=size, default=Size(1280, 720), metavar='WxH', help='size of the output')


def run(args: argparse.Namespace) -> int:
    """Raises:
    UserError: an option file cannot be read or names no network that can be built.
    """
    from iafmsr.tools.measure.complexity import table

    print(table(args.opt, args.size))
    return 0
