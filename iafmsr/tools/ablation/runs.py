"""Runs of a comparison: each trained in a process of its own, measured once, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from iafmsr.errors import UserError
from iafmsr.files.whole import write_whole
from iafmsr.tools.ablation.measure import measure
from iafmsr.tools.ablation.named import options_of
from iafmsr.tools.ablation.tables import map_table, quality_table, robustness_table
from iafmsr.tools.benchmark.sets import BenchmarkSet

__all__ = ['Run', 'ablate', 'report', 'train']


@dataclass(frozen=True)
class Run:
    """Options under one seed and budget.

    ``name`` is that of its folders; it holds a digest of the options, so that changed options never go on from, or pass
    for, a run of what they were before.

    Attributes:
        label: what tables call the options.
        options: whole, as an option file holds them.
        seed: of initial weights and data.
        iterations: of the training.
    """

    label: str
    options: dict[str, Any]
    seed: int
    iterations: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.options, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        return f'ablation_{self.label}_{self.digest}_{self.iterations}_seed{self.seed}'

    def weights(self, root: Path) -> Path:
        """Where a finished run has left them."""
        return root / 'experiments' / self.name / 'models/net_g_latest.pth'


def ablate(
    entries: Sequence[str],
    iterations: int,
    seeds: Sequence[int],
    sets: Sequence[BenchmarkSet],
    root: Path,
    jobs: int = 1,
) -> dict[str, dict[str, Any]]:
    """Train all options with every seed, measure the nets, and return the results by the names of the runs.

    What is finished is not done again, and what was interrupted goes on, as long as options and budget are the same.

    Args:
        entries: option files, or names of ``options/ablation.yml``; the others are compared with the first.
        iterations: of each run; the learning rate's schedule is fitted to it.
        seeds: of initial weights and data; differences are paired by seed.
        sets: benchmark sets.
        root: repository root.
        jobs: runs at a time, each with its share of the cores.

    Raises:
        UserError: options cannot be read, two have one name, or a training failed.
    """
    found = [options_of(entry) for entry in entries]
    labels = [label for label, _ in found]
    if len(set(labels)) < len(labels):
        raise UserError(f'two entries have the same name: {", ".join(sorted(entries))}')
    runs = [Run(label, options, seed, iterations) for label, options in found for seed in seeds]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(tqdm(pool.map(lambda run: _result(run, sets, root, jobs), runs), total=len(runs), unit='run'))
    return {run.name: result for run, result in zip(runs, results, strict=True)}


def report(results: Iterable[dict[str, Any]]) -> str:
    """The tables of a comparison in Markdown; the first result's options are the reference."""
    by_label: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_label.setdefault(result['label'], []).append(result)
    return '\n\n'.join([quality_table(by_label, speed=True), map_table(by_label), robustness_table(by_label)])


def _result(run: Run, sets: Sequence[BenchmarkSet], root: Path, jobs: int) -> dict[str, Any]:
    stored = root / 'results/ablation' / f'{run.name}.json'
    with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged result is none
        result = json.loads(stored.read_bytes())
        if list(result['psnr']) == [s.name for s in sets] and 'robustness' in result:
            return result
    train(run, root, jobs)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    result = {
        'label': run.label,
        'digest': run.digest,
        'iterations': run.iterations,
        'seed': run.seed,
        'it/s': _speed(run, root),
        **measure(run.options, run.weights(root), sets),
    }
    write_whole(stored, json.dumps(result, indent=1).encode())
    return result


def train(run: Run, root: Path, jobs: int) -> None:
    """Train in a process of its own, or go on with it. Options and output: ``results/ablation/NAME.yml``, ``.log``."""
    options, log = (root / 'results/ablation' / f'{run.name}.{kind}' for kind in ('yml', 'log'))
    write_whole(options, yaml.safe_dump(run.options, sort_keys=False, allow_unicode=True).encode())
    command = [
        sys.executable,
        str(root / 'iafmsr/train.py'),
        '-opt',
        str(options),
        '--auto_resume',
        '--force_yml',
        f'name={run.name}',
        f'manual_seed={run.seed}',
        f'train:total_iter={run.iterations}',
        f'train:scheduler:periods=[{run.iterations}]',
        f'logger:print_freq={max(1, min(100, run.iterations // 10))}',
    ]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with open(log, 'a', encoding='utf-8') as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=root, env={'OMP_NUM_THREADS': threads, **os.environ}
        ).returncode
    if code:
        raise UserError(f'{run.label}: the training ended with code {code}; its output: {log}')


def _speed(run: Run, root: Path) -> float:
    """Iterations a second, the median of what the training logged."""
    log = (root / 'results/ablation' / f'{run.name}.log').read_text(encoding='utf-8')
    return 1 / statistics.median(float(t) for t in re.findall(r'time \(data\): ([\d.]+)', log))
