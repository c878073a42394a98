#!/usr/bin/env python3
"""Print params, FLOPs (multiply-accumulates) and activations of the network of each option file."""

import argparse

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('options', nargs='+', metavar='FILE.yml', help='option files')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(1280, 720),
        metavar=('WIDTH', 'HEIGHT'),
        help='size of the output in pixels (default: 1280 720)',
    )
    args = parser.parse_args()

    from iafmsr.measure.complexity import table

    print(table(args.options, tuple(args.size)))


if __name__ == '__main__':
    main()
