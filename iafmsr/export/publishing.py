"""Weights of a run as the folder ``weights/`` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from iafmsr import archs
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.building import build_with_weights
from iafmsr.nets.description import describe
from iafmsr.training.checkpoints import save_whole

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
        raise UserError(f'{printable(source)}: it does not say of which network it is')
    weights = build_with_weights(printable(source), options, source).float().state_dict()
    arch = getattr(archs, options['type'], None)
    keywords = signature(arch).parameters.values() if arch else ()
    defaults = {keyword.name: keyword.default for keyword in keywords if keyword.default is not keyword.empty}
    network = {name: value for name, value in {**defaults, **options}.items() if name != 'sparse_backend'}
    try:
        save_whole({'params': weights, 'network_g': network}, target)
    except OSError as error:
        raise UserError(f'{printable(target)}: {error.strerror}') from None
