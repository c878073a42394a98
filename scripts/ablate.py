#!/usr/bin/env python3
"""Train option files under one budget, data and seed list and compare them in one table (Markdown)."""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors

ROOT = Path(__file__).resolve().parent.parent


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE.yml',
                        help='option files; the others are compared with the first')
    parser.add_argument('--iters', type=int, default=3000, help='iterations of each run (3000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one run of each file for each seed (0)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time, each with its share of the cores (1)')
    parser.add_argument('--data', metavar='DIR',
                        help='benchmark sets ($IAFMSR_DATA/benchmarks, else datasets/benchmarks)')
    parser.add_argument('--sets', nargs='+', default=['Set5', 'Set14', 'BSD100'], help='(Set5 Set14 BSD100)')
    args = parser.parse_args()

    from iafmsr.ablation import ablate
    from iafmsr.benchmark.sets import data_folder, find_sets
    print(ablate(args.files, args.iters, args.seeds, find_sets(data_folder(args.data, ROOT), args.sets), ROOT,
                 args.jobs))


if __name__ == '__main__':
    main()
