"""The networks of a benchmark: what a command line names.

``NAME[=FILE][:key=value,...]`` or ``FILE[:key=value,...]``, where

* FILE is a file of weights (``.pth``), an option file (``.yml``) or a file of the project's ``weights/``, with its
  ending or without; ``{scale}`` in it stands for the scale;
* the keys are the arch's own, and ``type``, its name in the registry;
* what they leave open is found as everywhere, see :func:`iafmsr.nets.description.describe`; NAME, when it is an arch's,
  counts as its type where the file says nothing;
* without weights a net is counted and timed, not measured.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY
from iafmsr.errors import UserError, did_you_mean
from iafmsr.nets.building import build, build_with_weights
from iafmsr.nets.description import Described, describe
from iafmsr.nets.files import find, parse_keys
from iafmsr.nets.trained import in_rgb

__all__ = ['NetSpec', 'parse_nets']

_SCALE_WORDS = ('scale', 'upscale', 'up_scale', 'upscaling_factor')
# keywords that several archs of BasicSR want without a default
_CHANNELS = {'num_in_ch': 3, 'num_out_ch': 3}


@dataclass(frozen=True)
class NetSpec:
    """A network at one scale.

    Attributes:
        name (str): what tables call it.
        scale (int): its scale.
        network (dict): ``type`` and keywords, as ``network_g`` of an option file.
        weights (Path | None): None for an untrained net.
        param_key (str | None): state dict within the file of weights; None: the averaged one, or else what it holds.
    """

    name: str
    scale: int
    network: dict[str, Any]
    weights: Path | None = None
    param_key: str | None = None

    @cached_property
    def key(self) -> str:
        """A digest of what the net computes: arch, keywords and weights; not of its name or the place of a file."""
        digest = hashlib.sha256(json.dumps([self.scale, self.network, self.param_key], sort_keys=True).encode())
        if self.weights:
            digest.update(self.weights.read_bytes())
        return digest.hexdigest()

    @property
    def module(self) -> str:
        """The module of the arch."""
        return ARCH_REGISTRY.get(self.network['type']).__module__

    def build(self) -> nn.Module:
        """The net of RGB pictures, in evaluation mode, with its weights when it has any (else seeded random ones).

        Raises:
            UserError: keywords that the arch does not take, or weights that do not fit it.
        """
        torch.manual_seed(0)
        net = (
            build_with_weights(self.name, self.network, self.weights, self.param_key)
            if self.weights
            else build(self.name, self.network)
        )
        return in_rgb(net.eval().requires_grad_(False))


def parse_nets(entries: list[str], scale: int, root: Path) -> list[NetSpec]:
    """The networks of a command line at one scale.

    Args:
        entries: see above.
        scale: of all of them.
        root: repository root, from which paths in option files count.

    Raises:
        UserError: an entry that names no network or no file, or a name that is given twice.
    """
    nets = [_parse(entry, scale, root) for entry in entries]
    for i, net in enumerate(nets):
        if net.name in ('bicubic', *(other.name for other in nets[:i])):
            raise UserError(f'{entries[i]}: the name {net.name} is taken; give it another: NAME=...')
    return nets


def _parse(entry: str, scale: int, root: Path) -> NetSpec:
    # a Windows drive letter is no end of a path; keys follow the last colon, and hold an equals sign
    matched = re.fullmatch(r'(?:(?P<name>[^=:]+)=)?(?P<file>.*?)(?::(?P<keys>\w+=[^:]*))?', entry)
    if matched is None:
        raise UserError(f'{entry!r}: must be NAME=FILE:KEY=VALUE, on one line')
    name, file, keys = matched['name'], matched['file'], parse_keys(entry, matched['keys'])
    try:
        file = file.format(scale=scale)
    except (KeyError, IndexError, ValueError):
        raise UserError(f'{entry}: only {{scale}} may be in braces') from None
    path = find(file)
    if path is None and name is None and not re.search(r'\.\w+$', file):
        name = file  # an arch by its name alone
    elif path is None and file:
        raise UserError(f'{name or entry}: no such file: {file}')
    if path is None:
        described = Described({'type': name, **keys}, None)
    elif path.suffix == '.onnx':
        raise UserError(
            f'{entry}: the operations of an ONNX file are not counted; give the weights that it was made from'
        )
    else:
        described = describe(path, keys, root, name if name in dict(iter(ARCH_REGISTRY)) else None)
        name = name or described.run or path.stem
    if described.scale not in (None, scale):
        raise UserError(f'{path}: a net of scale {described.scale}, but the benchmark has scale {scale}')
    return NetSpec(name, scale, _complete(entry, described.network, scale), described.weights, described.param_key)


def _complete(entry: str, network: dict[str, Any], scale: int) -> dict[str, Any]:
    """The keywords of a network with its scale among them."""
    known = dict(iter(ARCH_REGISTRY))
    arch = known.get(network['type'])
    if arch is None:
        raise UserError(
            f'{entry}: no arch is called {network["type"]!r}{did_you_mean(network["type"], known)}; '
            'give its type as NAME=FILE:type=ARCH'
        )
    if network == {'type': 'Spandrel'}:  # finds out itself
        return network
    parameters = inspect.signature(arch).parameters
    wanted = {
        key: value
        for key, value in _CHANNELS.items()
        if key in parameters and parameters[key].default is inspect.Parameter.empty
    }
    word = next((word for word in _SCALE_WORDS if word in parameters or word in network), None)
    network = wanted | ({word: scale} if word else {}) | network
    if word and network[word] != scale:
        raise UserError(f'{entry}: a net of scale {network[word]}, but the benchmark has scale {scale}')
    return network
