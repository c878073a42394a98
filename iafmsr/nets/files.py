"""The files that a command line names: ``FILE[:key=value,...]``, where FILE may be a run's folder or a known name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.options.places import WEIGHTS

__all__ = ['FOLDER', 'NamedFile', 'find', 'find_weights', 'known_names', 'parse_keys']

FOLDER = WEIGHTS
_KEYS = re.compile(r'(?P<file>.+?):(?P<keys>\w+=.*)')


class NamedFile(NamedTuple):
    """A file, and what the command line says of its network: ``type`` and keywords of the arch."""

    path: Path
    given: dict[str, Any]


def known_names() -> list[str]:
    """The names of the files in the project's folder ``weights/``, without their ending."""
    return sorted(path.stem for path in FOLDER.glob('*.pth'))


def find(name: str) -> Path | None:
    """A file by its path, by the folder of its run, or by its name in the project's ``weights/``, with or without its
    ending.

    Raises:
        UserError: the folder of a run has no weights yet.
    """
    if Path(name, 'models').is_dir():
        return _latest(Path(name))
    if Path(name, 'model.safetensors').is_file():  # of save_pretrained
        return Path(name, 'model.safetensors')
    places = (Path(name), FOLDER / name, FOLDER / f'{name}.pth') if Path(name).name == name else (Path(name),)
    return next((path for path in places if path.is_file()), None)


def _latest(run: Path) -> Path:
    """The newest weights in the folder of a run."""
    numbered = [(int(path.stem[6:]), path) for path in run.glob('models/net_g_*.pth') if path.stem[6:].isdigit()]
    latest = run / 'models/net_g_latest.pth'
    if latest.is_file():
        return latest
    if not numbered:
        raise UserError(f'{printable(run)}: no weights models/net_g_ITERATION.pth in it')
    return max(numbered)[1]


def find_weights(entry: str, option: str = '--weights ') -> NamedFile:
    """What ``--weights FILE[:key=value,...]`` names.

    Args:
        entry: the text.
        option: what the message of an error begins with.

    Raises:
        UserError: there is no such file, or the keys are no list of ``key=value``.
    """
    matched = None if find(entry) else _KEYS.fullmatch(entry)
    name, keys = (matched['file'], matched['keys']) if matched else (entry, None)
    path = find(name)
    if path is None and Path(name).is_dir():
        raise UserError(f'{option}{name}: not the folder of a run: there is no folder models/ in it')
    if path is None:
        known = ', '.join(known_names())
        raise UserError(f'{option}{name}: no such file' + (f', and none of the names {known}' if known else ''))
    return NamedFile(path, parse_keys(entry, keys))


def parse_keys(entry: str, text: str | None) -> dict[str, Any]:
    """``a=1,b=[1, 2]`` as a dict; values are YAML.

    Raises:
        UserError: it is no such list; ``entry`` is named.
    """
    parts = re.split(r',(?=\w+=)', text) if text else []
    try:
        return {key: yaml.safe_load(value) for key, value in (part.split('=', 1) for part in parts)}
    except yaml.YAMLError:
        raise UserError(f'{entry}: the keys must be a list of key=value') from None
