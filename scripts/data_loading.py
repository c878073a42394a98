#!/usr/bin/env python3
"""Measure whether the training data of option files load faster than their networks train on them."""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('options', nargs='+', metavar='FILE.yml', help='option files for training')
    args = parser.parse_args()

    from iafmsr.profiling.loading_speed import loading_table

    print(loading_table(args.options, Path(__file__).resolve().parent.parent))


if __name__ == '__main__':
    main()
