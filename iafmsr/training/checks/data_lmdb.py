"""Whether the LMDBs that a dataset section names are sound, have the same keys, and hold pictures of fitting sizes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np

from iafmsr.errors import UserError
from iafmsr.files.lmdb_index import META_LINE

Size = tuple[int, int]  # height, width
LMDB_SECONDS = 300
TEACHER = 'dataroot_teacher'
MAX_COMPARED = 20  # teacher's pictures that are held against LR
MAX_DIFFERENCE = 16  # levels, on average: between different photographs it is 50 or more
_DOTTED = re.compile(r'^([^\n]*\.[^\n]*)\.\w+ \(\d+,\d+,\d+\)', re.MULTILINE)  # in a meta_info.txt
_LIST_KEYS = """
import os, sys, lmdb
try:
    with lmdb.open(sys.argv[1], readonly=True, lock=False) as env, env.begin() as transaction:
        if os.path.getsize(sys.argv[1] + '/data.mdb') < (env.info()['last_pgno'] + 1) * env.stat()['psize']:
            sys.exit('data.mdb is incomplete')
        sys.stdout.buffer.write(b'\\n'.join(transaction.cursor().iternext(values=False)))
except lmdb.Error as error:
    sys.exit(f'cannot be opened: {error}')
"""


def more(found: Sequence[Any]) -> str:
    return f' (and {len(found) - 1} more)' if len(found) > 1 else ''


def read_lmdbs(dataset: dict[str, Any], roots: dict[str, str]) -> tuple[int, list[tuple[str, Size, Size]]]:
    """Number of pictures, and name, HR size and LR size of each; the one side there is twice."""
    if len({os.path.realpath(root) for root in roots.values()}) < len(roots):
        raise UserError(f'{" and ".join(roots)}: the same LMDB, which a process can open only once')
    found = {key: _read_lmdb(key, root) for key, root in roots.items()}
    gt, lq = (found.get(key) or next(iter(found.values())) for key in ('dataroot_gt', 'dataroot_lq'))
    if gt.keys() != lq.keys():
        raise UserError(
            f'dataroot_lq: {len(lq)} keys, dataroot_gt: {len(gt)}; only in one of them: '
            + ', '.join(sorted(gt.keys() ^ lq.keys())[:3])
            + '; a pair must have the same key in both LMDBs, filename_tmpl does not change this'
        )
    return len(gt), [(key, gt[key], lq[key]) for key in gt]


def listed_sizes(text: str) -> dict[str, Size]:
    """Keys and sizes that a meta_info.txt lists."""
    return {name: (int(height), int(width)) for name, height, width in META_LINE.findall(text)}


def _read_lmdb(key: str, root: str) -> dict[str, Size]:
    """Keys and sizes by an LMDB's meta_info.txt, held against the keys and the length of its data."""
    meta = os.path.join(root, 'meta_info.txt')
    try:
        text = Path(meta).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        raise UserError(f'{key}: {meta}: cannot be read') from None
    sizes = listed_sizes(text)
    if dotted := _DOTTED.search(text):
        raise UserError(
            f'{key}: {meta}: {dotted[1]}: a key with a dot, of which BasicSR reads only the part before the dot; '
            'make the LMDB from pictures whose names have no dot except before the suffix'
        )
    if not text.strip():
        raise UserError(f'{key}: {meta}: lists no picture')
    if len(sizes) != len(text.splitlines()):
        wrong = next((i for i, line in enumerate(text.splitlines(), 1) if not META_LINE.match(line)), None)
        raise UserError(
            f'{key}: {meta}'
            + (f', line {wrong}: not `name.png (height,width,channels) level`' if wrong else ': lists a key twice')
        )
    keys = _lmdb_keys(key, root)
    if len(keys) != len(sizes):
        raise UserError(f'{key}: {root}: {len(keys)} pictures in data.mdb, {len(sizes)} in meta_info.txt')
    if missing := sorted(sizes.keys() - keys):
        raise UserError(f'{key}: {root}: not in data.mdb, but in meta_info.txt: {missing[0]}{more(missing)}')
    return sizes


def _lmdb_keys(key: str, root: str) -> set[str]:
    """The keys of an LMDB, listed by a process of its own: a damaged database can kill the one that reads it."""
    try:
        done = subprocess.run([sys.executable, '-c', _LIST_KEYS, root], capture_output=True, timeout=LMDB_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f'{key}: {root}: its keys could not be read within {LMDB_SECONDS} s: it is damaged, or the disk is slow'
        ) from None
    if done.returncode < 0:
        raise UserError(f'{key}: {root}: damaged: reading its keys ends in {signal.Signals(-done.returncode).name}')
    if done.returncode:
        raise UserError(f'{key}: {root}: {done.stderr.decode(errors="replace").strip()}')
    return set(done.stdout.decode(errors='replace').split('\n')) if done.stdout else set()


def check_teacher(root: str, lq_root: str, sizes: dict[str, Size]) -> None:
    """A teacher's pictures have HR's keys and sizes, and those that are looked at are pictures of their LR."""
    found = _read_lmdb(TEACHER, root)
    if found.keys() != sizes.keys():
        raise UserError(
            f'{TEACHER}: {root}: {len(found)} keys, dataroot_gt: {len(sizes)}; only in one of them: '
            + ', '.join(sorted(found.keys() ^ sizes.keys())[:3])
        )
    other = [name for name, size in sizes.items() if found[name] != size]
    if other:
        name, (height, width), (gt_height, gt_width) = other[0], found[other[0]], sizes[other[0]]
        raise UserError(
            f'{TEACHER}: {root}: made at another scale or from other pictures: {name} is {width}x{height}, HR is '
            f'{gt_width}x{gt_height}' + more(other)
        )
    names = list(sizes)[:: -(-len(sizes) // MAX_COMPARED)]
    for name, taught, lq in zip(names, _decoded(root, names), _decoded(lq_root, names), strict=True):
        if taught is None or lq is None:
            continue  # named and replaced when it is drawn
        small = cv2.resize(taught, lq.shape[1::-1], interpolation=cv2.INTER_AREA)
        if cv2.absdiff(small, lq).mean() > MAX_DIFFERENCE:
            raise UserError(f'{TEACHER}: {root}: made from other pictures: {name} is not an enlargement of its LR')


def _decoded(root: str, keys: Sequence[str]) -> list[np.ndarray | None]:
    with lmdb.open(root, readonly=True, lock=False) as environment, environment.begin() as transaction:
        contents = [transaction.get(key.encode()) or b'' for key in keys]
    return [
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None for content in contents
    ]
