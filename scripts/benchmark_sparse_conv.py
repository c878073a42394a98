#!/usr/bin/env python3
"""Time the backends of the submanifold convolution against the dense form, and find where auto should change over.

python scripts/benchmark_sparse_conv.py
python scripts/benchmark_sparse_conv.py --sizes 320x180 --channels 40 --weights IAFMNet_x4 --json sparse.json
"""

import argparse
import shlex
import sys
from pathlib import Path

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', default=['320x180', '640x360', '1280x720'], metavar='WxH')
    parser.add_argument('--channels', nargs='+', type=int, default=[32, 40, 64], metavar='C')
    parser.add_argument(
        '--active',
        nargs='+',
        type=float,
        default=[5, 10, 20, 50, 100],
        metavar='PERCENT',
        help='active sites, in percent',
    )
    parser.add_argument('--weights', metavar='FILE', help='net whose map makes the masks (one that needs no training)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=1, help="torch's threads on the CPU (1)")
    parser.add_argument('--seconds', type=float, default=1.0, help='for each case, about (1)')
    parser.add_argument('--json', metavar='FILE', help='all figures')
    args = parser.parse_args()

    from iafmsr.benchmark.sparse import as_json, crossovers, measure, tables
    from iafmsr.benchmark.tables import as_text
    from iafmsr.benchmark.values import parse_device, parse_shares, parse_size
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.nets.files import find_weights

    sizes, shares = [parse_size(text) for text in args.sizes], parse_shares(args.active)
    device = parse_device(args.device, args.threads)
    if args.json:
        check_writable(Path(args.json))
    timings = list(
        measure(
            sizes, args.channels, shares, device, find_weights(args.weights) if args.weights else None, args.seconds
        )
    )
    print(as_text(tables(timings, device)))
    if device.type == 'cpu':
        for gradient, share in crossovers(timings).items():
            print(f'\n{"with" if gradient else "without"} gradients gather is never slower up to {100 * share:g} %')
    if args.json:
        command = shlex.join(['python', 'scripts/benchmark_sparse_conv.py', *sys.argv[1:]])
        write_whole(Path(args.json), as_json(timings, device, command).encode())


if __name__ == '__main__':
    main()
