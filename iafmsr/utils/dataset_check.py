"""Whether the pictures that a dataset section names are there, in pairs, and of matching sizes.

Cheap: an LMDB is judged by its meta_info.txt and its keys, a folder by its names and the headers of its pictures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import cv2
import lmdb
import numpy as np

from iafmsr.data.stores import META_LINE
from iafmsr.errors import UserError
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size

Size = tuple[int, int]  # height, width
Pair = tuple[str, str]  # names or paths of the HR and the LR picture

# as many headers are read, spread over the folder, so that the check stays within about a second
MAX_HEADERS = 500
LMDB_SECONDS = 300
TEACHER = 'dataroot_teacher'
MAX_COMPARED = 20  # teacher's pictures that are held against LR
MAX_DIFFERENCE = 16  # levels, on average: between different photographs it is 50 or more
_LIST_KEYS = """
import os, sys, lmdb
try:
    with lmdb.open(sys.argv[1], readonly=True, lock=False) as env, env.begin() as transaction:
        if os.path.getsize(sys.argv[1] + '/data.mdb') < (env.info()['last_pgno'] + 1) * env.stat()['psize']:
            sys.exit('data.mdb is cut short')
        sys.stdout.buffer.write(b'\\n'.join(transaction.cursor().iternext(values=False)))
except lmdb.Error as error:
    sys.exit(f'cannot be opened: {error}')
