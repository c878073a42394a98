"""Ablation runs: option files trained under one budget, data and seed list, and compared in one table."""

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
from PIL import Image
from torch import nn
from tqdm import tqdm

from iafmsr.benchmark.files import write_whole
from iafmsr.benchmark.nets import NetSpec
from iafmsr.benchmark.sets import BenchmarkSet
from iafmsr.errors import UserError
from iafmsr.utils.complexity import count
from iafmsr.utils.figures import colour_panel, draw_figure, image_panel
from iafmsr.utils.map_quality import error_maps, fixed_maps, rank_correlation, share_inside
from iafmsr.utils.options import load_options
from iafmsr.utils.quality import y_quality

_FIGURE_HEIGHT = 240  # pixels of a panel
K = 0.05  # share of the positions at which a map's squared error is summed


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
        map_table(by_file)])


def _result(run: Run, sets: Sequence[BenchmarkSet], root: Path, jobs: int) -> dict[str, Any]:
    stored = root / 'results/ablation' / f'{run.name}.json'
    names = [s.name for s in sets]
    if stored.exists():
        result = json.loads(stored.read_text(encoding='utf-8'))
        if result['sets'] == names:
            return result
    train(run, root, jobs)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    result = {'sets': names, 'it/s': _speed(run, root), **measure(run.options, _weights(run, root), sets)}
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


def _weights(run: Run, root: Path) -> Path:
    return root / 'experiments' / run.name / 'models/net_g_latest.pth'


def _speed(run: Run, root: Path) -> float:
    """Iterations a second, the median of what the training logged."""
    log = (root / 'results/ablation' / f'{run.name}.log').read_text(encoding='utf-8')
    return 1 / statistics.median(float(t) for t in re.findall(r'time \(data\): ([\d.]+)', log))


def _network(opt: dict[str, Any], weights: Path) -> nn.Module:
    param_key = 'params_ema' if opt['train'].get('ema_decay') else 'params'
    return NetSpec(weights.parent.parent.name, opt['scale'], opt['network_g'], weights, param_key).build()


@torch.no_grad()
def measure(opt: dict[str, Any], weights: Path, sets: Sequence[BenchmarkSet]) -> dict[str, Any]:
    """PSNR and SSIM of a net on each set, and how well its map, and the fixed ones, follow its own error."""
    net = _network(opt, weights)
    has_density = opt.get('train', {}).get('ie_opt') is not None
    figures: dict[str, Any] = {'psnr': {}, 'ssim': {}, 'maps': {}}
    for benchmark_set in sets:
        qualities, maps = [], {}
        for item in benchmark_set.items(opt['scale']):
            lr, hr = item.load()
            lq = lr[None].float() / 255
            sr, density = net(lq, return_density=True) if has_density else (net(lq), None)
            picture = (sr.clamp(0, 1) * 255).round()
            qualities.append(y_quality(picture[0].to(torch.uint8), hr, opt['scale']))
            absolute, squared = error_maps(picture / 255, hr[None].float() / 255, opt['scale'])
            learned = {'map': density.idm} if density else {}
            for name, value in {**learned, **fixed_maps(lq)}.items():
                maps.setdefault(name, []).append((rank_correlation(value, absolute), share_inside(value, squared, K)))
        figures['psnr'][benchmark_set.name] = statistics.fmean(q.psnr for q in qualities)
        figures['ssim'][benchmark_set.name] = statistics.fmean(q.ssim for q in qualities)
        figures['maps'][benchmark_set.name] = {
            name: [statistics.fmean(values) for values in zip(*pairs, strict=True)] for name, pairs in maps.items()}
    size = count(net, opt['scale'])
    return {**figures, 'params': size.params, 'macs': size.macs}


def _mean(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.{digits}f}{spread}'


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
    """Mean of the differences, paired by seed, and its standard error; under twice that it is a tie."""
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return f'{mean:+.3f} (one seed)'
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f'{mean:+.3f} ± {error:.3f}' + (' (tie)' if abs(mean) < 2 * error else '')


