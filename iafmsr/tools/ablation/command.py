"""Train variants of the network and compare them in tables (Markdown).

Each variant is trained for the same number of iterations, with the same seeds, and measured on the same pictures. The
file options/ablation.yml lists the names of the variants, and what differs in each.

  iafmsr ablate base lean no_map --iters 1000 --seeds 0 1 2

Finished runs are not repeated, and interrupted runs are continued.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from iafmsr.cli.arguments import add_sets, number
from iafmsr.errors import UserError
from iafmsr.options.places import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        'entries',
        nargs='*',
        metavar='NAME',
        help='names of variants in options/ablation.yml, or option files; the others are compared with the first',
    )
    add('--iters', type=number(1), default=3000, metavar='N', help='iterations of each run')
    add(
        '--seeds',
        type=number(0),
        nargs='+',
        default=[0],
        metavar='SEED',
        help='seeds; each variant is trained once with each seed',
    )
    add('--jobs', type=number(1), default=1, metavar='N', help='number of runs at a time, which share the CPU cores')
    add_sets(parser, ['Set5', 'Set14', 'BSD100', 'Urban20', 'Manga15'])
    add(
        '--figure',
        type=Path,
        metavar='FILE.png',
        help='file for a figure: the map of the first run, its error, and the fixed filters (default: none)',
    )
    add(
        '--pictures',
        nargs='+',
        default=['Set5/butterfly', 'Set14/comic', 'Set14/ppt3', 'BSD100/101085'],
        metavar='SET/PICTURE',
        help='pictures for --figure',
    )
    add(
        '--keep',
        action='store_true',
        help='add the results to docs/ablation.json and update the tables of docs/experiments.md; '
        'without names, only update the tables',
    )


def run(args: argparse.Namespace) -> int:
    """Train what is missing, measure, and print the tables.

    Raises:
        UserError: a name, an option file or a set is wrong, or a training failed.
    """
    from iafmsr.tools.ablation.measure import draw_maps
    from iafmsr.tools.ablation.named import options_of
    from iafmsr.tools.ablation.results import keep
    from iafmsr.tools.ablation.runs import Run, ablate, report
    from iafmsr.tools.benchmark.sets import data_folder, find_sets

    if not args.entries and not args.keep:
        raise UserError('give the names of variants')
    if not args.entries:
        keep(ROOT, {})
        return 0
    sets = find_sets(data_folder(args.data, ROOT), args.sets)
    results = ablate(args.entries, args.iters, args.seeds, sets, ROOT, args.jobs)
    print(f'{args.iters:,} iterations, seeds {", ".join(map(str, args.seeds))}.\n\n{report(results.values())}')
    if args.keep:
        keep(ROOT, results)
    if args.figure:
        first = Run(*options_of(args.entries[0]), args.seeds[0], args.iters)
        draw_maps(first.options, first.weights(ROOT), sets, args.pictures).save(args.figure)
    return 0
