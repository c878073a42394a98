#!/usr/bin/env python3
"""Train ablations under one budget, data and seed list and compare them in one table (Markdown)."""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors

ROOT = Path(__file__).resolve().parent.parent
SETS = ['Set5', 'Set14', 'BSD100', 'Urban20', 'Manga15']


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'entries',
        nargs='*',
        metavar='NAME',
        help='names of options/ablation.yml, or option files; the others are compared with the first',
    )
    parser.add_argument('--iters', type=int, default=3000, help='iterations of each run (3000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one run of each name for each seed (0)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time, each with its share of the cores (1)')
    parser.add_argument(
        '--data', metavar='DIR', help='benchmark sets ($IAFMSR_DATA/benchmarks, else datasets/benchmarks)'
    )
    parser.add_argument('--sets', nargs='+', default=SETS, metavar='SET', help=f'benchmark sets ({" ".join(SETS)})')
    parser.add_argument(
        '--figure',
        type=Path,
        metavar='FILE.png',
        help="draw the map of the first name's first run beside its error and the fixed filters",
    )
    parser.add_argument(
        '--pictures',
        nargs='+',
        default=['Set5/butterfly', 'Set14/comic', 'Set14/ppt3', 'BSD100/101085'],
        metavar='SET/NAME',
        help='of the figure',
    )
    parser.add_argument(
        '--keep',
        action='store_true',
        help='add the results to docs/ablation.json and make the tables of docs/experiments.md anew; '
        'without names, make the tables alone',
    )
    args = parser.parse_args()
    if not args.entries and not args.keep:
        parser.error('names of ablations are wanted')

    from iafmsr.ablation.measure import draw_maps
    from iafmsr.ablation.named import options_of
    from iafmsr.ablation.results import keep
    from iafmsr.ablation.runs import Run, ablate, report
    from iafmsr.benchmark.sets import data_folder, find_sets

    if not args.entries:
        keep(ROOT, {})
        return
    sets = find_sets(data_folder(args.data, ROOT), args.sets)
    results = ablate(args.entries, args.iters, args.seeds, sets, ROOT, args.jobs)
    print(f'{args.iters:,} iterations, seeds {", ".join(map(str, args.seeds))}.\n\n{report(results.values())}')
    if args.keep:
        keep(ROOT, results)
    if args.figure:
        run = Run(*options_of(args.entries[0], ROOT), args.seeds[0], args.iters)
        draw_maps(run.options, run.weights(ROOT), sets, args.pictures).save(args.figure)


if __name__ == '__main__':
    main()
