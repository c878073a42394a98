"""Where prepared pictures go: an LMDB as BasicSR reads it, or a folder of PNG files.

Both are written under a temporary name and renamed when they are whole: what has its final name is complete. What was
written under the temporary name before an interruption is kept and added to.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import cv2
import lmdb
import numpy as np
from torch import Tensor

from iafmsr.files.whole import clear_leftovers, replace_file

__all__ = ['PNG_LEVEL', 'FolderStore', 'LmdbStore', 'Store', 'encode_png', 'partial', 'stored']

# Level 1, as BasicSR's own LMDBs: level 9 saves a tenth of the space for many times the time.
PNG_LEVEL = 1

_FIRST_MAP_BYTES = 1 << 28


class Store(Protocol):
    """A named set of PNG pictures that becomes visible under its final name when it is whole."""

    def __contains__(self, name: str) -> bool: ...

    def __len__(self) -> int: ...

    def add(self, items: list[tuple[str, bytes]]) -> None:
        """Add ``(name, PNG file)`` pairs, after an interruption all of them or none."""

    def finish(self) -> None:
        """Give the store its final name."""

    def close(self) -> None:
        """Leave the store under its temporary name, for a later run to go on with."""


def encode_png(image: Tensor) -> bytes:
    """uint8 (3, h, w), RGB -> a PNG file."""
    bgr = np.ascontiguousarray(image.permute(1, 2, 0).flip(-1))
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])[1].tobytes()


def partial(path: Path) -> Path:
    """The temporary name of what will be ``path``."""
    return path.with_name(f'{path.name}.partial')


def stored(path: Path, name: str) -> bytes | None:
    """The PNG file of a picture in a set that is finished or begun, and not open; None where there is none."""
    place = path if path.exists() else partial(path)
    if path.suffix != '.lmdb':
        file = place / f'{name}.png'
        return file.read_bytes() if file.exists() else None
    if not place.exists():
        return None
    with lmdb.open(str(place), readonly=True, lock=False) as env, env.begin() as transaction:
        content: bytes | None = transaction.get(name.encode('ascii'))
        return content


class LmdbStore:
    """An LMDB with the ``meta_info.txt`` that BasicSR's datasets want: a line ``name.png (h,w,c) level`` for each key.

    Args:
        path: The final name, which must end in ``.lmdb`` for BasicSR.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, partial(path)
        self._partial.mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(str(self._partial), map_size=_FIRST_MAP_BYTES, metasync=False)

    def __contains__(self, name: str) -> bool:
        with self._env.begin(buffers=True) as transaction:
            return transaction.get(name.encode('ascii')) is not None

    def __len__(self) -> int:
        return self._env.stat()['entries']

    def add(self, items: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for name, png in items:
                        transaction.put(name.encode('ascii'), png)
                return
            except lmdb.MapFullError:  # nothing of this transaction was kept
                self._env.set_mapsize(2 * self._env.info()['map_size'])

    def finish(self) -> None:
        with open(self._partial / 'meta_info.txt', 'w', encoding='ascii') as file:
            file.writelines(f'{name}.png ({h},{w},3) {PNG_LEVEL}\n' for name, (h, w) in self._shapes())
        self._env.sync(True)
        self._env.close()
        self._partial.rename(self._path)

    def close(self) -> None:
        self._env.close()

    def _shapes(self) -> Iterable[tuple[str, tuple[int, int]]]:
        with self._env.begin(buffers=True) as transaction:
            for key, png in transaction.cursor():
                width, height = struct.unpack('>II', png[16:24])  # PNG's first chunk is its header
                yield bytes(key).decode('ascii'), (height, width)


class FolderStore:
    """A folder of PNG files.

    Args:
        path: The folder's final name.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, partial(path)
        self._partial.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self._partial)

    def __contains__(self, name: str) -> bool:
        return (self._partial / f'{name}.png').exists()

    def __len__(self) -> int:
        return len(list(self._partial.glob('*.png')))

    def add(self, items: list[tuple[str, bytes]]) -> None:
        for name, png in items:
            replace_file(self._partial / f'{name}.png', png)

    def finish(self) -> None:
        self._partial.rename(self._path)

    def close(self) -> None:
        pass
