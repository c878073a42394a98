"""What the arguments of all commands have in common: names, kinds of values, help texts, errors.

Nothing here imports torch before a command runs: help has to appear at once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from iafmsr.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = [
    'Parser',
    'Size',
    'add_device',
    'add_engine',
    'add_sets',
    'add_weights',
    'first_time',
    'number',
    'size',
    'use_device',
]


class _Help(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of an option after its help."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if action.help is None or action.nargs == 0 or default is None or default is argparse.SUPPRESS:
            return action.help
        shown = (' '.join(map(str, default)) or 'none') if isinstance(default, list) else default
        return f'{action.help} (default: {shown})'


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, with the nearest known word for a misspelt one."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(formatter_class=_Help, **keywords)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f'{value}: must be one of {", ".join(known)}{did_you_mean(value, known)}'
            )

    def error(self, message: str) -> NoReturn:
        """Raises:
        UserError: always.
        """
        message = re.sub(r'^argument (\S+): ', r'\1 ', message)
        if unknown := re.match(r'unrecognized arguments: (-\S+)', message):
            message += did_you_mean(unknown[1], self._option_string_actions)
        raise UserError(message)


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f'{self.width}x{self.height}'


def size(text: str) -> Size:
    """Read ``WIDTHxHEIGHT``."""
    if not re.fullmatch(r'[1-9]\d{0,4}x[1-9]\d{0,4}', text):
        raise argparse.ArgumentTypeError(f'{text}: must be WIDTHxHEIGHT, such as 320x180')
    return Size(*map(int, text.split('x')))


def exact_scale(text: str) -> Fraction:
    """A reader of a scale such as 2.5 or 7/3: the fraction that is meant."""
    with suppress(ValueError, ZeroDivisionError):
        scale = Fraction(text)
        if 0 < scale <= 16 and scale.denominator <= 100:
            return scale
    raise argparse.ArgumentTypeError(
        f'{text}: must be a scale in (0, 16], with at most two decimals, or a fraction such as 7/3'
    )


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if least <= int(text) and (most is None or int(text) <= most):
                return int(text)
        upper = '' if most is None else f' to {most}'
        raise argparse.ArgumentTypeError(f'{text}: must be a whole number from {least}{upper}')

    return read


def _budget(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f'{text}: must be above 0 and at most 1')


def add_budget(parser: argparse.ArgumentParser) -> None:
    """``--budget``, for :func:`iafmsr.nets.trained.set_budget`."""
    parser.add_argument(
        '--budget',
        type=_budget,
        metavar='B',
        help='only for networks trained with num_routed (the weights that come with iafmsr are not): share of the '
        'positions at which the last blocks work, such as 0.4. It is a mean over the training pictures: a flat '
        'picture needs less, a detailed picture more (default: 1, all positions)',
    )


def add_weights(
    parser: argparse.ArgumentParser, what: str = 'weights of the network', default: str | None = None
) -> None:
    """``--weights``, for :func:`iafmsr.nets.files.find_weights`; required, unless its help names a default."""
    parser.add_argument(
        '--weights',
        metavar='FILE',
        required=default is None,
        help=f"{what}: a file of weights, a run's folder (its latest weights), an option file that names some, or a "
        'known name (iafmsr weights lists them); FILE:key=value,... adds keywords of the network that the file does '
        f'not have{f" (default: {default})" if default else ""}',
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--threads``, for :func:`use_device`."""
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda', 'mps'),
        help='device that computes the networks; mps is the GPU of a Mac (default: cuda if available, else cpu)',
    )
    parser.add_argument(
        '--threads',
        type=number(1),
        metavar='N',
        help='number of CPU threads for the network (default: $OMP_NUM_THREADS, else one for each core)',
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--engine``, for :func:`iafmsr.nets.in_engine.in_engine`."""
    parser.add_argument(
        '--engine',
        choices=('auto', 'torch', 'openvino', 'onnxruntime'),
        help='library that computes the network; auto: OpenVINO on a CPU if it is installed and gives the same '
        'picture, '
        'else PyTorch. The first call with OpenVINO or onnxruntime prepares the network, which takes 20 seconds or '
        'more (default: $IAFMSR_ENGINE, else auto)',
    )


def first_time(say: Callable[[str], None]) -> Callable[[str], None]:
    """The ``begins`` of :func:`iafmsr.nets.in_engine.in_engine`, for a command of :func:`add_engine`."""
    return lambda line: say(f'{line}; --engine torch avoids it')


def use_device(args: argparse.Namespace) -> torch.device:
    """The device that the arguments of :func:`add_device` name; PyTorch has their number of threads from now on.

    Raises:
        UserError: this machine has no such device.
    """
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this machine has no CUDA device')
    if args.device == 'mps' and not torch.backends.mps.is_available():
        raise UserError('--device mps: this machine has no such GPU')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))


def add_sets(parser: argparse.ArgumentParser, default: list[str] | None = None) -> None:
    """``--data`` and ``--sets``, for :mod:`iafmsr.tools.benchmark.sets`."""
    parser.add_argument(
        '--data',
        metavar='DIR',
        help='folder of the benchmark sets: DIR/Set5/HR, DIR/Set5/LR_bicubic/X4 ...; missing LR is made from HR '
        '(default: $IAFMSR_DATA/benchmarks, else datasets/benchmarks)',
    )
    everything = '' if default else '; --sets without a name: no set (default: all in the folder)'
    parser.add_argument(
        '--sets',
        nargs='+' if default else '*',
        metavar='SET',
        default=default,
        help=f'names of the benchmark sets{everything}',
    )
