"""The networks of a benchmark: what a command line names, found and built.

``NAME[=FILE][:key=value,...]`` or ``FILE[:key=value,...]``, where

* FILE is a file of weights (``.pth``), an option file (``.yml``) or, without its ending, a file of the project's
  ``weights/``; ``{scale}`` in it stands for the scale;
* the keys are the arch's own, and ``type``, its name in the registry;
* what they leave open comes from the option file of the run that the weights lie in, from the file of weights itself,
  or from NAME, when it is an arch's, and the arch's defaults;
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
import yaml
from torch import Tensor, nn

from iafmsr.basicsr_api import ARCH_REGISTRY
from iafmsr.errors import UserError
from iafmsr.inference.weights import WEIGHT_KEYS, shipped
from iafmsr.options.files import load_options
from iafmsr.options.findings import did_you_mean
from iafmsr.training.checkpoints import load_checkpoint
from iafmsr.utils.checkpoint_check import check_checkpoint

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
        param_key (str | None): state dict within the file of weights; None: the file itself.
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
        """The net, in evaluation mode, with its weights when it has any (else seeded random ones).

        Raises:
            UserError: keywords that the arch does not take, or weights that do not fit it.
        """
        options = dict(self.network)
        arch = ARCH_REGISTRY.get(options.pop('type'))
        torch.manual_seed(0)
        try:
            net = arch.from_weights(self._state_dict()) if self._is_recognised else arch(**options)
        except Exception as error:  # a constructor fails on a value of the wrong kind in any way
            reason = str(error).partition('\n')[0] or type(error).__name__
            raise UserError(f'{self.name}: {self.network["type"]} cannot be built: {reason}') from None
        if self.weights and not self._is_recognised:
            check_checkpoint(str(self.weights), net, self.param_key)
            net.load_state_dict(self._state_dict())
        return net.eval().requires_grad_(False)

    @property
    def _is_recognised(self) -> bool:
        """Spandrel finds out from the weights which network they belong to."""
        return self.network.keys() <= {'type'} and self.network['type'] == 'Spandrel' and self.weights is not None

    def _state_dict(self) -> dict[str, Tensor]:
        content = load_checkpoint(str(self.weights))
        weights = content if self.param_key is None else content.get(self.param_key)
        if not isinstance(weights, dict):
            raise UserError(f'{self.weights}: no {self.param_key} in it')
        return {key.removeprefix('module.'): value for key, value in weights.items()}


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
    name, file, keys = matched['name'], matched['file'], _keywords(entry, matched['keys'])
    try:
        file = file.format(scale=scale)
    except (KeyError, IndexError, ValueError):
        raise UserError(f'{entry}: only {{scale}} may stand in braces') from None
    path = Path(file) if Path(file).is_file() else shipped(file)
    if path is None and name is None and not re.search(r'\.\w+$', file):
        name = file  # an arch by its name alone
    elif path is None and file:
        raise UserError(f'{name or entry}: no such file: {file}')

    network: dict[str, Any] = {}
    options = path if path and path.suffix in ('.yml', '.yaml') else _options_of_run(path)
    weights, param_key = (None, None) if options == path else (path, None)
    if options:
        opt = load_options(options)
        network, run = dict(opt.get('network_g') or {}), opt.get('path') or {}
        if 'type' not in network:
            raise UserError(f'{options}: it has no network_g')
        if opt.get('scale') not in (None, scale):
            raise UserError(f'{options}: a net of scale {opt["scale"]}, the benchmark is of scale {scale}')
        name = name or str(opt.get('name'))
        if options == path and run.get('pretrain_network_g'):
            weights = root / run['pretrain_network_g']
            if not weights.is_file():
                raise UserError(f'{options}: path.pretrain_network_g: no such file: {weights}')
            param_key = run.get('param_key_g')
    content = load_checkpoint(str(weights)) if weights else {}
    network = network or dict(content.get('network_g') or {})
    if 'type' in keys and keys['type'] != network.get('type'):
        network = {}  # keywords of another arch
    name = name or path.stem
    network = {'type': name} | network | keys
    param_key = param_key or next((key for key in WEIGHT_KEYS if isinstance(content.get(key), dict)), None)
    return NetSpec(name, scale, _complete(entry, network, scale), weights, param_key)


def _keywords(entry: str, text: str | None) -> dict[str, Any]:
    """``a=1,b=[1, 2]`` as a dict; values are YAML."""
    parts = re.split(r',(?=\w+=)', text) if text else []
    try:
        return {key: yaml.safe_load(value) for key, value in (part.split('=', 1) for part in parts)}
    except yaml.YAMLError:
        raise UserError(f'{entry}: the keys are no list of key=value') from None


def _options_of_run(weights: Path | None) -> Path | None:
    """The option file that BasicSR keeps in a run's folder, ``experiments/NAME/models/net_g_*.pth``."""
    if weights is None or weights.resolve().parent.name != 'models':
        return None
    files = sorted(weights.resolve().parent.parent.glob('*.yml'))
    return files[0] if len(files) == 1 else None


def _complete(entry: str, network: dict[str, Any], scale: int) -> dict[str, Any]:
    """The keywords of a network with its scale among them."""
    archs = dict(iter(ARCH_REGISTRY))
    arch = archs.get(network['type'])
    if arch is None:
        raise UserError(f'{entry}: no arch is called {network["type"]!r}{did_you_mean(network["type"], archs)}; '
                        'say which by NAME=FILE:type=ARCH')
    parameters = inspect.signature(arch).parameters
    wanted = {key: value for key, value in _CHANNELS.items()
              if key in parameters and parameters[key].default is inspect.Parameter.empty}
    word = next((word for word in _SCALE_WORDS if word in parameters or word in network), None)
    network = wanted | ({word: scale} if word else {}) | network
    if word and network[word] != scale:
        raise UserError(f'{entry}: a net of scale {network[word]}, the benchmark is of scale {scale}')
    return network
