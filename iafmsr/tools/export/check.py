"""What an exported network is checked for: the same pictures in each engine, and the time that it takes there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from torch import nn

from iafmsr.errors import UserError
from iafmsr.nets.engines import EngineNet, engine_net, refusal

__all__ = ['engines_for', 'measure_times']


def engines_for(content: bytes, engine: str) -> dict[str, EngineNet]:
    """A graph in the engine that is named, or for ``auto`` in each that is installed.

    Raises:
        UserError: there is none, or it does not take the graph.
    """
    names = ['onnxruntime', 'openvino']
    if engine != 'auto':
        names = [engine]
    elif refusal(names[0]) is None or refusal(names[1]) is None:
        names = [name for name in names if refusal(name) is None]
    try:
        return {name: engine_net(content, name) for name in names}
    except UserError as error:
        raise UserError(f'the exported net cannot be checked: {error}') from None


@torch.inference_mode()
def measure_times(
    forms: Mapping[str, nn.Module], channels: int = 3, size: tuple[int, int] = (180, 320), pictures: int = 7
) -> dict[str, float]:
    """Median milliseconds of forms of a net on the same pictures, by turns, after a warm-up: whatever else the machine
    does meets all alike."""
    found: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(-2, pictures):
        lq = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(number + 2))
        for name, form in forms.items():
            start = time.perf_counter()
            form(lq)
            if number >= 0:
                found[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in found.items()}
