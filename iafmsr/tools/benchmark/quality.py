"""PSNR and SSIM of networks on benchmark sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from tqdm import tqdm

from iafmsr.data.parallel import in_order
from iafmsr.errors import UserError
from iafmsr.ops.resize import imresize
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec
from iafmsr.tools.benchmark.sets import Item
from iafmsr.tools.measure.quality import Quality, y_quality

__all__ = ['BICUBIC', 'Scores', 'measure_quality', 'upscale']

BICUBIC = 'bicubic'
_FIGURES = tuple[float, float]  # PSNR and SSIM, as the cache keeps them

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


def measure_quality(
    specs: Sequence[NetSpec], sets: Mapping[str, Sequence[Item]], device: torch.device, cache: Cache
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

    Raises:
        UserError: a picture cannot be read, or a net fails on one.
    """
    subjects = {BICUBIC: f'{code_digest(*_MODULES)} {BICUBIC}'} | {
        spec.name: f'{code_digest(*_MODULES, spec.module)} {device.type} {spec.key}' for spec in specs if spec.weights
    }
    todo: list[_Task] = [
        (f'{set_name}/{item.name}', item, missing)
        for set_name, items in sets.items()
        for item in items
        if (missing := [name for name, subject in subjects.items() if cache.get(subject, item.key, _FIGURES) is None])
    ]
    try:
        for item, found in _measured(todo, specs, device):
            for net, quality in found.items():
                cache.put(subjects[net], item.key, [float(quality.psnr), float(quality.ssim)])
    finally:
        cache.save()
    return {
        net: {
            set_name: {item.name: Quality(*cache.get(subject, item.key, _FIGURES)) for item in items}
            for set_name, items in sets.items()
        }
        for net, subject in subjects.items()
    }


def _measured(
    todo: Sequence[_Task], specs: Sequence[NetSpec], device: torch.device
) -> Iterator[tuple[Item, dict[str, Quality]]]:
    """What is still to be done, picture by picture."""
    wanted = {name for _, _, missing in todo for name in missing}
    nets: dict[str, nn.Module | None] = {spec.name: spec.build().to(device) for spec in specs if spec.name in wanted}
    nets[BICUBIC] = None

    def measure(task: _Task) -> dict[str, Quality]:
        name, item, missing = task
        lr, hr = item.load()
        return {
            net: y_quality(upscale(nets[net], lr, hr.shape[-2:], device, f'{net} on {name}'), hr, item.scale)
            for net in missing
        }

    with _single_threaded() as workers:
        results = in_order(measure, todo, workers if device.type == 'cpu' else 1)
        shown = tqdm(results, total=len(todo), unit='picture', disable=None, leave=False)
        for (_, item, _), found in zip(todo, shown, strict=True):
            yield item, found


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
def upscale(net: nn.Module | None, lr: Tensor, size: Sequence[int], device: torch.device, task: str) -> Tensor:
    """LR, uint8 (3, h, w), enlarged by a net, or by bicubic interpolation (None), to uint8 (3, *size).

    Raises:
        UserError: the net fails, by memory or by size, or gives another size; ``task`` says at what.
    """
    scale = size[0] // lr.shape[-2]
    if net is None:
        return imresize(lr, scale)
    try:
        sr = net(lr[None].to(device).float() / 255)[0]
    except RuntimeError as error:
        raise UserError(f'{task} ({lr.shape[-1]}x{lr.shape[-2]}): {str(error).splitlines()[0]}') from None
    if sr.shape[-2:] != torch.Size(size):
        raise UserError(f'{task}: gives {sr.shape[-1]}x{sr.shape[-2]}, not {size[1]}x{size[0]}')
    return (sr.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