"""


def check_dataset(dataset: dict[str, Any], scale: int, phase: str) -> tuple[int, list[str]]:
    """Check the files of a dataset section whose keys are sound and whose paths are absolute.

    Args:
        dataset: section of the options, with ``dataroot_gt``, ``dataroot_lq`` or both.
        scale: HR is this many times LR; when validating, HR may have up to ``scale - 1`` more rows and columns, which
            BasicSR crops.
        phase: ``train``, ``val`` or ``test``.

    Returns:
        Number of pictures (0 when there are faults) and the faults, each starting with the key that it concerns.
    """
    roots = {key: dataset[key] for key in ('dataroot_gt', 'dataroot_lq', TEACHER) if dataset.get(key) is not None}
    read = _read_lmdbs if dataset['io_backend']['type'] == 'lmdb' else _read_folders
    faults = [f'{key}: {fault}' for key, root in roots.items() if (fault := _root_fault(root, read is _read_lmdbs))]
    if faults:
        return 0, faults
    teacher = roots.pop(TEACHER, None)
    try:
        count, sizes = read(dataset, roots)
        if teacher:
            _check_teacher(teacher, dataset['dataroot_lq'], {name: gt for name, gt, _ in sizes})
    except UserError as error:
        return 0, [str(error)]
    patch = dataset['gt_size'] if phase == 'train' and len(roots) == 2 else 0
    spare = 0 if phase == 'train' else scale - 1
    return count, _size_faults(sizes, scale, spare, patch) if len(roots) == 2 else []


def _check_teacher(root: str, lq_root: str, sizes: dict[str, Size]) -> None:
    """A teacher's pictures have HR's keys and sizes, and those that are looked at are pictures of their LR."""
    found = _read_lmdb(TEACHER, root)
    if found.keys() != sizes.keys():
        raise UserError(f'{TEACHER}: {root}: {len(found)} keys, dataroot_gt: {len(sizes)}; only in one of them: '
                        + ', '.join(sorted(found.keys() ^ sizes.keys())[:3]))
    other = [name for name, size in sizes.items() if found[name] != size]
    if other:
        name, (height, width), (gt_height, gt_width) = other[0], found[other[0]], sizes[other[0]]
        raise UserError(f'{TEACHER}: {root}: of another scale or of other pictures: {name} is {width}x{height}, HR '
                        f'{gt_width}x{gt_height}' + _more(other))
    names = list(sizes)[::-(-len(sizes) // MAX_COMPARED)]
    for name, taught, lq in zip(names, _decoded(root, names), _decoded(lq_root, names), strict=True):
        if taught is None or lq is None:
            continue  # named and replaced when it is drawn
        small = cv2.resize(taught, lq.shape[1::-1], interpolation=cv2.INTER_AREA)
        if cv2.absdiff(small, lq).mean() > MAX_DIFFERENCE:
            raise UserError(f'{TEACHER}: {root}: of other pictures: {name} is not an enlargement of its LR')


def _decoded(root: str, keys: Sequence[str]) -> list[np.ndarray | None]:
    with lmdb.open(root, readonly=True, lock=False) as environment, environment.begin() as transaction:
        contents = [transaction.get(key.encode()) or b'' for key in keys]
    return [cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
            for content in contents]


def _root_fault(root: str, as_lmdb: bool) -> str | None:
    if not os.path.isdir(root):
        return f'{root}: no such folder'
    if as_lmdb and not root.endswith('.lmdb'):
        return f'{root}: the name of an LMDB ends in .lmdb'
    if not as_lmdb and os.path.isfile(os.path.join(root, 'data.mdb')):
        return f'{root}: an LMDB: set io_backend: type: lmdb'
    for name in ('data.mdb', 'meta_info.txt') if as_lmdb else ():
        if not os.path.isfile(os.path.join(root, name)):
            return f'{root}: not an LMDB of pictures, {name} is missing'
    return None


def _size_faults(sizes: list[tuple[str, Size, Size]], scale: int, spare: int, patch: int) -> list[str]:
    """Faults of (name, HR size, LR size): the first picture of each kind and how many there are."""
    def fits(high: int, low: int) -> bool:
        return scale * low <= high <= scale * low + spare

    uneven = [(name, gt, lq) for name, gt, lq in sizes if not (fits(gt[0], lq[0]) and fits(gt[1], lq[1]))]
    small = [(name, gt, lq) for name, gt, lq in sizes if min(gt) < patch]
    faults = []
    if uneven:
        name, (gt_h, gt_w), (lq_h, lq_w) = uneven[0]
        faults.append(f'dataroot_lq: HR must be {scale} x LR, but {name} is {gt_w}x{gt_h} and {lq_w}x{lq_h}'
                      + _more(uneven))
    if small:
        name, (gt_h, gt_w), _ = small[0]
        faults.append(f'gt_size: patches of {patch} do not fit into {name}, {gt_w}x{gt_h}' + _more(small))
    return faults


def _more(found: Sequence[Any]) -> str:
    return f' (and {len(found) - 1} more)' if len(found) > 1 else ''


# -- LMDB -------------------------------------------------------------------------------------------------------------
def _read_lmdbs(dataset: dict[str, Any], roots: dict[str, str]) -> tuple[int, list[tuple[str, Size, Size]]]:
    found = {key: _read_lmdb(key, root) for key, root in roots.items()}
    gt, lq = (found.get(key) or next(iter(found.values())) for key in ('dataroot_gt', 'dataroot_lq'))
    if gt.keys() != lq.keys():
        raise UserError(f'dataroot_lq: {len(lq)} keys, dataroot_gt: {len(gt)}; only in one of them: '
                        + ', '.join(sorted(gt.keys() ^ lq.keys())[:3]))
    return len(gt), [(key, gt[key], lq[key]) for key in gt]


def _read_lmdb(key: str, root: str) -> dict[str, Size]:
    """Keys and sizes by an LMDB's meta_info.txt, held against the keys and the length of its data."""
    meta = os.path.join(root, 'meta_info.txt')
    try:
        text = Path(meta).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        raise UserError(f'{key}: {meta}: cannot be read') from None
    sizes = {name: (int(height), int(width)) for name, height, width in META_LINE.findall(text)}
    if not text.strip():
        raise UserError(f'{key}: {meta}: lists no picture')
    if len(sizes) != len(text.splitlines()):
        wrong = next((i for i, line in enumerate(text.splitlines(), 1) if not META_LINE.match(line)), None)
        raise UserError(f'{key}: {meta}' + (f', line {wrong}: not `name.png (height,width,channels) level`' if wrong
                                            else ': lists a key twice'))
    keys = _lmdb_keys(key, root)
    if len(keys) != len(sizes):
        raise UserError(f'{key}: {root}: {len(keys)} pictures in data.mdb, {len(sizes)} in meta_info.txt')
    if missing := sorted(sizes.keys() - keys):
        raise UserError(f'{key}: {root}: not in data.mdb, but in meta_info.txt: {missing[0]}{_more(missing)}')
    return sizes


