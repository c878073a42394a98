"""What the parts of a long list have found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from iafmsr.tools.env import processor

__all__ = ['Report', 'as_json', 'as_markdown']


@dataclass(frozen=True)
class Report:
    """What a part has found, or why it failed, and how long it took."""

    part: str
    seconds: float
    text: str
    figures: Any
    failed: bool = False


def as_markdown(reports: Sequence[Report], device: torch.device, command: str) -> str:
    blocks = [f'# {processor(device)}, torch {torch.__version__}\n\n    {command}']
    for report in reports:
        title = f'## {report.part}{": failed" if report.failed else ""} ({report.seconds:.0f} s)'
        blocks.append(f'{title}\n\n```\n{report.text}\n```')
    return '\n\n'.join(blocks) + '\n'


def as_json(reports: Sequence[Report], device: torch.device, command: str) -> str:
    parts = {report.part: vars(report) for report in reports}
    said = {'command': command, 'device': processor(device), 'torch': torch.__version__, 'parts': parts}
    return json.dumps(said, indent=1)
