"""The one way in which files of weights and training states are read: data only, never code."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError, without_warnings

__all__ = ['STATE_KEYS', 'load_checkpoint']

STATE_KEYS = {'iter', 'epoch', 'optimizers', 'schedulers'}  # of a training state
_OVERRIDE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def load_checkpoint(file: str | Path) -> dict[str, Any]:
    """Load a file of weights or a training state to the CPU: data only, never code, and nothing that was damaged.

    torch's environment variable that allows code in such files is removed, for this process and those that it starts.
    A compressed member is refused: torch.save writes none, and it can unpack to a thousand times its size.
    A ``.safetensors`` holds the state dict ``params``, and the network's options as JSON in its metadata.

    Raises:
        UserError: in one line, why the file cannot be loaded.
    """
    if not Path(file).is_file():
        raise UserError(f'{file}: no such file')
    os.environ.pop(_OVERRIDE, None)
    try:
        if Path(file).suffix == '.safetensors':
            return _read_safetensors(Path(file))
        if zipfile.is_zipfile(file):
            _check_archive(file)
        with without_warnings():
            content = torch.load(file, map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in any way: zip, pickle, storage
        raise UserError(f'{file}: not a file of weights that loads safely ({type(error).__name__})') from None
    if not isinstance(content, dict):
        raise UserError(f'{file}: not a file of weights but a {type(content).__name__}')
    return content


def _read_safetensors(file: Path) -> dict[str, Any]:
    """As a file of torch.save holds it: the network is told by the metadata, or by a ``config.json`` beside it."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise UserError(f"{file}: safetensors is not installed; install the extra 'hub'") from None
    with safe_open(file, 'pt') as opened:
        said = (opened.metadata() or {}).get('network_g')
        content: dict[str, Any] = {'params': {name: opened.get_tensor(name) for name in opened.keys()}}  # noqa: SIM118
    config = file.with_name('config.json')
    if said is None and config.is_file() and '"type"' in (text := config.read_text(encoding='utf-8')):
        said = text
    return content if said is None else content | {'network_g': json.loads(said)}


def _check_archive(file: str | Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(f'{file}: holds compressed data, which torch.save never writes')
        if sum(member.file_size for member in members) > os.path.getsize(file):
            raise UserError(f'{file}: its parts overlap')
        damaged = archive.testzip()  # torch does not look at the check sums
    if damaged:
        raise UserError(f'{file}: damaged, the checksum of {damaged} in it is wrong')
