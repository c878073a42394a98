"""Whether the pictures that a dataset section names are there, in pairs, and of matching sizes.

Cheap: an LMDB is judged by its meta_info.txt and its keys, a folder by its names and the headers of its pictures.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

from iafmsr.errors import UserError
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size
from iafmsr.training.checks.data_lmdb import TEACHER, Size, check_teacher, listed_sizes, more, read_lmdbs

Pair = tuple[str, str]  # names or paths of the HR and the LR picture

# as many headers are read, spread over the folder, so that the check stays within about a second
MAX_HEADERS = 500


def check_dataset(dataset: dict[str, Any], scale: int, phase: str, measured: int = 1) -> tuple[int, list[str]]:
    """Check the files of a dataset section whose keys are sound and whose paths are absolute.

    Args:
        dataset: section of the options, with ``dataroot_gt``, ``dataroot_lq`` or both.
        scale: HR is this many times LR; when validating, HR may have up to ``scale - 1`` more rows and columns, which
            BasicSR crops.
        phase: ``train``, ``val`` or ``test``.
        measured: pixels that the metrics need in height and width, where there is ground truth.

    Returns:
        Number of pictures (0 when there are faults) and the faults, each starting with the key that it concerns.
    """
    roots = roots_of(dataset)
    read = read_lmdbs if dataset['io_backend']['type'] == 'lmdb' else _read_folders
    faults = [f'{key}: {fault}' for key, root in roots.items() if (fault := _root_fault(root, read is read_lmdbs))]
    if faults:
        return 0, faults
    teacher = roots.pop(TEACHER, None)
    try:
        count, sizes = read(dataset, roots)
        if teacher:
            check_teacher(teacher, dataset['dataroot_lq'], {name: gt for name, gt, _ in sizes})
    except UserError as error:
        return 0, [str(error)]
    patch = dataset['gt_size'] if phase == 'train' and len(roots) == 2 else 0
    spare = 0 if phase == 'train' else scale - 1
    faults = _size_faults(sizes, scale, spare, patch) if len(roots) == 2 else []
    return count, faults or ([] if phase == 'train' or 'dataroot_gt' not in roots else _small(sizes, scale, measured))


def roots_of(dataset: dict[str, Any]) -> dict[str, str]:
    """Folders or LMDBs of a dataset by their keys."""
    return {key: dataset[key] for key in ('dataroot_gt', 'dataroot_lq', TEACHER) if dataset.get(key) is not None}


def one_by_one(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """A section for each folder or LMDB of each side, where the keys of a dataset list several."""
    lists = [(key, dataset[key]) for key in roots_of(dataset) if isinstance(dataset[key], list)]
    return [
        dataset | dict(part) for part in zip(*([(key, root) for root in roots] for key, roots in lists), strict=True)
    ] or [dataset]


def names_of(dataset: dict[str, Any], key: str) -> list[str]:
    """Paths, or keys of an LMDB, of the pictures of one side of a sound dataset."""
    if dataset['io_backend']['type'] == 'lmdb':
        return list(listed_sizes(Path(dataset[key], 'meta_info.txt').read_text(encoding='utf-8')))
    roots = roots_of(dataset)
    return [pair[list(roots).index(key)] for pair in _pairs_in_folders(dataset, roots)]


def same_names(dataset: dict[str, Any]) -> str | None:
    """A name that two pictures of a sound dataset have but for folder and suffix, by which results are named."""
    key = next(key for key in ('dataroot_lq', 'dataroot_gt') if dataset.get(key) is not None)
    names = Counter(os.path.splitext(os.path.basename(name))[0] for name in names_of(dataset, key))
    return next((name for name, count in names.items() if count > 1), None)


def _root_fault(root: str, as_lmdb: bool) -> str | None:
    if not os.path.isdir(root):
        parts = PurePath(root).parts
        way = '; iafmsr demo --train, or bash scripts/demo.sh in a clone, makes the folder datasets/demo'
        return f'{root}: no such folder' + way * (('datasets', 'demo') in zip(parts, parts[1:], strict=False))
    if as_lmdb and not root.endswith('.lmdb'):
        return f'{root}: the name of an LMDB must end in .lmdb'
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
        faults.append(
            f'dataroot_lq: HR must be {scale} x LR, but {name} has HR {gt_w}x{gt_h}, LR {lq_w}x{lq_h}' + more(uneven)
        )
    if small:
        name, (gt_h, gt_w), _ = small[0]
        faults.append(f'gt_size: patches of {patch} do not fit into {name}, {gt_w}x{gt_h}' + more(small))
    return faults


def _small(sizes: list[tuple[str, Size, Size]], scale: int, measured: int) -> list[str]:
    """The fault of HR pictures of which nothing could be measured; what is no multiple of the scale is cut off."""
    small = [(name, gt) for name, gt, _ in sizes if min(gt) // scale * scale < measured]
    if not small:
        return []
    name, (height, width) = small[0]
    return [f'dataroot_gt: {name}: {width}x{height}, but the metrics need {measured} pixels{more(small)}']


# -- folders ----------------------------------------------------------------------------------------------------------
def _read_folders(dataset: dict[str, Any], roots: dict[str, str]) -> tuple[int, list[tuple[str, Size, Size]]]:
    """Pairs as BasicSR makes them, or the one side there is twice; sizes of up to ``MAX_HEADERS`` of them."""
    gt_key, lq_key = next(iter(roots)), list(roots)[-1]
    pairs = _pairs_in_folders(dataset, roots)
    for key, paths in zip((gt_key, lq_key), zip(*pairs, strict=True), strict=True):
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise UserError(f'{key}: {missing[0]}: no such picture{_beside(missing[0])}{more(missing)}')
    looked_at = pairs[:: -(-len(pairs) // MAX_HEADERS)]
    return len(pairs), [(gt, _header(gt_key, gt), _header(lq_key, lq)) for gt, lq in looked_at]


def _beside(missing: str) -> str:
    """What is there of the name of a picture that is not, but for the suffix."""
    stem = os.path.splitext(os.path.basename(missing))[0]
    folder = os.path.dirname(missing)
    found = [name for name in os.listdir(folder) if os.path.splitext(name)[0] == stem] if os.path.isdir(folder) else []
    return f', but {min(found)}; the pictures of a pair must have the same suffix' if found else ''


def _pairs_in_folders(dataset: dict[str, Any], roots: dict[str, str]) -> list[Pair]:
    """Paths of the pairs as BasicSR makes them, or of the one side there is twice."""
    gt_key, lq_key = next(iter(roots)), list(roots)[-1]
    names = _name_pairs(dataset, roots, gt_key, lq_key)
    return [(os.path.join(roots[gt_key], gt), os.path.join(roots[lq_key], lq)) for gt, lq in names]


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
    if not re.fullmatch(r'[^{}]*\{0?\}[^{}]*', template):
        raise UserError(f'filename_tmpl: {template!r} must be a template for a name, such as {{}}x4')
    return template.format(stem) + suffix


def _scan(key: str, root: str) -> list[str]:
    entries = sorted((entry for entry in os.scandir(root) if not entry.name.startswith('.')), key=lambda e: e.name)
    names = [entry.name for entry in entries if entry.is_file()]
    if not names:
        inside = f'; those of sub-folders, such as {entries[0].name}, are not read' if entries else ''
        raise UserError(f'{key}: {root}: no pictures in this folder{inside}')
    return names


def _listed(key: str, file: str) -> list[str]:
    """Names in a listing with one ``name ...`` a line."""
    return [_inside(key, file, line.split()[0]) for line in _lines(key, file)]


def _listed_pairs(key: str, file: str) -> list[Pair]:
    """Names in a listing with one ``HR name, LR name`` a line."""
    lines = [line.strip().split(', ') for line in _lines(key, file)]
    wrong = next((line for line in lines if len(line) != 2), None)
    if wrong:
        raise UserError(f'{key}: {file}: a line must be `HR name, LR name`: {", ".join(wrong)}')
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
