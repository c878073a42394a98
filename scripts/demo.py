"""Train a small IAFMNet x4 in minutes on scikit-image's photographs and compare it with bicubic interpolation."""

import argparse
from pathlib import Path

from iafmsr.demo import run_demo
from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0, help='of the training (0)')
    parser.add_argument('--retrain', action='store_true', help='train anew, even if a finished run is there')
    args = parser.parse_args()
    run_demo(Path(__file__).resolve().parent.parent, args.seed, args.retrain)


if __name__ == '__main__':
    main()
