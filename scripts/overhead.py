"""What exact resume, signals and the guard cost a training iteration, beside BasicSR's own."""

import argparse

from iafmsr.errors import cli_errors
from iafmsr.profiling.overhead import measure_overhead


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--num-feat', type=int, default=40, help='width of the IAFMNet x4 (40)')
    parser.add_argument('--size', type=int, default=64, help='side of the LR patches (64)')
    parser.add_argument('--batch', type=int, default=4, help='patches (4)')
    parser.add_argument('--rounds', type=int, default=20, help='iterations of each kind (20)')
    args = parser.parse_args()
    theirs, ours, ratio = measure_overhead(args.device, args.num_feat, args.size, args.batch, args.rounds)
    print(f'BasicSR {1000 * theirs:.1f} ms, iafmsr {1000 * ours:.1f} ms an iteration: {100 * (ratio - 1):+.2f} %')


if __name__ == '__main__':
    main()
