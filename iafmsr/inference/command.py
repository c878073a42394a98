"""Make pictures larger by a trained network.

  iafmsr upscale photo.jpg photo_x4.png --weights IAFMNet_x4.pth
  iafmsr upscale holidays/ '2024/**/*.tif' larger/ --weights IAFMNet_x2.pth --ensemble

Gray pictures stay gray, 16 bits stay 16, transparency is upscaled too, EXIF's orientation is applied; colour profile
and EXIF are kept in PNG, JPEG and WebP. Results that exist are not made again. The exit code is the number of pictures
that failed, 100 at most; each has a line that says why.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``iafmsr upscale``."""
    parser.add_argument('inputs', nargs='+', metavar='IN', help='files, folders (every file in them) and glob patterns')
    parser.add_argument('out', metavar='OUT', help='folder; or file, of a single picture')
    parser.add_argument('--weights', metavar='FILE', required=True,
                        help="file of weights, option file that names some, or name of a file in the project's "
                             'weights/; FILE:key=value,... gives keywords of the network that the file does not say')
    parser.add_argument('--tile', metavar='N', type=int, default=1024,
                        help='compute in tiles of NxN input pixels (1024; 0: the whole picture at once). The result is '
                             'the same: each tile is computed with the margin that decides it, 104 pixels for a net of '
                             '6 blocks, which is up to 45%% more work at 1024, 21%% at 2048, 98%% at 512. Memory grows '
                             'with N squared')
    parser.add_argument('--ensemble', action='store_true',
                        help='mean over the 8 flips and rotations of the picture: 8 times the work')
    parser.add_argument('--precision', choices=('fp32', 'bf16', 'fp16'), default='fp32', help='of the net (fp32)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='cuda where there is one')
    parser.add_argument('--overwrite', action='store_true', help='make results again that exist')


def run(args: argparse.Namespace) -> int:
    """Run ``iafmsr upscale``.

    Returns:
        The number of pictures that failed, 100 at most.

    Raises:
        UserError: nothing can be done at all: the weights, OUT or an option is wrong.
    """
    import torch
    from tqdm import tqdm

    from iafmsr.benchmark.files import check_writable
    from iafmsr.data.pictures import printable
    from iafmsr.errors import UserError
    from iafmsr.inference.jobs import plan
    from iafmsr.inference.tiles import Enlarger, is_exact
    from iafmsr.inference.upscale import Upscaler, upscale_all
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.onnx_file import OnnxNet

    terminal = sys.stderr.isatty()

    def say(line: str) -> None:
        (tqdm.write if terminal else print)(f'iafmsr: {line}', file=sys.stderr)

    if args.tile < 0 or 0 < args.tile < 8:
        raise UserError(f'--tile {args.tile}: at least 8 pixels are wanted, or 0 for the whole picture')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this machine has no CUDA device')
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    weights = find_weights(args.weights)
    jobs, faults = plan(args.inputs, args.out)
    for fault in faults:
        say(f'error: {fault}')
    new = [job for job in jobs if args.overwrite or not job.target.exists()]
    failed = len(faults)
    if new:
        check_writable(new[0].target)
        trained = load_net(*weights)
        trained.net.to(device)
        if args.tile and not is_exact(trained) and any(_longer_side(job.source) > args.tile for job in new):
            say(f'{trained.arch} may look at the whole picture: one larger than the tile is not upscaled exactly')
        if isinstance(trained.net, OnnxNet) and args.precision != 'fp32':
            say(f'--precision {args.precision}: an ONNX file computes as it was exported (iafmsr export --fp16)')
            args.precision = 'fp32'
        if device.type == 'cpu' and not _has(args.precision):
            say(f'--precision {args.precision}: this CPU has no arithmetic for it and would be slower; fp32 instead')
            args.precision = 'fp32'
        dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}[args.precision]
        upscaler = Upscaler(Enlarger(trained, device, dtype), args.tile, args.ensemble, say)
        form = {'file': sys.stderr, 'dynamic_ncols': True,
                'bar_format': '{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}'}
        if not terminal:
            form = {'file': _Log(), 'mininterval': 10, 'delay': 10,
                    'bar_format': 'iafmsr: {desc} {percentage:.0f}% {elapsed}<{remaining}'}
        with tqdm(**form) as bar:
            failed += upscale_all(new, upscaler, bar, say)
    done = len(new) - (failed - len(faults))
    print(f'{done} upscaled, {len(jobs) - len(new)} there already, {failed} failed: {printable(Path(args.out))}')
    return min(failed, 100)


def _longer_side(path: Path) -> int:
    """Of a picture; 0 where it cannot be read, which is said later."""
    from iafmsr.data.pictures import UnreadableError, picture_size
    with suppress(UnreadableError):
        return max(picture_size(path))
    return 0


def _has(precision: str) -> bool:
    """Whether the CPU has arithmetic of its own for a precision."""
    import torch
    return precision == 'fp32' or getattr(torch.ops.mkldnn, f'_is_mkldnn_{precision}_supported')()


class _Log:
    """What shows a bar on a terminal, as lines of a log."""

    def write(self, text: str) -> None:
        if text := text.strip():
            print(text, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
