"""Whether the pixels of a dataset's pictures mean what is read of them: RGB or gray of 8 bits, without transparency."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from iafmsr.files.metadata import is_plain_png
from iafmsr.files.picture import Picture, UnreadableError, as_rgb8
from iafmsr.files.reading import read
from iafmsr.training.checks.data_files import MAX_HEADERS, names_of, roots_of
from iafmsr.training.checks.data_lmdb import LMDB_SECONDS, more

MAX_DECODED = 8  # pictures of each side that are not plain by their first bytes
_HEAD = 26  # bytes of a file
_JPEG = b'\xff\xd8\xff'
_GET = """
import base64, json, sys, lmdb
root, names, length = json.load(sys.stdin)
with lmdb.open(root, readonly=True, lock=False) as env, env.begin() as transaction:
    contents = [(transaction.get(name.encode()) or b'')[:length] for name in names]
json.dump([base64.b64encode(content).decode() for content in contents], sys.stdout)
"""


def check_pixels(dataset: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Look at the pixels of a dataset whose files are sound (:func:`~iafmsr.training.checks.data_files.check_dataset`).

    BasicSR's datasets take the colours under transparent pixels, which mean nothing, and the high 8 of 16 bits.

    Returns:
        Faults and warnings, each starting with the key that it concerns.
    """
    faults, warnings = [], []
    for key, root in roots_of(dataset).items():
        pictures = _odd_pictures(root, dataset['io_backend']['type'], names_of(dataset, key))
        meaningless = [(name, fault) for name, picture in pictures.items() if (fault := _fault(picture))]
        deep = [name for name, picture in pictures.items() if picture.colour.dtype == np.uint16]
        if meaningless:
            faults.append(f'{key}: {meaningless[0][0]}: {meaningless[0][1]}{more(meaningless)}')
        elif deep and dataset.get('bit_depth') != 16:
            warnings.append(f'{key}: {deep[0]}: 16 bits a channel, of which the high 8 are used{more(deep)}')
    return faults, warnings


def _odd_pictures(root: str, backend: str, names: list[str]) -> dict[str, Picture]:
    """Some of the pictures that are not plain by their first bytes; what cannot be read is said elsewhere."""
    looked_at = _spread(names, MAX_HEADERS)
    heads = _contents(root, backend, looked_at, _HEAD)
    odd = _spread([name for name, head in zip(looked_at, heads, strict=False) if not _is_plain(head)], MAX_DECODED)
    pictures = {}
    for name, content in zip(odd, _contents(root, backend, odd, None), strict=False):
        with suppress(UnreadableError):
            pictures[name] = read(content)
    return pictures


def _is_plain(head: bytes) -> bool:
    return head.startswith(_JPEG) or is_plain_png(head)


def _fault(picture: Picture) -> str | None:
    try:
        as_rgb8(picture)
    except UnreadableError as error:
        return str(error)
    return None


def _spread(names: list[str], count: int) -> list[str]:
    """At most so many of the names, from all over them."""
    return names[:: -(-len(names) // count) or 1]


def _contents(root: str, backend: str, names: list[str], length: int | None) -> list[bytes]:
    """What is in some pictures' files, or their first bytes; of a damaged LMDB nothing."""
    if not names or backend != 'lmdb':
        return [_content_of_file(name, length) for name in names]
    asked = json.dumps([root, names, length]).encode()
    with suppress(subprocess.TimeoutExpired):  # a process of its own: a damaged LMDB can kill the one that reads it
        done = subprocess.run([sys.executable, '-c', _GET], input=asked, capture_output=True, timeout=LMDB_SECONDS)
        if done.returncode == 0:
            return [base64.b64decode(content) for content in json.loads(done.stdout)]
    return []


def _content_of_file(path: str, length: int | None) -> bytes:
    with open(path, 'rb') as file:
        return file.read(-1 if length is None else length)
