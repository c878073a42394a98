"""Weights of a run as the folder ``weights/`` holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.files.whole import replace_file
from iafmsr.nets.building import build_with_weights
from iafmsr.nets.checkpoints import save_whole
from iafmsr.nets.description import describe

__all__ = ['publish']


def publish(source: Path, given: Mapping[str, Any], target: Path) -> None:
    """Write one state dict in float32, and the network's options.

    Of a file with averaged weights those are taken. They lie under ``params``, where BasicSR looks for them. Options
    that were left at their defaults are written out: the weights outlive a change of those.

    Args:
        source: file of weights.
        given: ``type`` and keywords of the arch that the file does not say.
        target: file to be written.

    Raises:
        UserError: the source is no file of weights, does not say of which network, or the target cannot be written.
    """
    options = describe(source, given).network
    if options == {'type': 'Spandrel'}:
        raise UserError(f'{printable(source)}: it does not say which network its weights belong to')
    net = build_with_weights(printable(source), options, source).float()
    ours = type(net).__module__.startswith('iafmsr.')
    keywords = signature(type(net).__init__).parameters.values() if ours else ()
    defaults = {keyword.name: keyword.default for keyword in keywords if keyword.default is not keyword.empty}
    network = {name: value for name, value in {**defaults, **options}.items() if name != 'sparse_backend'}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == '.safetensors':
            replace_file(target, _safetensors(net.state_dict(), network))
        else:
            save_whole({'params': net.state_dict(), 'network_g': network}, target)
    except OSError as error:
        raise UserError(f'{printable(target)}: {error.strerror}') from None


def _safetensors(weights: Mapping[str, Tensor], network: Mapping[str, Any]) -> bytes:
    """Raises:
    UserError: the package is missing.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise UserError("safetensors is not installed; install the extra 'hub'") from None
    own = {name: value.contiguous() for name, value in weights.items()}
    return save(own, {'format': 'pt', 'network_g': json.dumps(network)})
