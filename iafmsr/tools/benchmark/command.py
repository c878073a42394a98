"""Compare networks: PSNR and SSIM, parameters, FLOPs, activations, runtime and memory.

A network is given as FILE or NAME=FILE. FILE is a file of weights (.pth), a run's folder, an option file (.yml), or the
name of known weights (iafmsr weights lists them). {scale} in it stands for the scale. If you give only a type of
network, such as SAFMN, its operations are counted and it is timed, but its quality is not measured. After a colon you
can give keywords of the network, such as k=0.1. Keywords that you do not give are read from the file, from the option
file of its run, or from the shapes of the weights. Bicubic interpolation is always measured too. The other networks are
compared with the first one.

  iafmsr benchmark IAFMNet=experiments/train_IAFMNet_x4 SMFANet=smfanet_x4.pth
  iafmsr benchmark 'SMFANet=weights/SMFANet_x{scale}.pth' --scale 2 3 4 --sets Set5 Set14
  iafmsr benchmark SMFANet+=plus.pth IAFMNet=bare.pth:k=0.1 SwinIR=swinir.pth:type=Spandrel
  iafmsr benchmark SAFMN SMFANet IAFMNet --sets --speed torch openvino openvino-bf16 --threads 1
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from iafmsr.cli.arguments import add_device, add_sets, number, size, use_device
from iafmsr.errors import UserError
from iafmsr.options.places import ROOT, root_here
from iafmsr.tools.benchmark.forms import FORMS

if TYPE_CHECKING:
    from iafmsr.tools.benchmark.crops import Region
    from iafmsr.tools.benchmark.run import ScaleReport

_FORMATS = ('.txt', '.md', '.json')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('nets', nargs='*', metavar='NET', help='networks to compare, [NAME=]FILE[:key=value,...]')
    add('--scale', nargs='+', type=int, choices=(2, 3, 4), default=[4], help='scales of the networks, one or more')
    add_sets(parser)
    add_device(parser)
    add_speed(parser)
    add(
        '--drawn',
        action='store_true',
        help='also measure drawn pictures: flat colours, words, lines, checkerboards, noise',
    )
    add(
        '--published',
        nargs='+',
        default=[],
        metavar='NAME',
        help='also show published results of these networks, such as SAFMN',
    )
    add(
        '--metrics',
        nargs='+',
        default=[],
        choices=('lpips', 'dists', 'gmsd', 'fsim', 'niqe'),
        help="additional metrics: NIQE on Y, the others on RGB (needs the extra 'metrics')",
    )
    add('--ensemble', action='store_true', help='take the mean over the 8 flips and rotations: 8 times the work')
    add(
        '--crop-border', type=number(0), metavar='N', help='number of pixels left out on each side (default: the scale)'
    )
    add_files(parser)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """What is timed."""
    add = parser.add_argument
    add(
        '--speed',
        nargs='+',
        default=[],
        choices=('all', *FORMS),
        help='measure time and peak memory in these engines and precisions; all: in all that this machine supports',
    )
    add(
        '--size',
        nargs='+',
        type=size,
        metavar='WxH',
        help='sizes of the input pictures for --speed (default: the size that is enlarged to 1280x720)',
    )
    add('--pictures', type=number(2), default=20, metavar='N', help='how many pictures are timed')


def add_files(parser: argparse.ArgumentParser) -> None:
    """What is written, and what is kept for the next call."""
    add = parser.add_argument
    add('--per-picture', action='store_true', help='show a table of all pictures for each set')
    add('--crop', nargs='+', default=[], metavar='SET/PICTURE:LEFT,TOP,SIZE', help='regions for --figure, in HR pixels')
    add(
        '--figure',
        type=Path,
        metavar='FILE.png',
        help='file for a figure of the regions, enlarged by each network; needs a single --scale (default: none)',
    )
    add(
        '--plot',
        type=Path,
        metavar='FILE.png',
        help='file for diagrams of PSNR over parameters, GMACs and, with --speed, time (default: none)',
    )
    add('--output', nargs='+', type=Path, default=[], metavar='FILE', help='files for the tables, .txt, .md or .json')
    add(
        '--cache',
        type=Path,
        metavar='DIR',
        default=Path('results/benchmark/cache'),
        help='folder for earlier results, which are not measured again; a relative path starts from the checkout if '
        'the working directory is in it, else from the working directory',
    )
    add('--no-cache', action='store_true', help='measure everything again, and keep nothing')


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, and write what was asked for.

    Raises:
        UserError: whatever is wrong with an argument, a net, a set or a picture.
    """
    from iafmsr.tools.benchmark.cache import Cache
    from iafmsr.tools.benchmark.crops import draw_regions
    from iafmsr.tools.benchmark.quality import How
    from iafmsr.tools.benchmark.run import SpeedTest, benchmark
    from iafmsr.tools.benchmark.sets import data_folder, find_sets
    from iafmsr.tools.benchmark.speed import forms_of

    regions = _checked_regions(args)
    device = use_device(args)
    speed = SpeedTest(forms_of(args.speed, device), args.size or (), args.pictures, device)
    cache = Cache(None if args.no_cache else root_here() / args.cache)
    reports = benchmark(
        args.nets,
        find_sets(data_folder(args.data, root_here()), args.sets) if args.sets != [] else [],
        args.scale,
        ROOT,
        cache,
        device,
        speed,
        args.published,
        args.drawn,
        How(args.ensemble, args.crop_border, tuple(args.metrics)),
    )
    cache.save()
    _write_tables(reports, args)
    if args.figure:
        draw_regions(reports[0], regions, device, args.figure)
    if args.plot:
        from iafmsr.tools.benchmark.plot import draw_plot

        draw_plot(reports, args.plot)
    return 0


def _checked_regions(args: argparse.Namespace) -> list[Region]:
    """The regions of the figure, after whatever can be found wrong before hours of work."""
    from iafmsr.files.whole import check_writable
    from iafmsr.tools.benchmark.crops import parse_region
    from iafmsr.tools.benchmark.published import published_names

    if bool(args.crop) != bool(args.figure) or (args.figure and len(args.scale) > 1):
        raise UserError('--crop and --figure must be used together, with a single --scale')
    regions = [parse_region(text) for text in args.crop]
    published_names(args.published)
    for file in args.output:
        if file.suffix not in _FORMATS:
            raise UserError(f'--output {file}: the name must end in {", ".join(_FORMATS)}')
    if args.plot and args.plot.suffix != '.png':
        raise UserError(f'--plot {args.plot}: the name must end in .png')
    if args.plot and not args.nets:
        raise UserError('--plot: name the networks that are to be compared')
    for file in (*args.output, *filter(None, (args.figure, args.plot))):
        check_writable(file)
    return regions


def _write_tables(reports: list[ScaleReport], args: argparse.Namespace) -> None:
    from iafmsr.files.whole import write_whole
    from iafmsr.tools.benchmark.output import as_json, as_markdown, as_text
    from iafmsr.tools.benchmark.tables import tables

    found = [table for report in reports for table in tables(report, args.per_picture)]
    print(as_text(found))
    for file in args.output:
        text = {
            '.txt': lambda: as_text(found) + '\n',
            '.md': lambda: as_markdown(found, args.command_line),
            '.json': lambda: as_json(reports, args.command_line) + '\n',
        }[file.suffix]()
        write_whole(file, text.encode())
