"""PSNR and SSIM of networks on benchmark sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from iafmsr.data.parallel import in_order
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.ops.resize import imresize
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec
from iafmsr.tools.benchmark.sets import NIQE_WINDOW, SSIM_WINDOW, Item
from iafmsr.tools.measure.quality import Quality, y_quality

__all__ = ['BICUBIC', 'PLAIN', 'How', 'Scores', 'measure_quality', 'upscale']

BICUBIC = 'bicubic'
_FIGURES = tuple[float, float, dict[str, float]]  # as the cache keeps them

# what stands between pictures and figures, besides a net
_MODULES = (
    __name__,
    'iafmsr.files.reading',
    'iafmsr.files.picture',
    'iafmsr.ops.resize',
    'iafmsr.tools.measure.quality',
)

_Task = tuple[str, Item, list[str]]  # a picture's name, the picture, and the nets that it is still to be measured with
Scores = dict[str, dict[str, dict[str, Quality]]]  # net, set, picture


class How(NamedTuple):
    """How quality is measured.

    Attributes:
        ensemble: the nets' results are means over eight flips and rotations.
        border: pixels that are left out on each side; None: the scale.
        metrics: further ones: ``niqe``, of Y, or of RGB those of :data:`iafmsr.models.metrics.METRICS`.
    """

    ensemble: bool = False
    border: int | None = None
    metrics: tuple[str, ...] = ()


PLAIN = How()


def measure_quality(
    specs: Sequence[NetSpec],
    sets: Mapping[str, Sequence[Item]],
    device: torch.device,
    cache: Cache,
    how: How = PLAIN,
) -> Scores:
    """Upscale every picture by bicubic interpolation and by every net that has weights, and compare with HR.

    What the cache holds is not computed again, and what has been computed is kept whatever ends the run. On the CPU as
    many pictures are under way as torch has threads, each on one of them: that is faster than several threads at one
    picture, and figures do not depend on their number. Memory does not grow with the number of pictures.

    Args:
        specs: nets of one scale.
        sets: the pictures of each set at that scale.
        device: on which the nets run, in float32.
        cache: of results.
        how: it is measured.

    Raises:
        UserError: a picture cannot be read or is too small, a net fails on one, or a metric needs what is not there.
    """
    _check(sets, how)
    subjects = _subjects(specs, device, how)
    todo: list[_Task] = [
        (f'{set_name}/{item.name}', item, missing)
        for set_name, items in sets.items()
        for item in items
        if (missing := [name for name, subject in subjects.items() if cache.get(subject, item.key, _FIGURES) is None])
    ]
    try:
        for item, found in _measured(todo, specs, device, how):
            for net, quality in found.items():
                cache.put(subjects[net], item.key, [float(quality.psnr), float(quality.ssim), quality.others])
    finally:
        cache.save()
    return {net: _known(cache, subject, sets) for net, subject in subjects.items()}


def _check(sets: Mapping[str, Sequence[Item]], how: How) -> None:
    """That metrics and pictures can be measured, before any of them is."""
    if how.metrics:
        from iafmsr.models.metrics import prepare

        for name in how.metrics:
            prepare(name)
    window = NIQE_WINDOW if 'niqe' in how.metrics else SSIM_WINDOW
    for item in (item for items in sets.values() for item in items):
        border, (height, width) = item.scale if how.border is None else how.border, item.size
        if min(height, width) < 2 * border + window:
            raise UserError(
                f'{printable(item.hr)}: {width}x{height} at x{item.scale} is too small: {window} pixels inside a '
                f'border of {border} are needed'
            )


def _subjects(specs: Sequence[NetSpec], device: torch.device, how: How) -> dict[str, str]:
    """Under what the cache keeps the figures of each net."""
    subjects = {BICUBIC: f'{code_digest(*_MODULES)} {BICUBIC} {how}'}
    for spec in (spec for spec in specs if spec.weights):
        subjects[spec.name] = f'{code_digest(*_MODULES, spec.module)} {device.type} {spec.key} {how}'
    return subjects


def _known(cache: Cache, subject: str, sets: Mapping[str, Sequence[Item]]) -> dict[str, dict[str, Quality]]:
    return {
        set_name: {item.name: Quality(*cache.get(subject, item.key, _FIGURES)) for item in items}
        for set_name, items in sets.items()
    }


def _measured(
    todo: Sequence[_Task], specs: Sequence[NetSpec], device: torch.device, how: How
) -> Iterator[tuple[Item, dict[str, Quality]]]:
    """What is still to be done, picture by picture."""
    wanted = {name for _, _, missing in todo for name in missing}
    nets: dict[str, nn.Module | None] = {spec.name: spec.build().to(device) for spec in specs if spec.name in wanted}
    nets[BICUBIC] = None

    def measure(task: _Task) -> dict[str, Quality]:
        name, item, missing = task
        lr, hr = item.load()
        found = {}
        for net in missing:
            sr = upscale(nets[net], lr, hr.shape[-2:], device, f'{net} on {name}', how.ensemble)
            border = item.scale if how.border is None else how.border
            quality = y_quality(sr, hr, border)
            found[net] = replace(quality, others=_others(how.metrics, sr, hr, border))
        return found

    with _single_threaded() as workers:
        results = in_order(measure, todo, workers if device.type == 'cpu' else 1)
        shown = tqdm(results, total=len(todo), unit='picture', disable=None, leave=False)
        for (_, item, _), found in zip(todo, shown, strict=True):
            yield item, found


def _others(metrics: Sequence[str], sr: Tensor, hr: Tensor, border: int) -> dict[str, float]:
    if not metrics:
        return {}
    from iafmsr.models.metrics import distance, niqe

    height, width = hr.shape[-2:]
    pair = [p[None, :, border : height - border, border : width - border].float() / 255 for p in (sr, hr)]
    return {name: niqe(sr, border) if name == 'niqe' else distance(name, *pair) for name in metrics}


def _mean_of_eight(net: nn.Module, lq: Tensor) -> Tensor:
    """The mean of what the net makes of the flips and rotations of a picture."""
    results = []
    for flipped in (False, True):
        for turns in range(4):
            sr = net(torch.rot90(lq.flip(-1) if flipped else lq, turns, (2, 3))).rot90(-turns, (2, 3))
            results.append(sr.flip(-1) if flipped else sr)
    return torch.stack(results).mean(dim=0)


@contextmanager
def _single_threaded() -> Iterator[int]:
    """One thread for each call of torch; gives the number that there were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def upscale(
    net: nn.Module | None, lr: Tensor, size: Sequence[int], device: torch.device, task: str, ensemble: bool = False
) -> Tensor:
    """LR, uint8 (3, h, w), enlarged by a net, or by bicubic interpolation (None), to uint8 (3, *size).

    Raises:
        UserError: the net fails, by memory or by size, or gives another size; ``task`` says at what.
    """
    scale = size[0] // lr.shape[-2]
    if net is None:
        return imresize(lr, scale)
    try:
        lq = lr[None].to(device).float() / 255
        sr = (_mean_of_eight(net, lq) if ensemble else net(lq))[0]
    except RuntimeError as error:
        raise UserError(f'{task} ({lr.shape[-1]}x{lr.shape[-2]}): {str(error).splitlines()[0]}') from None
    if sr.shape[-2:] != torch.Size(size):
        raise UserError(f'{task}: gives {sr.shape[-1]}x{sr.shape[-2]}, not {size[1]}x{size[0]}')
    return (sr.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
