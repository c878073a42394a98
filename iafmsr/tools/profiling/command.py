"""Measure what takes time in the sparse convolution and in training.

To time whole networks, use iafmsr benchmark --speed.

  iafmsr profile sparse-conv --size 320x180 --channels 40 --weights IAFMNet_x4 --output sparse.json
  iafmsr profile training -opt options/demo_IAFMNet_x4.yml

The candidates take turns, so that other work on the machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from iafmsr.cli.arguments import Size, add_device, add_weights, number, size, use_device
from iafmsr.errors import UserError
from iafmsr.options.places import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    forms = parser.add_subparsers(metavar='WHAT', required=True)
    for name, (add, measure, summary) in FORMS.items():
        form = forms.add_parser(name, help=summary, description=inspect.cleandoc(add.__doc__ or ''))
        add(form)
        form.set_defaults(measure=measure)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and keep all figures where ``--output`` says.

    Raises:
        UserError: a value is wrong, or the file cannot be written.
    """
    from iafmsr.files.whole import check_writable, write_whole

    output = getattr(args, 'output', None)
    if output:
        check_writable(output)
    figures = args.measure(args)
    if output:
        write_whole(output, figures.encode())
    return 0


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--output', type=Path, metavar='FILE.json', help='file for all figures (default: none)')


def _add_sparse_conv(parser: argparse.ArgumentParser) -> None:
    """Compare the time of each form of the sparse convolution with that of the dense form.

    This finds the share of active sites above which `sparse_backend: auto` should take the dense form.
    """
    add = parser.add_argument
    add(
        '--size',
        nargs='+',
        type=size,
        default=[Size(320, 180), Size(640, 360), Size(1280, 720)],
        metavar='WxH',
        help='sizes of the feature map, one or more',
    )
    add(
        '--channels',
        nargs='+',
        type=number(1),
        default=[32, 40, 64],
        metavar='C',
        help='numbers of channels of the feature map',
    )
    add(
        '--active',
        nargs='+',
        type=_percentage,
        default=[5, 10, 20, 50, 100],
        metavar='PERCENT',
        help='active sites, in percent of the positions',
    )
    add('--seconds', type=float, default=1.0, metavar='N', help='approximate time for each case, in seconds')
    add_weights(parser, 'weights of the network whose map makes the masks', 'an untrained one')
    add_device(parser)
    _add_output(parser)


def _sparse_conv(args: argparse.Namespace) -> str:
    from iafmsr.nets.files import find_weights
    from iafmsr.tools.benchmark.output import as_text
    from iafmsr.tools.benchmark.sparse import as_json, crossovers, measure, tables

    weights, device = find_weights(args.weights) if args.weights else None, use_device(args)
    shares = [percentage / 100 for percentage in args.active]
    timings = list(measure(args.size, args.channels, shares, device, weights, args.seconds))
    print(as_text(tables(timings, device)))
    if device.type == 'cpu':
        for gradient, share in crossovers(timings).items():
            print(
                f'\n{"with" if gradient else "without"} gradients, gather is not slower than dense up to '
                f'{100 * share:g} %'
            )
    return as_json(timings, device, args.command_line)


def _percentage(text: str) -> float:
    try:
        if 0 < float(text) <= 100:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{text}: must be above 0 and at most 100')


def _add_training(parser: argparse.ArgumentParser) -> None:
    """Measure the stages of a training iteration, compared with unchanged BasicSR and with the speed of the processor.

    BasicSR and iafmsr train in turns, on the network, data and batch of an option file. iafmsr does it several times:
    its options for speed are switched on one after the other.
    """
    add = parser.add_argument
    add('-opt', required=True, metavar='FILE.yml', help='option file of the training')
    add('--iters', type=number(1), default=3, metavar='N', help='timed iterations in each turn')
    add(
        '--turns',
        type=number(1),
        default=5,
        metavar='N',
        help='turns of each candidate; use many turns with few iterations on a machine with other work',
    )
    _add_output(parser)


def _training(args: argparse.Namespace) -> str:
    from iafmsr.tools.profiling.profile import profile_training

    profile = profile_training(args.opt, ROOT, args.iters, args.turns)
    print(profile.as_text())
    return profile.as_json()


def _add_loading(parser: argparse.ArgumentParser) -> None:
    """Measure whether the training data of option files are loaded faster than their networks are trained on them."""
    parser.add_argument('-opt', nargs='+', required=True, metavar='FILE.yml', help='option files, one or more')


def _loading(args: argparse.Namespace) -> None:
    from iafmsr.tools.profiling.loading_speed import loading_table

    print(loading_table(args.opt, ROOT))


def _add_overhead(parser: argparse.ArgumentParser) -> None:
    """Measure what exact resume, the handling of signals and the skipping of bad steps cost a training iteration.

    The iteration is compared with BasicSR's own.
    """
    add = parser.add_argument
    add('--num-feat', type=number(1), default=40, metavar='C', help='number of channels (num_feat) of the IAFMNet x4')
    add('--size', type=size, default=Size(64, 64), metavar='WxH', help='size of an LR patch')
    add('--batch', type=number(1), default=4, metavar='N', help='patches in a batch')
    add('--iters', type=number(1), default=20, metavar='N', help='timed iterations of each kind')
    add_device(parser)


def _overhead(args: argparse.Namespace) -> None:
    from iafmsr.tools.profiling.overhead import measure_overhead

    theirs, ours, ratio = measure_overhead(use_device(args).type, args.num_feat, args.size, args.batch, args.iters)
    print(f'BasicSR {1000 * theirs:.1f} ms, iafmsr {1000 * ours:.1f} ms an iteration: {100 * (ratio - 1):+.2f} %')


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    """Test all code for GPUs in under ten minutes: results and speed of the sparse convolution and of networks,
    training compared with unchanged BasicSR, several processes, resuming after a kill, other engines.

    The pictures come from scikit-image. If a part fails, the others are still tested. FILE.md is written in addition to
    FILE.json.
    """
    parser.add_argument('--rehearse', action='store_true', help='run a minimal version of each part, also on a CPU')
    parser.add_argument(
        '--output', type=Path, metavar='FILE.json', default=Path('gpu.json'), help='file for all figures'
    )
    add_device(parser)


def _gpu(args: argparse.Namespace) -> str:
    from tempfile import TemporaryDirectory

    from iafmsr.files.whole import write_whole
    from iafmsr.tools.profiling.gpu import LARGE, SMALL, try_out
    from iafmsr.tools.profiling.reports import as_json, as_markdown

    device = use_device(args)
    if device.type != 'cuda' and not args.rehearse:
        raise UserError('profile gpu: this machine has no CUDA device; --rehearse runs a minimal version on a CPU')
    with TemporaryDirectory() as folder:
        reports = try_out(device, SMALL if args.rehearse else LARGE, Path(folder))
    write_whole(args.output.with_suffix('.md'), as_markdown(reports, device, args.command_line).encode())
    return as_json(reports, device, args.command_line)


FORMS = {
    'sparse-conv': (_add_sparse_conv, _sparse_conv, 'the forms of the sparse convolution, by share of active sites'),
    'training': (_add_training, _training, 'the stages of a training iteration, compared with unchanged BasicSR'),
    'loading': (_add_loading, _loading, 'whether training data load fast enough'),
    'overhead': (
        _add_overhead,
        _overhead,
        'what exact resume, signal handling and the skipping of bad steps cost',
    ),
    'gpu': (_add_gpu, _gpu, 'a test of all code for GPUs'),
}
