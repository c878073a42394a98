"""The HR pictures of a folder or an LMDB, decoded when they are used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import torch
from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.lmdb_index import META_LINE
from iafmsr.files.names import list_pictures, printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size, read_levels, read_picture, read_rgb8

__all__ = ['Source', 'folder_sources', 'lmdb_sources', 'warn']


@dataclass(frozen=True)
class Source:
    """One HR picture: name, height and width, and a function that decodes it to uint8 or float32 (3, H, W)."""

    name: str
    size: tuple[int, int]
    read: Callable[[], Tensor]


def folder_sources(root: Path, deep: bool = False) -> list[Source]:
    """The pictures of a folder; other files are left out and logged by name. ``deep``: with all 16 bits."""
    sources = []
    for picture in list_pictures([root]):
        name = printable(picture.path)
        try:
            sources.append(Source(name, picture_size(picture.path), partial(_read_file, picture.path, deep)))
        except UnreadableError as error:
            warn(f'{name}: left out, {error}')
    return sources


def _read_file(path: Path, deep: bool) -> Tensor:
    try:
        return torch.from_numpy(read_levels(path)).permute(2, 0, 1) if deep else read_picture(path)
    except UnreadableError as error:
        raise UnreadableError(f'{printable(path)}: {error}') from error


def lmdb_sources(root: Path, deep: bool = False) -> list[Source]:
    """The pictures of an LMDB; ``deep``: with all 16 bits.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        text = (root / 'meta_info.txt').read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{printable(root)}: not an LMDB of pictures ({error})') from None
    store = _Lmdb(root, deep)
    return [
        Source(key, (int(height), int(width)), partial(store.read, key))
        for key, height, width in META_LINE.findall(text)
    ]


class _Lmdb:
    """The pictures of an LMDB. Each process must open the LMDB itself."""

    def __init__(self, root: Path, deep: bool = False) -> None:
        self.root, self.deep = root, deep
        self.environment: lmdb.Environment | None = None
        self.process: int | None = None
        self._opened()  # before threads read from it

    def __getstate__(self) -> dict[str, Any]:
        return {'root': self.root, 'deep': self.deep, 'environment': None, 'process': None}

    def read(self, key: str) -> Tensor:
        """One picture, (3, H, W), RGB."""
        with self._opened().begin() as transaction:
            content = transaction.get(key.encode('ascii'))
        try:
            if content is None:
                raise UnreadableError('no such key')
            return torch.from_numpy((read_levels if self.deep else read_rgb8)(content)).permute(2, 0, 1)
        except UnreadableError as error:
            raise UnreadableError(f'{printable(self.root)}, key {key}: {error}') from None

    def _opened(self) -> lmdb.Environment:
        if self.environment is not None:
            if self.process == os.getpid():
                return self.environment
            self.environment.close()  # a forked process has its parent's
        try:
            self.environment = lmdb.open(str(self.root), readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise UserError(f'{printable(self.root)}: not an LMDB ({error})') from None
        self.process = os.getpid()
        return self.environment


def warn(text: str) -> None:
    """A line in the log of the run."""
    logging.getLogger('basicsr').warning(text)
