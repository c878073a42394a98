"""Runs of a comparison: each trained in a process of its own, measured once, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from iafmsr.ablation.measure import measure
from iafmsr.ablation.tables import map_table, quality_table, robustness_table
from iafmsr.benchmark.sets import BenchmarkSet
from iafmsr.errors import UserError
from iafmsr.files.whole import write_whole
from iafmsr.options.files import load_options

__all__ = ['Run', 'ablate', 'train']


@dataclass(frozen=True)
class Run:
    """One option file under one seed and budget.

    ``name`` is that of its folders; it holds a digest of the options, so that a changed file never goes on from, or
    passes for, a run of what it was before.
    """

    file: Path
    seed: int
    iterations: int

    @cached_property
    def options(self) -> dict[str, Any]:
        return load_options(self.file)

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(self.options, sort_keys=True).encode()).hexdigest()[:8]
        return f'ablation_{self.file.stem}_{digest}_{self.iterations}_seed{self.seed}'

    def weights(self, root: Path) -> Path:
        """Where a finished run has left them."""
        return root / 'experiments' / self.name / 'models/net_g_latest.pth'


def ablate(files: Sequence[Path], iterations: int, seeds: Sequence[int], sets: Sequence[BenchmarkSet], root: Path,
           jobs: int = 1) -> str:
    """Train every file with every seed, measure the nets, and return the tables in Markdown.

    What is finished is not done again, and what was interrupted goes on, as long as options and budget are the same.

    Args:
        files: option files; the first is the one the others are compared with.
        iterations: of each run; the learning rate's schedule is fitted to it.
        seeds: of initial weights and data; differences are paired by seed.
        sets: benchmark sets.
        root: repository root.
        jobs: runs at a time, each with its share of the cores.

    Raises:
        UserError: a file cannot be read, two have one name, or a training failed.
    """
    if len({file.stem for file in files}) < len(files):
        raise UserError('two option files have one name')
    runs = [Run(file, seed, iterations) for file in files for seed in seeds]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(tqdm(pool.map(lambda run: _result(run, sets, root, jobs), runs), total=len(runs), unit='run'))
    by_file = {file.stem: [r for run, r in zip(runs, results, strict=True) if run.file == file] for file in files}
    return '\n\n'.join([
        f'{iterations:,} iterations, seeds {", ".join(map(str, seeds))}.', quality_table(by_file),
        map_table(by_file), robustness_table(by_file)])


def _result(run: Run, sets: Sequence[BenchmarkSet], root: Path, jobs: int) -> dict[str, Any]:
    stored = root / 'results/ablation' / f'{run.name}.json'
    names = [s.name for s in sets]
    if stored.exists():
        result = json.loads(stored.read_text(encoding='utf-8'))
        if result['sets'] == names and 'robustness' in result:
            return result
    train(run, root, jobs)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    result = {'sets': names, 'it/s': _speed(run, root), **measure(run.options, run.weights(root), sets)}
    write_whole(stored, json.dumps(result, indent=1).encode())
    return result


def train(run: Run, root: Path, jobs: int) -> None:
    """Train in a process of its own, or go on with it; its output goes to ``results/ablation/NAME.log``."""
    log = root / 'results/ablation' / f'{run.name}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(root / 'iafmsr/train.py'), '-opt', str(run.file), '--auto_resume', '--force_yml',
               f'name={run.name}', f'manual_seed={run.seed}', f'train:total_iter={run.iterations}',
               f'train:scheduler:periods=[{run.iterations}]',
               f'logger:print_freq={max(1, min(100, run.iterations // 10))}']
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with open(log, 'a', encoding='utf-8') as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=root,
                              env={'OMP_NUM_THREADS': threads, **os.environ}).returncode
    if code:
        raise UserError(f'{run.file}: the training ended with code {code}; its output: {log}')


def _speed(run: Run, root: Path) -> float:
    """Iterations a second, the median of what the training logged."""
    log = (root / 'results/ablation' / f'{run.name}.log').read_text(encoding='utf-8')
    return 1 / statistics.median(float(t) for t in re.findall(r'time \(data\): ([\d.]+)', log))
