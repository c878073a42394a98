#!/usr/bin/env python3
"""Measure where an iteration of a training goes, beside stock BasicSR's and beside what the chip could do.

Stock BasicSR and ours with one switch after the other take turns on the network, data and batch of an option file.

  OMP_NUM_THREADS=1 python scripts/profile_training.py -opt options/demo_IAFMNet_x4.yml
"""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-opt', required=True, metavar='FILE.yml', help='option file for training')
    parser.add_argument('--iters', type=int, default=3, metavar='N', help='iterations in each turn (3)')
    parser.add_argument(
        '--turns', type=int, default=5, metavar='N', help='many short ones where other work comes and goes (5)'
    )
    parser.add_argument('--json', metavar='FILE', help='all figures')
    args = parser.parse_args()
    for name in ('iters', 'turns'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} {getattr(args, name)}: a number from 1 is wanted')

    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.profiling.profile import profile_training

    if args.json:
        check_writable(Path(args.json))
    profile = profile_training(args.opt, Path(__file__).resolve().parent.parent, args.iters, args.turns)
    print(profile.as_text())
    if args.json:
        write_whole(Path(args.json), profile.as_json().encode())


if __name__ == '__main__':
    main()