def _lmdb_keys(key: str, root: str) -> set[str]:
    """The keys of an LMDB, listed by a process of its own: a damaged database can kill the one that reads it."""
    try:
        done = subprocess.run([sys.executable, '-c', _LIST_KEYS, root], capture_output=True, timeout=LMDB_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f'{key}: {root}: no list of its keys within {LMDB_SECONDS} s: damaged, or the disk is slow'
                        ) from None
    if done.returncode < 0:
        raise UserError(f'{key}: {root}: damaged: reading its keys ends in {signal.Signals(-done.returncode).name}')
    if done.returncode:
        raise UserError(f'{key}: {root}: {done.stderr.decode(errors="replace").strip()}')
    return set(done.stdout.decode(errors='replace').split('\n')) if done.stdout else set()


# -- folders ----------------------------------------------------------------------------------------------------------
def _read_folders(dataset: dict[str, Any], roots: dict[str, str]) -> tuple[int, list[tuple[str, Size, Size]]]:
    """Pairs as BasicSR makes them, or the one side there is twice; sizes of up to ``MAX_HEADERS`` of them."""
    gt_key, lq_key = next(iter(roots)), list(roots)[-1]
    names = _name_pairs(dataset, roots, gt_key, lq_key)
    pairs = [(os.path.join(roots[gt_key], gt), os.path.join(roots[lq_key], lq)) for gt, lq in names]
    for key, paths in zip((gt_key, lq_key), zip(*pairs, strict=True), strict=True):
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise UserError(f'{key}: {missing[0]}: no such picture' + _more(missing))
    looked_at = pairs[::-(-len(pairs) // MAX_HEADERS)]
    return len(pairs), [(gt, _header(gt_key, gt), _header(lq_key, lq)) for gt, lq in looked_at]


def _name_pairs(dataset: dict[str, Any], roots: dict[str, str], gt_key: str, lq_key: str) -> list[Pair]:
    listing = next((key for key in ('meta_info_file', 'meta_info') if dataset.get(key) is not None), None)
    if listing == 'meta_info' and gt_key != lq_key:
        return _listed_pairs(listing, dataset[listing])
    names = _listed(listing, dataset[listing]) if listing else _scan(gt_key, roots[gt_key])
    if gt_key == lq_key:
        return [(name, name) for name in names]
    count = len(_scan(lq_key, roots[lq_key]))
    if not listing and count != len(names):
        raise UserError(f'{lq_key}: {count} pictures, {gt_key} has {len(names)}')
    template = dataset.get('filename_tmpl') or '{}'
    return [(name, _partner(template, name)) for name in names]


def _partner(template: str, name: str) -> str:
    stem, suffix = os.path.splitext(os.path.basename(name))
    try:
        return template.format(stem) + suffix
    except (KeyError, IndexError, ValueError):
        raise UserError(f'filename_tmpl: {template!r} is no template for a name, such as {{}}x4') from None


def _scan(key: str, root: str) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_file() and not entry.name.startswith('.'))
    if not names:
        raise UserError(f'{key}: {root}: no pictures in this folder')
    return names


def _listed(key: str, file: str) -> list[str]:
    """Names in a listing with one ``name ...`` a line."""
    return [_inside(key, file, line.split()[0]) for line in _lines(key, file)]


def _listed_pairs(key: str, file: str) -> list[Pair]:
    """Names in a listing with one ``HR name, LR name`` a line."""
    lines = [line.strip().split(', ') for line in _lines(key, file)]
    wrong = next((line for line in lines if len(line) != 2), None)
    if wrong:
        raise UserError(f'{key}: {file}: not `HR name, LR name`: {", ".join(wrong)}')
    return [(_inside(key, file, gt), _inside(key, file, lq)) for gt, lq in lines]


def _lines(key: str, file: str) -> list[str]:
    try:
        lines = [line for line in Path(file).read_text(encoding='utf-8').splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f'{key}: {file}: cannot be read') from None
    if not lines:
        raise UserError(f'{key}: {file}: lists no picture')
    return lines


def _inside(key: str, file: str, name: str) -> str:
    """A listed name, which BasicSR joins to the data root as it is; it may not lead out of it."""
    if os.path.isabs(name) or '..' in PurePath(name).parts:
        raise UserError(f'{key}: {file}: {name} leads out of the data folder')
    return name


def _header(key: str, path: str) -> Size:
    """Size of a picture as shown, by its header; one that does not end as its format should is decoded, to be sure."""
    try:
        return picture_size(Path(path), whole=True)
    except UnreadableError as error:
        raise UserError(f'{key}: {path}: not a picture that can be read ({error})') from None
