"""Enlarge pictures with a trained network.

  iafmsr upscale photo.jpg --output photo_x4.png --weights IAFMNet_x4
  iafmsr upscale holidays/ '2024/**/*.tif' --output larger/ --weights IAFMNet_x2 --ensemble
  iafmsr upscale photographs/ --output larger/ --recursive --format webp --weights IAFMNet_x2

Gray pictures stay gray, 16-bit pictures keep 16 bits, transparency is enlarged too, EXIF's orientation is applied.
Colour profile, EXIF and resolution (dots per inch) are kept in every format that can hold them; CMYK becomes RGB.
Existing results are not replaced. The exit code is the number of pictures that failed, 100 at most; a message for each
says why.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from iafmsr.cli.arguments import (
    add_budget,
    add_device,
    add_engine,
    add_weights,
    exact_scale,
    first_time,
    number,
    use_device,
)

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

    from iafmsr.nets.files import NamedFile
    from iafmsr.tools.inference.jobs import Job, Plan
    from iafmsr.tools.inference.upscale import Upscaler

FORMATS = ('png', 'jpg', 'tif', 'webp', 'bmp')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``iafmsr upscale``."""
    add = parser.add_argument
    add('inputs', nargs='+', metavar='IN', help='files, folders (the pictures in them) and glob patterns')
    add_weights(parser)
    add('--output', required=True, metavar='OUT', help='folder for the results, or file for a single result')
    add(
        '--outscale',
        metavar='S',
        type=exact_scale,
        help="scale of the results, such as 2.5 or 7/3 (default: the network's); the network's result is resized to it "
        'by bicubic interpolation',
    )
    add('--recursive', action='store_true', help='also take sub-folders, and make the same sub-folders in OUT')
    add(
        '--format',
        choices=FORMATS,
        help='format of the results in a folder (default: that of the picture if it can be written, else png)',
    )
    add('--quality', metavar='N', type=number(1, 100), default=95, help='quality of JPEG and WebP, 1 to 100')
    add(
        '--tile',
        metavar='N',
        type=_tile,
        default=1024,
        help='side of the tiles in input pixels; 0 computes the whole picture at once. The result is the same. Smaller '
        'tiles need less memory and more computation: 45%% more at 1024, 98%% more at 512',
    )
    add_budget(parser)
    add('--ensemble', action='store_true', help='take the mean over the 8 flips and rotations: 8 times the work')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), default='fp32', help='number format of the computation')
    add_device(parser)
    add_engine(parser)
    add('--overwrite', action='store_true', help='replace results that exist')


def run(args: argparse.Namespace) -> int:
    """Run ``iafmsr upscale``.

    Returns:
        The number of pictures that failed, 100 at most.

    Raises:
        UserError: nothing can be done at all: the weights, OUT or an option is wrong, or OUT is being written to
            by another process.
    """
    from iafmsr.nets.files import find_weights
    from iafmsr.tools.inference.jobs import plan

    weights = find_weights(args.weights)
    planned = plan(args.inputs, args.output, args.recursive, args.format and f'.{args.format}')
    for line in planned.notes + [f'error: {fault}' for fault in planned.faults]:
        _say(line)
    # what is not there is said before PyTorch is imported, which takes seconds
    failed = len(planned.faults) + (_upscale(planned, weights, args) if planned.jobs else 0)
    return min(failed, 100)


def _upscale(planned: Plan, weights: NamedFile, args: argparse.Namespace) -> int:
    """Do what is planned and not there yet; returns how many of it failed."""
    from PIL import Image

    from iafmsr.files.lock import folder_lock
    from iafmsr.files.names import printable
    from iafmsr.files.whole import check_writable, clear_leftovers
    from iafmsr.tools.inference.upscale import upscale_all

    device = use_device(args)
    Image.MAX_IMAGE_PIXELS = None  # a limit for what strangers send; what the user names may be of any size
    new = [job for job in planned.jobs if args.overwrite or not os.path.exists(job.target)]
    failed = 0
    if new:
        check_writable(new[0].target)
        for folder in {job.target.parent for job in new}:
            clear_leftovers(folder)
        with folder_lock(Path(args.output)):
            upscaler = _upscaler(weights, new, device, args, _say)
            with _bar() as bar:  # which counts the time of the pictures alone
                failed = upscale_all(new, upscaler, bar, _say, args.quality)
    print(
        f'{len(new) - failed} upscaled, {len(planned.jobs) - len(new)} skipped (the results exist), '
        f'{failed + len(planned.faults)} failed: {printable(Path(args.output))}'
    )
    return failed


def _say(line: str) -> None:
    from tqdm import tqdm

    (tqdm.write if sys.stderr.isatty() else print)(f'iafmsr: {line}', file=sys.stderr)


def _tile(text: str) -> int:
    """A side in pixels, or 0."""
    if text == '0' or text.isdigit() and int(text) >= 8:
        return int(text)
    raise argparse.ArgumentTypeError(f'{text}: must be at least 8 pixels, or 0 for the whole picture')


def _upscaler(
    weights: NamedFile, jobs: list[Job], device: torch.device, args: argparse.Namespace, say: Callable[[str], None]
) -> Upscaler:
    """The net on its device, ready to work."""
    from iafmsr.nets.arithmetic import DTYPES
    from iafmsr.nets.in_engine import in_engine
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.tiles import Enlarger, is_exact
    from iafmsr.nets.trained import set_budget
    from iafmsr.tools.inference.upscale import Upscaler

    trained = load_net(*weights)
    set_budget(trained.net, args.budget)
    trained = in_engine(trained, args.engine, device, args.precision, say, begins=first_time(say))
    trained.net.to(device)
    if args.tile and not is_exact(trained) and any(_longer_side(job.source) > args.tile for job in jobs):
        say(f'{trained.arch} may use the whole picture: the results of pictures larger than the tile are not exact')
    return Upscaler(Enlarger(trained, device, DTYPES[args.precision]), args.tile, args.ensemble, say, args.outscale)


def _bar() -> tqdm:
    """A bar on a terminal, and lines in a log."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(
            file=sys.stderr, dynamic_ncols=True, bar_format='{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}'
        )
    return tqdm(
        file=_Log(), mininterval=10, delay=10, bar_format='iafmsr: {desc} {percentage:.0f}% {elapsed}<{remaining}'
    )


def _longer_side(path: Path) -> int:
    """Of a picture; 0 where it cannot be read, which is said later."""
    from iafmsr.files.picture import UnreadableError
    from iafmsr.files.reading import picture_size

    with suppress(UnreadableError):
        return max(picture_size(path))
    return 0


class _Log:
    """What shows a bar on a terminal, as lines of a log."""

    def write(self, text: str) -> None:
        if text := text.strip():
            print(text, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
