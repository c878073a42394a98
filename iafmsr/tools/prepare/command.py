"""Make training or validation pairs from folders of pictures: the originals (HR) and bicubic reductions of them (LR).

  iafmsr prepare --input datasets/DIV2K/DIV2K_train_HR datasets/Flickr2K/Flickr2K_HR --output datasets/DF2K
  iafmsr prepare --input BSD100/original --output datasets/benchmarks/BSD100 --whole
  iafmsr prepare --input ILSVRC/train --recursive --output datasets/ImageNet --scale 4
  iafmsr prepare --input photos --report

Pairs for training are sub-images in LMDBs. After an interruption, the same command continues where it stopped. The exit
code is 1 if a picture could not be read. See datasets/README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from iafmsr.cli.arguments import number
from iafmsr.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--input', type=Path, nargs='+', required=True, metavar='DIR', help='folders with the original pictures')
    add('--recursive', action='store_true', help='also take the pictures in sub-folders')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--output', type=Path, metavar='DIR', help='folder for the pairs (default: none)')
    what.add_argument(
        '--report',
        action='store_true',
        help='write nothing; print whether the pictures have JPEG blocks or blur. A network trained on bicubic LR is '
        'not suited to such pictures',
    )
    add('--scale', nargs='+', type=int, choices=(2, 3, 4), default=[2, 3, 4], help='scales of LR, one or more')
    add('--whole', action='store_true', help='write whole pictures as PNG files, in the layout of benchmark sets')
    add('--crop-size', type=int, default=480, metavar='N', help='side of a sub-image, in HR pixels')
    add('--step', type=int, default=240, metavar='N', help='distance from one sub-image to the next, in HR pixels')
    add(
        '--min-size',
        type=int,
        default=256,
        metavar='N',
        help='leave out pictures with a side shorter than this, in HR pixels; use at least gt_size of the training',
    )
    add('--workers', type=number(1), metavar='N', help='number of processes (default: one for each CPU core)')
    add(
        '--teacher',
        metavar='FILE',
        help='weights of a teacher network, as for --weights of other commands. Its results on the LR pictures of its '
        'scale are written to an additional LMDB, for dataroot_teacher in an option file (default: none)',
    )
    add(
        '--ensemble',
        action='store_true',
        help="take the teacher's mean over the 8 flips and rotations: 8 times the work",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare.

    Returns:
        1 where a picture could not be read.

    Raises:
        UserError: see :func:`iafmsr.tools.prepare.preparation.prepare`.
    """
    from iafmsr.files.names import is_picture_name, list_pictures, nested, printable
    from iafmsr.tools.prepare.forms import SubImages, WholePictures
    from iafmsr.tools.prepare.preparation import prepare

    for folder in args.input if not args.recursive else ():
        if folder.is_dir() and not any(map(is_picture_name, folder.iterdir())) and nested([folder]) != [folder]:
            raise UserError(f'no pictures in {printable(folder)}, only in its sub-folders: use --recursive')
    if args.recursive:
        args.input = nested(args.input)
    if args.report:
        from iafmsr.tools.prepare.degradation import report

        print(report(list_pictures(args.input)))
        return 0
    if args.teacher and args.whole:
        raise UserError('--teacher cannot be used with --whole, only with sub-images')
    form = WholePictures() if args.whole else SubImages(args.crop_size, args.step, args.min_size)
    made = prepare(args.input, args.output, args.scale, form, args.workers)
    if args.teacher and isinstance(form, SubImages):
        from iafmsr.tools.prepare.teacher_pictures import add_teacher

        print(add_teacher(args.input, args.output, form, args.teacher, args.ensemble))
    return 1 if made.unreadable else 0
