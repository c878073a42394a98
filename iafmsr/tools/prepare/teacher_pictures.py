"""The pictures that a teacher makes of a prepared set's LR, in an LMDB beside it: to learn from beside HR."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lmdb
import torch
from tqdm import tqdm

from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.files.names import PictureFile, list_pictures, printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import read_picture
from iafmsr.nets.files import find_weights
from iafmsr.nets.loading import load_net
from iafmsr.nets.tiles import DEFAULT_TILE, Enlarger
from iafmsr.ops.resize import at_scale
from iafmsr.tools.prepare.forms import SubImages
from iafmsr.tools.prepare.record import Report, read_record
from iafmsr.tools.prepare.stores import Store, encode_png

__all__ = ['add_teacher']


def add_teacher(inputs: Sequence[Path], output: Path, form: SubImages, weights: str, ensemble: bool = False) -> Path:
    """Make the teacher's pictures of a set that :func:`~iafmsr.tools.prepare.preparation.prepare` has made.

    The teacher enlarges the LR of each whole picture. The result is rounded to 8 bits, cut as HR is, and kept under
    HR's keys. An interrupted call goes on where it stopped; one that has nothing to do ends at once.

    Args:
        inputs: the folders with the original pictures.
        output: the folder of the set.
        form: as for the set.
        weights: file of the teacher, or its name in the project's ``weights/``; it tells the scale.
        ensemble: the mean over the eight flips and rotations of a picture.

    Returns:
        The LMDB, ``SR_<weights>_<digest of the file>_X<scale>_sub.lmdb``; ``_ensemble`` is part of the name.

    Raises:
        UserError: no such weights, no set of these pictures, a picture that cannot be read any more, a full disk, or
            another process is at work in ``output``.
    """
    file, given = find_weights(weights)
    trained = load_net(file, given)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    trained.net.to(device)
    path = output / f'SR_{_name(file, given)}{"_ensemble" * ensemble}_X{trained.scale}_sub.lmdb'
    pictures = list_pictures(inputs)
    try:
        report = read_record(output, form, pictures)
        if report is None or not (output / form.folder(trained.scale)).exists():
            raise UserError(f'{printable(output)}: no prepared set of scale {trained.scale}, the scale of {weights}')
        if not path.exists():
            with folder_lock(output):
                _make(path, pictures, report, form, Enlarger(trained, device), ensemble)
    except (OSError, lmdb.Error) as error:
        raise UserError(f'{printable(path)}: {error}; finished parts are kept, run again to continue') from error
    return path


def _name(file: Path, given: Mapping[str, Any]) -> str:
    """Of a teacher: its file's name, and a digest of the file and of the keywords that were given with it."""
    digest = hashlib.sha256(file.read_bytes() + (repr(given).encode() if given else b'')).hexdigest()[:8]
    return f'{quote(file.stem, safe="")}_{digest}'


def _make(
    path: Path, pictures: list[PictureFile], report: Report, form: SubImages, enlarger: Enlarger, ensemble: bool
) -> None:
    if path.exists():  # made by another process before the lock was free
        return
    left_out = report.unreadable.keys() | report.unused.keys()
    with closing(form.open(path)) as store:
        _fill(store, [picture for picture in pictures if picture.path.name not in left_out], form, enlarger, ensemble)
        if len(store) != report.pieces:
            raise UserError(f'{printable(path)}: has {len(store)} pieces, but the set has {report.pieces}')
        store.finish()


def _fill(store: Store, pictures: list[PictureFile], form: SubImages, enlarger: Enlarger, ensemble: bool) -> None:
    for picture in tqdm(pictures, 'teacher', unit='picture', disable=None, file=sys.stderr):
        if form.first_name(picture, 1) in store:
            continue
        try:
            lq = at_scale(read_picture(picture.path), enlarger.trained.scale)
        except UnreadableError as error:
            raise UserError(f'{printable(picture.path)}: {error}; it was readable when the set was made') from error
        sr = enlarger(lq.permute(1, 2, 0).contiguous().numpy(), DEFAULT_TILE, ensemble)
        pieces = form.cut(picture, torch.from_numpy(sr).permute(2, 0, 1), [1])[1]
        store.add([(name, encode_png(piece)) for name, piece in pieces])
