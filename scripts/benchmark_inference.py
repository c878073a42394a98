#!/usr/bin/env python3
"""Time whole networks picture by picture, by turns, with their peak memory and the time of their arithmetic alone.

A net is given as to scripts/benchmark.py: NAME[=FILE][:key=value,...]. Without any, IAFMNet in two forms and its peers.

  OMP_NUM_THREADS=1 python scripts/benchmark_inference.py
  python scripts/benchmark_inference.py IAFMNet SAFMN --cases x4:320x180 --threads 2
"""

import argparse
import shlex
import sys
from pathlib import Path

from iafmsr.errors import UserError, cli_errors

ROOT = Path(__file__).resolve().parent.parent


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('nets', nargs='*', metavar='NET', help='NAME[=FILE][:key=value,...]')
    parser.add_argument(
        '--cases',
        nargs='+',
        default=['x4:320x180', 'x2:640x360'],
        metavar='xS:WxH',
        help='scales and sizes of the input (x4:320x180 x2:640x360)',
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=1, help="torch's threads on the CPU (1)")
    parser.add_argument('--pictures', type=int, default=10, help='timed ones (10)')
    parser.add_argument('--json', metavar='FILE', help='all figures')
    args = parser.parse_args()
    if args.pictures < 2:
        raise UserError(f'--pictures {args.pictures}: at least 2 are wanted')

    from iafmsr.benchmark.inference import NETS, as_json, measure, table
    from iafmsr.benchmark.tables import as_text
    from iafmsr.benchmark.values import parse_case, parse_device
    from iafmsr.files.whole import check_writable, write_whole

    cases, device = [parse_case(text) for text in args.cases], parse_device(args.device, args.threads)
    if args.json:
        check_writable(Path(args.json))
    results = []
    for scale, size in cases:
        results.append((scale, size, measure(args.nets or NETS, scale, size, device, args.pictures, ROOT)))
        print(as_text([table(results[-1][2], scale, size, device)]) + '\n', flush=True)
    if args.json:
        command = shlex.join(['python', 'scripts/benchmark_inference.py', *sys.argv[1:]])
        write_whole(Path(args.json), as_json(results, device, command).encode())


if __name__ == '__main__':
    main()