def quality_table(by_file: dict[str, list[dict[str, Any]]]) -> str:
    """PSNR / SSIM for each set, and the difference of the mean PSNR over the sets from the first file's."""
    first = next(iter(by_file.values()))
    names = list(first[0]['psnr'])
    rows = [f'| options | params | GMACs | it/s | {" | ".join(names)} | mean of the sets | difference |',
            '|---' * (len(names) + 6) + '|']

    def means(results: list[dict[str, Any]]) -> list[float]:
        return [statistics.fmean(r['psnr'].values()) for r in results]

    for stem, results in by_file.items():
        sets = [f'{_mean([r["psnr"][n] for r in results], 2)} / {statistics.fmean(r["ssim"][n] for r in results):.4f}'
                for n in names]
        rows.append(f'| {stem} | {results[0]["params"]:,} | {results[0]["macs"] / 1e9:.2f} '
                    f'| {statistics.fmean(r["it/s"] for r in results):.2f} | {" | ".join(sets)} '
                    f'| {_mean(means(results), 3)} '
                    f'| {"" if results is first else difference(means(results), means(first))} |')
    return '\n'.join(rows)


def map_table(by_file: dict[str, list[dict[str, Any]]]) -> str:
    """Rank correlation with the error / share of the squared error in the top 5 %, of each net's map by its own error;
    below, the fixed filters by the first net's."""
    first = next(iter(by_file.values()))
    names = list(first[0]['maps'])
    rows = [f'| map | {" | ".join(names)} |', '|---' * (len(names) + 1) + '|']

    def row(title: str, results: list[dict[str, Any]], name: str) -> str:
        cells = [' / '.join(_mean([r['maps'][n][name][i] for r in results], 3) for i in (0, 1)) for n in names]
        return f'| {title} | {" | ".join(cells)} |'

    rows += [row(stem, results, 'map') for stem, results in by_file.items() if 'map' in results[0]['maps'][names[0]]]
    rows += [row(name, first, name) for name in first[0]['maps'][names[0]] if name != 'map']
    return '\n'.join(rows)


@torch.no_grad()
def draw_maps(run: Run, sets: Sequence[BenchmarkSet], pictures: Sequence[str], root: Path) -> Image.Image:
    """The map of a finished run's net beside its error and the fixed filters, a row a picture.

    Args:
        run: whose net has a density.
        sets: that hold the pictures.
        pictures: each ``SET/NAME``.
        root: repository root.

    Raises:
        UserError: no such picture.
    """
    scale = run.options['scale']
    net = _network(run.options, _weights(run, root))
    items = {f'{s.name}/{item.name}': item for s in sets for item in s.items(scale)}
    rows = []
    for name in pictures:
        if name not in items:
            raise UserError(f'{name}: no such picture, only {", ".join(items)}')
        lr, hr = items[name].load()
        lq = lr[None].float() / 255
        sr, density = net(lq, return_density=True)
        absolute, _ = error_maps(sr.clamp(0, 1), hr[None].float() / 255, scale)
        fixed = fixed_maps(lq)
        maps = {'error': absolute, 'IDM': density.idm, 'Sobel': fixed['sobel'], 'Laplacian': fixed['laplacian']}
        height, width = (_FIGURE_HEIGHT, round(_FIGURE_HEIGHT * hr.shape[-1] / hr.shape[-2]))
        shown = image_panel(f'{name}\n', hr)
        shown.image.thumbnail((width, height))
        rows.append([shown] + [
            colour_panel(f'{title}\n' + ('' if value is absolute else f'{rank_correlation(value, absolute):.2f}'),
                         value[0, 0], height, width) for title, value in maps.items()])
    return draw_figure(rows, 'error: |HR - SR| of Y, mean over the pixels of one LR pixel.\n'
                             'Below the name of a map: its rank correlation with the error.')
