"""Make training or validation pairs (HR and bicubic LR) of any folder of pictures. See datasets/README.md."""

import argparse
import sys
from pathlib import Path

from iafmsr.data.forms import SCALES, SubImages, WholePictures
from iafmsr.data.preparation import prepare
from iafmsr.errors import UserError, cli_errors


@cli_errors()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--input', type=Path, nargs='+', required=True, help='folders with the original pictures')
    parser.add_argument('--output', type=Path, required=True, help='folder for the result, e.g. datasets/DF2K')
    parser.add_argument('--scale', type=int, nargs='+', default=SCALES, choices=SCALES, help='LR to make')
    parser.add_argument(
        '--whole',
        action='store_true',
        help='whole pictures as PNG files, as benchmarks are laid out, instead of sub-images in LMDBs',
    )
    parser.add_argument('--crop-size', type=int, default=480, help='side of a sub-image, in HR pixels')
    parser.add_argument('--step', type=int, default=240, help='from one sub-image to the next, in HR pixels')
    parser.add_argument(
        '--min-size',
        type=int,
        default=256,
        help='leave out pictures with a smaller side; at least gt_size of the training',
    )
    parser.add_argument('--workers', type=int, help='pictures to work on at a time; None: one for each CPU core')
    parser.add_argument(
        '--teacher',
        metavar='WEIGHTS',
        help="file of weights, or its name in the project's weights/: its pictures of the LR of its "
        'scale, rounded to 8 bits, in an LMDB to learn from (dataroot_teacher)',
    )
    parser.add_argument(
        '--ensemble', action='store_true', help="the teacher's mean over the 8 flips and rotations: 8 times the work"
    )
    args = parser.parse_args()
    if args.teacher and args.whole:
        raise UserError('--teacher: for sub-images, not for --whole')

    form = WholePictures() if args.whole else SubImages(args.crop_size, args.step, args.min_size)
    report = prepare(args.input, args.output, args.scale, form, args.workers)
    if args.teacher:
        from iafmsr.inference.teacher_pictures import add_teacher

        print(add_teacher(args.input, args.output, form, args.teacher, args.ensemble))
    return 1 if report.unreadable else 0


if __name__ == '__main__':
    sys.exit(main())
