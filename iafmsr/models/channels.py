"""The number of channels of a network's pictures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY
from iafmsr.nets.trained import CHANNEL_WORDS

__all__ = ['channels_of']


def channels_of(network: Mapping[str, Any]) -> int | None:
    """Channels of the pictures that a section ``network_g`` takes; None if no keyword of its arch names them."""
    arch = dict(iter(ARCH_REGISTRY)).get(str(network.get('type')))
    parameters = {} if arch is None else inspect.signature(arch).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    found = [{**defaults, **network}[word] for word in CHANNEL_WORDS if word in defaults or word in network]
    return found[0] if found and type(found[0]) is int else None
