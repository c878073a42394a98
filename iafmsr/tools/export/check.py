"""Whether an exported network gives what PyTorch gives, and in which time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.nets.onnx_file import OnnxNet

__all__ = ['LIMIT', 'SIZES', 'Times', 'largest_difference', 'measure_times']

# batch, height, width: the least picture, less than a cell of the attention, whole cells, odd sides, a real one
SIZES = ((1, 1, 1), (2, 7, 5), (1, 16, 24), (3, 33, 47), (1, 90, 160))
LIMIT = {'float32': 1e-4, 'float16': 1 / 255}  # of values in [0, 1]
_PICTURES = 3  # tried at a size


@torch.inference_mode()
def largest_difference(net: nn.Module, exported: OnnxNet, limit: float) -> float:
    """The largest difference of two forms of a net over :data:`SIZES`.

    Where two values of the map lie closer together than rounding is exact, either may become the last active site: a
    size counts as passed when one of three pictures passes.

    Raises:
        UserError: at some size every picture differs by more than the limit.
    """
    largest = 0.0
    for size in SIZES:
        differences = []
        for number in range(_PICTURES):
            lq = _picture(size, exported.channels, number)
            differences.append(float((net(lq) - exported(lq)).abs().max()))
            if differences[-1] <= limit:
                break
        else:
            batch, height, width = size
            raise UserError(
                f'the exported net differs from PyTorch by {min(differences):.1e} '
                f'at {width}x{height} (batch {batch}); {limit:.1e} is the limit'
            )
        largest = max(largest, differences[-1])
    return largest


@dataclass(frozen=True)
class Times:
    """Median milliseconds a picture."""

    pytorch: float
    onnxruntime: float


@torch.inference_mode()
def measure_times(net: nn.Module, exported: OnnxNet, size: tuple[int, int] = (180, 320), pictures: int = 7) -> Times:
    """Both forms by turns on the same pictures, after a warm-up: whatever else the machine does meets both alike."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(-2, pictures):
        lq = _picture((1, *size), exported.channels, number + 2)
        for form, times in zip((net, exported), found, strict=True):
            start = time.perf_counter()
            form(lq)
            if number >= 0:
                times.append(1000 * (time.perf_counter() - start))
    return Times(*map(statistics.median, found))


def _picture(size: tuple[int, int, int], channels: int, seed: int) -> Tensor:
    batch, height, width = size
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))
