"""Write a network as an ONNX file, or as a file of weights that is all its own.

FILE.onnx takes any number and size of pictures: float32 in [0, 1] as `lq` (batch, 3, height, width), and gives `sr`. It
is checked against PyTorch, and upscales by `iafmsr upscale --weights FILE.onnx`. Packages: the extra `onnx`.

FILE.pth holds weights as the folder weights/ does: averaged, in float32, with the network's options. FILE.safetensors
holds the same, the options in its metadata. Package: the extra `hub`.

  iafmsr export --weights IAFMNet_x4 --output IAFMNet_x4.onnx
  iafmsr export --weights IAFMNet_x4 --output IAFMNet_x4_fp16.onnx --fp16
  iafmsr export --weights experiments/weights_IAFMNet_x4 --output weights/IAFMNet_x4.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from iafmsr.cli.arguments import add_budget, add_weights
from iafmsr.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights(parser)
    parser.add_argument(
        '--output', required=True, type=Path, metavar='FILE', help='file for the network, .onnx, .pth or .safetensors'
    )
    add_budget(parser)
    parser.add_argument(
        '--engine',
        choices=('auto', 'onnxruntime', 'openvino'),
        default='auto',
        help='engine in which an ONNX file is checked; auto: each that is installed',
    )
    parser.add_argument(
        '--fp16', action='store_true', help='compute convolutions of an ONNX file in float16; the map stays in float32'
    )


def run(args: argparse.Namespace) -> int:
    """Raises:
    UserError: the name has another ending, or see :func:`_write_onnx` and
        :func:`iafmsr.tools.export.publishing.publish`.
    """
    from iafmsr.files.names import printable
    from iafmsr.nets.files import find_weights
    from iafmsr.tools.export.publishing import publish

    if args.output.suffix not in ('.onnx', '.pth', '.safetensors'):
        raise UserError(f'--output {printable(args.output)}: the name must end in .onnx, .pth or .safetensors')
    if args.fp16 and args.output.suffix != '.onnx':
        raise UserError('--fp16: for an ONNX file; a file of weights is in float32')
    if args.budget and args.output.suffix != '.onnx':
        raise UserError('--budget: for an ONNX file; a file of weights holds the whole network')
    weights = find_weights(args.weights)
    if args.output.suffix == '.onnx':
        _write_onnx(*weights, args.output, args.fp16, args.budget, args.engine)
    else:
        publish(*weights, args.output)
    return 0


def _write_onnx(
    weights: Path, given: dict[str, Any], output: Path, half: bool, budget: float | None, engine: str
) -> None:
    """Export, check, and only then write.

    Raises:
        UserError: packages, weights or the place to write are missing, or the export fails its check.
    """
    import torch

    from iafmsr.files.names import printable
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.nets.agreement import LIMIT, SIZES, largest_difference
    from iafmsr.nets.graph import to_onnx
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.trained import set_budget
    from iafmsr.tools.export.check import engines_for, measure_times

    trained = load_net(weights, given)
    set_budget(trained.net, budget)
    check_writable(output)
    content = to_onnx(trained, half)
    exported = engines_for(content, engine)
    precision = 'float16' if half else 'float32'
    differences = {}
    for name, net in exported.items():
        try:
            differences[name] = largest_difference(trained.net, net, LIMIT[precision], trained.channels)
        except UserError as error:
            raise UserError(f'the exported net does not agree with PyTorch in {name}: {error}') from None
    times = measure_times({'PyTorch': trained.net, **exported}, trained.channels)
    write_whole(output, content)
    sizes = ', '.join(f'{width}x{height}' for _, height, width in SIZES)
    found = ', '.join(f'{name} {difference:.1e}' for name, difference in differences.items())
    took = ', '.join(f'{name} {ms:.0f} ms' for name, ms in times.items())
    print(
        f'{printable(output)}: {trained.arch} x{trained.scale}, {precision}, {len(content) / 1e6:.2f} MB\n'
        f'largest difference from PyTorch in float32: {found} (limit {LIMIT[precision]:.1e}; {sizes})\n'
        f'320x180, {torch.get_num_threads()} threads: {took}'
    )
