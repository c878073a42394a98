"""Values of command lines, read or refused in a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from iafmsr.errors import UserError


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` in pixels."""
    if not re.fullmatch(r'[1-9]\d{0,4}x[1-9]\d{0,4}', text):
        raise UserError(f'--sizes {text}: WIDTHxHEIGHT is wanted, such as 320x180')
    width, height = map(int, text.split('x'))
    return width, height


def parse_case(text: str) -> tuple[int, tuple[int, int]]:
    """``xSCALE:WIDTHxHEIGHT``: scale, and the size of the input."""
    if not re.fullmatch(r'x[234]:[1-9]\d{0,4}x[1-9]\d{0,4}', text):
        raise UserError(f'--cases {text}: xSCALE:WIDTHxHEIGHT is wanted, such as x4:320x180, with scale 2, 3 or 4')
    scale, _, size = text[1:].partition(':')
    return int(scale), parse_size(size)


def parse_shares(percentages: Sequence[float]) -> list[float]:
    """Percentages in (0, 100] as shares in (0, 1]."""
    for value in percentages:
        if not 0 < value <= 100:
            raise UserError(f'--active {value:g}: above 0 and up to 100 is wanted')
    return [value / 100 for value in percentages]


def parse_device(name: str, threads: int) -> torch.device:
    """``cpu``, with so many threads from now on, or ``cuda``."""
    if name == 'cuda' and not torch.cuda.is_available():
        raise UserError('cuda: this machine has no CUDA device')
    if threads < 1:
        raise UserError(f'--threads {threads}: at least 1 is wanted')
    torch.set_num_threads(threads)
    return torch.device(name)
