#!/usr/bin/env python3
"""Measure super-resolution networks side by side: PSNR and SSIM, params, FLOPs, activations, runtime and memory.

A net is NAME=FILE, where FILE is a file of weights (.pth) or an option file (.yml) and {scale} in it stands for the
scale. Keys of the arch follow a colon. What they leave open comes from the file itself, from the option file of the run
that it lies in, or from the shapes of the weights. Without FILE a net is counted and timed only. Bicubic interpolation
is always there. The first net is the one that the others are compared with.

  python scripts/benchmark.py IAFMNet=experiments/train_IAFMNet_x4/models/net_g_latest.pth SMFANet=smfanet_x4.pth
  python scripts/benchmark.py 'SMFANet=weights/SMFANet_x{scale}.pth' --scale 2 3 4 --sets Set5 Set14
  python scripts/benchmark.py SMFANet+=plus.pth IAFMNet=bare.pth:k=0.1 SwinIR=swinir.pth:type=Spandrel
  python scripts/benchmark.py SAFMN SMFANet IAFMNet --sets Set5 --speed cpu cuda
"""

import argparse
import shlex
import sys
from pathlib import Path

from iafmsr.errors import UserError, cli_errors

ROOT = Path(__file__).resolve().parent.parent
FORMATS = ('.txt', '.md', '.json')


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('nets', nargs='*', metavar='NET', help='NAME[=FILE][:key=value,...]')
    parser.add_argument('--scale', nargs='+', type=int, default=[4], choices=(2, 3, 4), help='one or more (4)')
    parser.add_argument(
        '--data',
        metavar='DIR',
        help='folder of sets: DIR/Set5/HR, DIR/Set5/LR_bicubic/X4 ... LR is '
        'made where there is none ($IAFMSR_DATA/benchmarks, else datasets/benchmarks)',
    )
    parser.add_argument('--sets', nargs='+', metavar='SET', help='names of sets in DIR (all)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='for PSNR and SSIM (cuda where there is one)')
    parser.add_argument('--threads', type=int, help="torch's threads on the CPU")
    parser.add_argument(
        '--speed',
        nargs='+',
        default=[],
        choices=('cpu', 'cuda'),
        metavar='DEVICE',
        help='measure runtime and peak memory there: cpu, cuda',
    )
    parser.add_argument(
        '--drawn',
        action='store_true',
        help='measure drawn pictures too: flat colours, words, lines, checkerboards, noise',
    )
    parser.add_argument(
        '--published', nargs='+', default=[], metavar='NAME', help='published figures of further nets, such as SAFMN'
    )
    parser.add_argument('--per-picture', action='store_true', help='a table of all pictures for each set')
    parser.add_argument(
        '--crop', nargs='+', default=[], metavar='SET/PICTURE:LEFT,TOP,SIZE', help='regions for --figure, in HR pixels'
    )
    parser.add_argument('--figure', metavar='FILE.png', help='the regions by every net, side by side (one scale)')
    parser.add_argument('--write', nargs='+', default=[], metavar='FILE', help='results as .txt, .md or .json')
    parser.add_argument(
        '--cache',
        metavar='DIR',
        default=str(ROOT / 'results/benchmark/cache'),
        help='results that have been measured before (results/benchmark/cache)',
    )
    parser.add_argument('--no-cache', action='store_true', help='measure everything anew, keep nothing')
    args = parser.parse_args()

    import torch

    from iafmsr.benchmark.cache import Cache
    from iafmsr.benchmark.crops import draw_regions, parse_region
    from iafmsr.benchmark.published import published_names
    from iafmsr.benchmark.run import benchmark
    from iafmsr.benchmark.sets import data_folder, find_sets
    from iafmsr.benchmark.tables import as_json, as_markdown, as_text, tables
    from iafmsr.files.whole import check_writable, write_whole

    if bool(args.crop) != bool(args.figure) or (args.figure and len(args.scale) > 1):
        raise UserError('--crop and --figure go together, at one --scale')
    regions = [parse_region(text) for text in args.crop]
    published_names(args.published)
    for file in map(Path, args.write):
        if file.suffix not in FORMATS:
            raise UserError(f'--write {file}: the name must end in {", ".join(FORMATS)}')
    for file in (*args.write, *([args.figure] if args.figure else [])):
        check_writable(Path(file))
    if 'cuda' in (args.device, *args.speed) and not torch.cuda.is_available():
        raise UserError('cuda: this machine has no CUDA device')
    if args.threads is not None:
        if args.threads < 1:
            raise UserError(f'--threads {args.threads}: at least 1 is wanted')
        torch.set_num_threads(args.threads)
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))

    cache = Cache(None if args.no_cache else Path(args.cache))
    reports = benchmark(
        args.nets,
        find_sets(data_folder(args.data, ROOT), args.sets),
        args.scale,
        ROOT,
        cache,
        device,
        [torch.device(name) for name in args.speed],
        args.published,
        args.drawn,
    )
    cache.save()
    found = [table for report in reports for table in tables(report, args.per_picture)]
    print(as_text(found))
    command = shlex.join(['python', 'scripts/benchmark.py', *sys.argv[1:]])
    for file in map(Path, args.write):
        text = {
            '.txt': lambda: as_text(found) + '\n',
            '.md': lambda: as_markdown(found, command),
            '.json': lambda: as_json(reports, command) + '\n',
        }[file.suffix]()
        write_whole(file, text.encode())
    if regions:
        draw_regions(reports[0], regions, device, Path(args.figure))


if __name__ == '__main__':
    main()
