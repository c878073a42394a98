"""Pictures of as many channels as a network takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY
from iafmsr.nets.trained import CHANNEL_WORDS

__all__ = ['channels_of', 'to_gray']

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R BT.601


def channels_of(network: Mapping[str, Any]) -> int | None:
    """Channels of the pictures that a section ``network_g`` takes; None where no keyword of its arch says so."""
    arch = dict(iter(ARCH_REGISTRY)).get(str(network.get('type')))
    parameters = {} if arch is None else inspect.signature(arch).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    found = [{**defaults, **network}[word] for word in CHANNEL_WORDS if word in defaults or word in network]
    return found[0] if found and type(found[0]) is int else None


def to_gray(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), of the same range: black stays 0 and white stays 1."""
    return (pictures * pictures.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
