"""Write a network as an ONNX file for any number and size of pictures, checked against PyTorch.

The file takes float32 pictures in [0, 1] as `lq` (batch, 3, height, width) and gives `sr`, and upscales by
`iafmsr upscale --weights FILE.onnx`. Packages: the extra `onnx`.

  iafmsr export IAFMNet_x4.onnx --weights IAFMNet_x4.pth
  iafmsr export IAFMNet_x4_fp16.onnx --weights IAFMNet_x4.pth --fp16
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('output', type=Path, metavar='FILE.onnx', help='file to be written')
    parser.add_argument('--weights', required=True, metavar='FILE', help='weights of the net')
    parser.add_argument('--fp16', action='store_true', help='convolutions in float16 (the map stays in float32)')


def run(args: argparse.Namespace) -> int:
    """Export, check, and only then write.

    Raises:
        UserError: packages, weights or the place to write are missing, or the export fails its check.
    """
    import torch

    from iafmsr.errors import UserError
    from iafmsr.export.check import LIMIT, SIZES, largest_difference, measure_times
    from iafmsr.export.graph import to_onnx
    from iafmsr.files.names import printable
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.onnx_file import OnnxNet, session

    if args.output.suffix != '.onnx':
        raise UserError(f'{printable(args.output)}: the name must end in .onnx')
    trained = load_net(*find_weights(args.weights))
    check_writable(args.output)
    content = to_onnx(trained, args.fp16)
    exported = OnnxNet(session(content))
    precision = 'float16' if args.fp16 else 'float32'
    difference = largest_difference(trained.net, exported, LIMIT[precision])
    times = measure_times(trained.net, exported)
    write_whole(args.output, content)
    sizes = ', '.join(f'{width}x{height}' for _, height, width in SIZES)
    print(
        f'{printable(args.output)}: {trained.arch} x{trained.scale}, {precision}, {len(content) / 1e6:.2f} MB\n'
        f'largest difference from PyTorch in float32: {difference:.1e} (limit {LIMIT[precision]:.1e}; {sizes})\n'
        f'320x180, {torch.get_num_threads()} threads: PyTorch {times.pytorch:.0f} ms, '
        f'onnxruntime {times.onnxruntime:.0f} ms'
    )
    return 0
