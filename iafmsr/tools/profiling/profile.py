"""The profile of a training by an option file, beside stock BasicSR's and beside what the chip could do."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from iafmsr.tools.benchmark.alone import Alone
from iafmsr.tools.env import processor
from iafmsr.tools.profiling.contestants import contestants_of
from iafmsr.tools.profiling.floor import Floor, floor_of
from iafmsr.tools.profiling.runner import STAGES, Runner, runners_of
from iafmsr.training.options import options_of_training

__all__ = ['Profile', 'Row', 'profile_training']


@dataclass(frozen=True)
class Row:
    """One contestant: milliseconds of an iteration and of its stages, peak memory in MiB (not known where compiled
    code runs on a CPU), and the floor's share of the iteration, in its own precision."""

    name: str
    ms: float
    stages_ms: dict[str, float]
    peak_mib: float | None
    floor_share: float


@dataclass(frozen=True)
class Profile:
    """What :func:`profile_training` has found; ``rows`` begin with stock BasicSR."""

    options: str
    device: str
    batch: str
    turns: int
    iterations: int
    rows: list[Row]
    floors: list[Floor]

    def as_json(self) -> str:
        """All figures."""
        stock = self.rows[0].ms
        rows = [asdict(row) | {'it_per_s': 1000 / row.ms, 'times_stock': stock / row.ms} for row in self.rows]
        floors = [
            asdict(floor) | {'arithmetic_ms': floor.arithmetic_ms, 'memory_ms': floor.memory_ms}
            for floor in self.floors
        ]
        return json.dumps(asdict(self) | {'rows': rows, 'floors': floors}, indent=2)

    def as_text(self) -> str:
        """A Markdown table and what the chip could do."""
        lines = [
            f'{self.options}: {self.batch}; {self.device}; medians of {self.turns} turns, {self.iterations} '
            'iterations each',
            '',
            '| | it/s | speed / BasicSR | ms | ' + ' | '.join(STAGES) + ' | peak MiB | floor |',
            '|---|' + '---:|' * (len(STAGES) + 5),
        ]
        for row in self.rows:
            stages = [f'{row.stages_ms[stage]:.1f}' for stage in STAGES]
            stages[0] += f' ({100 * row.stages_ms["data wait"] / row.ms:.1f} %)'
            peak = '' if row.peak_mib is None else f'{row.peak_mib:.0f}'
            lines.append(
                f'| {row.name} | {1000 / row.ms:.2f} | {self.rows[0].ms / row.ms:.2f} | {row.ms:.0f} | '
                f'{" | ".join(stages)} | {peak} | {100 * row.floor_share:.0f} % |'
            )
        lines += [
            '',
            *(
                f'Floor in {f.precision}: {f.gmacs:.2f} GMACs at {f.gmacs_per_s:.0f} a second take '
                f'{f.arithmetic_ms:.1f} ms; {f.gbytes:.2f} GB at {f.gbytes_per_s:.1f} a second '
                f'{f.memory_ms:.1f} ms'
                for f in self.floors
            ),
        ]
        return '\n'.join(lines)


def profile_training(file: str, root: Path, iterations: int = 3, turns: int = 5) -> Profile:
    """Train by turns: stock BasicSR, and ours with one switch after the other.

    Those that keep freed memory, as ours does, have a process to themselves, the others another one.

    Args:
        file: option file for training.
        root: repository root, from which its paths count.
        iterations: timed ones in each turn.
        turns: of each contestant; many short ones where other work comes and goes.

    Raises:
        UserError: the option file has faults.
    """
    opt = options_of_training(file, root)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    contestants = contestants_of(opt, device.type == 'cuda')
    floors = floor_of(opt, device)
    with ExitStack() as stack:
        processes = {}
        for keeps in (False, True):  # freed memory is kept by a process as a whole
            alike = {name: each for name, each in contestants.items() if each.keeps_memory == keeps}
            processes[keeps] = stack.enter_context(Alone('the training', runners_of, alike))
        for _ in range(turns):
            for name, contestant in contestants.items():
                processes[contestant.keeps_memory].ask(_turn, name, iterations)
        rows = [processes[contestant.keeps_memory].ask(_row, name, floors) for name, contestant in contestants.items()]
    data = opt['datasets']['train']
    side = data['gt_size'] // opt['scale']
    return Profile(
        Path(file).stem,
        processor(device),
        f'{data["batch_size_per_gpu"]} of {side}x{side} LR, x{opt["scale"]}',
        turns,
        iterations,
        rows,
        floors,
    )


def _turn(runners: dict[str, Runner], name: str, iterations: int) -> None:
    runners[name].turn(iterations)


def _row(runners: dict[str, Runner], name: str, floors: list[Floor]) -> Row:
    runner = runners[name]
    seconds, stages = runner.medians()
    floor = floors[getattr(runner.model, 'precision', None) is not None]
    return Row(
        name + (' (not possible: not compiled)' if runner.refused else ''),
        1000 * seconds,
        {stage: 1000 * value for stage, value in stages.items()},
        runner.peak_mib,
        floor.ms / (1000 * seconds),
    )
