"""What an iteration takes at least: arithmetic at the rate of the chip, values at the bandwidth of its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from iafmsr.bridge.basicsr_api import build_network
from iafmsr.nets.arithmetic import has_bf16
from iafmsr.tools.measure.complexity import count
from iafmsr.tools.measure.machine import bandwidth, rate

__all__ = ['Floor', 'floor_of']

_PASSES = 3  # multiply-accumulates of a forward and backward pass over those of a forward pass
_TOUCHES = 5  # a value: written, read; its gradient: written, read; and the value read once more for it


@dataclass(frozen=True)
class Floor:
    """Least milliseconds of an iteration in one precision.

    Attributes:
        precision (str): float32 or bf16.
        gmacs (float): multiply-accumulates of an iteration, in 10^9, and ``gmacs_per_s``, the measured rate of the
            chip in a product of large matrices.
        gbytes (float): what the values that convolutions write move, in 10^9, and ``gbytes_per_s``, the measured rate
            of a large copy.
    """

    precision: str
    gmacs: float
    gmacs_per_s: float
    gbytes: float
    gbytes_per_s: float

    @property
    def arithmetic_ms(self) -> float:
        return 1000 * self.gmacs / self.gmacs_per_s

    @property
    def memory_ms(self) -> float:
        return 1000 * self.gbytes / self.gbytes_per_s

    @property
    def ms(self) -> float:
        """The larger of the two: they can go on at the same time."""
        return max(self.arithmetic_ms, self.memory_ms)


def floor_of(opt: dict[str, Any], device: torch.device) -> list[Floor]:
    """Floors of an iteration of an option file, in float32 and, where the device has arithmetic for it, bf16.

    An iteration takes three times the multiply-accumulates of a forward pass. Every value that a convolution writes is
    touched five times: this is a floor, so that all else (normalisation, products, sums) counts nothing.
    """
    data = opt['datasets']['train']
    size = data['gt_size']
    counted = count(build_network(opt['network_g']), opt['scale'], (size, size))
    batch = data['batch_size_per_gpu']
    gbytes_per_s = bandwidth(device)
    return [
        Floor(
            name,
            _PASSES * batch * counted.macs / 1e9,
            rate(device, dtype),
            _TOUCHES * batch * counted.activations * dtype.itemsize / 1e9,
            gbytes_per_s,
        )
        for name, dtype in (('float32', torch.float32), ('bf16', torch.bfloat16))
        if dtype == torch.float32 or has_bf16(device)
    ]
