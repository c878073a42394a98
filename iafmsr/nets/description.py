"""The type and keywords of a network: from the user, its file of weights, the option file of its run, or the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iafmsr import archs
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.recognition import ARCHS, recognise
from iafmsr.nets.state_dicts import unwrapped, weights_in
from iafmsr.options.places import ROOT
from iafmsr.options.plugins import is_imported

__all__ = ['Described', 'describe']

# what a file may name: archs of super-resolution whose constructors open no file. BasicSR has others
TRUSTED = frozenset(
    (*archs.__all__, 'ECBSR', 'EDSR', 'MSRResNet', 'RCAN', 'RIDNet', 'RRDBNet', 'SRVGGNetCompact', 'SwinIR')
)


@dataclass(frozen=True)
class Described:
    """A network that a file describes.

    Attributes:
        network: ``type`` and keywords, as ``network_g`` of an option file.
        weights: its file; None where an option file names none.
        param_key: the state dict within it, where an option file says which.
        run: name of the run that the weights lie in, or that the option file is of.
        scale: what the option file says.
    """

    network: dict[str, Any]
    weights: Path | None
    param_key: str | None = None
    run: str | None = None
    scale: int | None = None


def describe(
    file: Path, given: Mapping[str, Any] | None = None, root: Path = ROOT, label: str | None = None
) -> Described:
    """What the network of a file of weights, or of an option file, is.

    Keywords from the user come first, then ``network_g`` in the file of weights, then the option file of the run that
    the weights are in, then names and shapes. If several networks remain possible, none is guessed. If no arch here
    fits, spandrel is used.

    Args:
        file: ``.pth``, or ``.yml``.
        given: ``type`` and keywords of the arch.
        root: from which paths in option files count.
        label: the type that the user's name for the network stands for, where the file says nothing of one.

    Raises:
        UserError: no file of weights or no option file, or several networks are possible.
    """
    given = dict(given or {})
    if file.suffix in ('.yml', '.yaml'):
        return _by_options(file, given, root)
    content = load_checkpoint(file)
    weights = weights_in(printable(file), content)
    said = content['network_g'] if 'network_g' in content else _options_of_run(file)
    if said is not None:
        _check_trusted(printable(file), said)
        # the backend is a choice for a run, not a part of the network
        network = _with({key: value for key, value in said.items() if key != 'sparse_backend'}, given)
    else:
        network = _by_shapes(file, weights, given, label)
    folder = file.resolve().parent
    return Described(network, file, run=folder.parent.name if folder.name == 'models' else None)


def _by_options(file: Path, given: dict[str, Any], root: Path) -> Described:
    opt = _options(file)
    if not isinstance(opt.get('network_g'), dict) or 'type' not in opt['network_g']:
        raise UserError(f'{printable(file)}: it has no section network_g')
    path = opt['path'] if isinstance(opt.get('path'), dict) else {}
    weights = path.get('pretrain_network_g') and root / str(path['pretrain_network_g'])
    if weights and not weights.is_file():
        raise UserError(f'{printable(file)}: path.pretrain_network_g: no such file: {weights}')
    return Described(
        _with(opt['network_g'], given),
        weights or None,
        path.get('param_key_g'),
        str(opt.get('name', file.stem)),
        opt.get('scale'),
    )


def _with(said: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a network with others above them; those of another arch go."""
    return {**(said if given.get('type', said['type']) == said['type'] else {}), **given}


def _by_shapes(file: Path, weights: Mapping[str, Any], given: dict[str, Any], label: str | None) -> dict[str, Any]:
    named = given if 'type' in given or label is None else {'type': label, **given}
    if named.get('type', 'IAFMNet') not in ARCHS:
        return named
    shapes = (
        {name: tuple(getattr(value, 'shape', ())) for name, value in state_dict.items()}
        for state_dict in unwrapped(weights)
    )
    found = next(filter(None, map(recognise, shapes)), None)
    if found is None:
        return named if 'type' in named else {'type': 'Spandrel'} | given
    if found.untold and not given:
        name = found.network['type']
        raise UserError(
            f'{printable(file)}: weights of an {name} whose options are not known: {", ".join(found.untold)} '
            'cannot be seen in weights; give its option file instead, or FILE:key=value,... with the options that '
            f'are not the defaults (FILE:type={name} if all are the defaults)'
        )
    return _with(found.network, named)


def _check_trusted(file: str, network: Any) -> None:
    """Check the section of a network that a file brings along, itself or in the folder of its run."""
    name = network.get('type') if isinstance(network, dict) else None
    if not isinstance(name, str) or not all(isinstance(key, str) for key in network):
        raise UserError(f'{file}: its network_g must be a section with a type and keywords')
    if name not in TRUSTED and not _is_the_users(name):
        raise UserError(
            f'{file}: its network_g has the type {name!r}; allowed are {", ".join(sorted(TRUSTED))}, and with '
            '--import PACKAGE the networks that your own package registers'
        )


def _is_the_users(name: str) -> bool:
    """Whether an arch is of a package that the user has imported (``--import``)."""
    try:
        return is_imported(archs.find(name))
    except UserError:  # of no name, or without BasicSR
        return False


def _options(file: Path) -> dict[str, Any]:
    from iafmsr.options.files import OptionLoader

    try:
        with open(file, encoding='utf-8') as stream:
            opt = yaml.load(stream, OptionLoader)
    except OSError as error:
        raise UserError(f'{printable(file)}: {error.strerror}') from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'{printable(file)}: not an option file: {reason}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{printable(file)}: not an option file: must be a mapping of keys to values')
    return opt


def _options_of_run(weights: Path) -> Any:
    """``network_g`` of the option file that is kept in a run's folder, above its ``models/net_g_*.pth``, or None."""
    folder = weights.resolve().parent
    files = [path for path in folder.parent.glob('*.yml') if path.is_file()] if folder.name == 'models' else []
    if len(files) != 1:
        return None
    try:
        return _options(files[0]).get('network_g')
    except UserError:
        return None
