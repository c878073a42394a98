"""Download DF2K (DIV2K and Flickr2K, about 24 GB) from the official addresses.

What is there already is not downloaded again, and an interrupted download goes on. See datasets/README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--output', type=Path, default=Path('datasets'), metavar='DIR', help='folder for all data sets')


def run(args: argparse.Namespace) -> int:
    """Raises:
    UserError: an address does not answer, an archive is broken, or the disk is full.
    """
    from iafmsr.tools.prepare.download import DF2K, download

    for source in DF2K:
        download(source, args.output)
    return 0
