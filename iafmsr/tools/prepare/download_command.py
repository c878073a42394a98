"""Download DF2K (DIV2K and Flickr2K, about 24 GB), or the benchmarks Set5, Set14, BSD100 and Urban100 (0.25 GB).

  iafmsr download
  iafmsr download benchmarks

Files that exist are not downloaded again, and an interrupted download is continued. See datasets/README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from iafmsr.errors import UserError, did_you_mean

_SETS = ('df2k', 'benchmarks')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('sets', nargs='*', metavar='SET', help=f'{" or ".join(_SETS)} (default: df2k)')
    parser.add_argument('--output', type=Path, default=Path('datasets'), metavar='DIR', help='folder for all data sets')


def run(args: argparse.Namespace) -> int:
    """Raises:
    UserError: no such set, an address does not answer, an archive is broken, or the disk is full.
    """
    from iafmsr.tools.prepare.download import download
    from iafmsr.tools.prepare.sources import BENCHMARKS, DF2K

    if unknown := [name for name in args.sets if name not in _SETS]:
        raise UserError(f'{unknown[0]}: no such set{did_you_mean(unknown[0], _SETS)}; {" and ".join(_SETS)} are known')
    for name in args.sets or _SETS[:1]:
        for source in {'df2k': DF2K, 'benchmarks': BENCHMARKS}[name]:
            download(source, args.output)
        if name == 'benchmarks':
            print(
                'Manga109 is available from its authors, on request (http://www.manga109.org): put its 109 pictures '
                f'into a folder MANGA and run: iafmsr prepare --input MANGA --output {args.output}/benchmarks/Manga109 '
                '--whole',
                file=sys.stderr,
            )
    return 0
