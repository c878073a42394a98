"""Write a network as an ONNX file, or as a file of weights that holds all that is needed to load it.

FILE.onnx takes any number of pictures, of any size. Its input `lq` (batch, 3, height, width) is float32 in [0, 1], its
output is `sr`. It is compared with PyTorch, and can be used by `iafmsr upscale --weights`. Needs the extra `onnx`.

FILE.pth contains weights like the files in weights/: averaged, in float32, with the options of the network.
FILE.safetensors contains the same, with the options in its metadata. It needs the extra `hub`.

  iafmsr export --weights IAFMNet_x4 --output IAFMNet_x4.onnx
  iafmsr export --weights IAFMNet_x4 --output IAFMNet_x4_fp16.onnx --fp16
  iafmsr export --weights SAFMN_x4.pth --output SAFMN_x4.onnx --size 320x180
  iafmsr export --weights experiments/weights_IAFMNet_x4 --output weights/IAFMNet_x4.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iafmsr.cli.arguments import add_budget, add_weights, size
from iafmsr.errors import UserError, say

if TYPE_CHECKING:
    from iafmsr.nets.engines import EngineNet
    from iafmsr.nets.trained import TrainedNet


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
        help='engine in which an ONNX file is checked; auto: in each installed engine',
    )
    parser.add_argument(
        '--fp16', action='store_true', help='compute convolutions of an ONNX file in float16; the map stays in float32'
    )
    parser.add_argument(
        '--size',
        type=size,
        metavar='WxH',
        help='size of the pictures that an ONNX file takes; needed for networks such as SAFMN, which cannot be '
        'exported for all sizes (default: all sizes)',
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
        raise UserError('--fp16: only for an ONNX file; a file of weights is in float32')
    if args.budget and args.output.suffix != '.onnx':
        raise UserError('--budget: only for an ONNX file; a file of weights contains the whole network')
    if args.size and args.output.suffix != '.onnx':
        raise UserError('--size: only for an ONNX file; a file of weights is for all sizes')
    weights = find_weights(args.weights)
    if args.output.suffix == '.onnx':
        _write_onnx(*weights, args)
    else:
        publish(*weights, args.output)
    return 0


def _write_onnx(weights: Path, given: dict[str, Any], args: argparse.Namespace) -> None:
    """Export, check, and only then write.

    Raises:
        UserError: packages, weights or the place to write are missing, or the export fails its check.
    """
    from iafmsr.files.names import printable
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.nets.agreement import LIMIT, SIZES
    from iafmsr.nets.graph import to_onnx
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.trained import set_budget
    from iafmsr.tools.export.check import engines_for

    trained = load_net(weights, given)
    set_budget(trained.net, args.budget)
    check_writable(args.output)
    say(f'exporting {trained.arch} x{trained.scale}')
    content = to_onnx(trained, args.fp16, args.size)
    one = (args.size.height, args.size.width) if args.size else None
    exported = engines_for(content, args.engine)
    precision = 'float16' if args.fp16 else 'float32'
    differences = _differences(trained, exported, LIMIT[precision], one)
    write_whole(args.output, content)
    sizes = ', '.join(f'{width}x{height}' for *_, height, width in ([one] if one else SIZES))
    found = ', '.join(f'{name} {difference:.1e}' for name, difference in differences.items())
    print(
        f'{printable(args.output)}: {trained.arch} x{trained.scale}, {precision}, {len(content) / 1e6:.2f} MB\n'
        f'largest difference from PyTorch in float32: {found} (limit {LIMIT[precision]:.1e}; {sizes})'
    )


def _differences(
    trained: TrainedNet, exported: Mapping[str, EngineNet], limit: float, one: tuple[int, int] | None
) -> dict[str, float]:
    """The largest difference from PyTorch in each engine, at one size (height, width) or at several.

    Raises:
        UserError: it is above the limit, or the graph does not take the size.
    """
    from iafmsr.nets.agreement import largest_difference

    found = {}
    for name, net in exported.items():
        say(f'comparing the file in {name} with PyTorch')
        try:
            found[name] = largest_difference(trained.net, net, limit, trained.channels, (1, *one) if one else None)
        except UserError as error:
            raise UserError(f'the exported net does not agree with PyTorch in {name}: {error}') from None
        except RuntimeError as error:  # a network that treats small pictures in another way, as RLFN
            way = '' if one else '; --size exports it for pictures of one size'
            reason = str(error).strip().partition('\n')[0]
            raise UserError(f'the exported net does not run at every size in {name}: {reason}{way}') from None
    return found
