"""Download of archives of pictures.

An interrupted download goes on where it stopped (HTTP ranges). All pictures are counted and decoded once, and only then
does their folder get its name. The archive's MD5 is kept beside it, and compared whenever it is unpacked; the log says
where it is not the published one.
"""

import functools
import hashlib
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from iafmsr.data.parallel import in_order
from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.files.names import printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import read_picture
from iafmsr.files.whole import replace_file
from iafmsr.tools.prepare.sources import Source
from iafmsr.tools.prepare.stores import partial

__all__ = ['download']

_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 5  # in a row without progress
_PAUSE = 2  # seconds before the next attempt
_CHUNK = 1 << 20

Member = tuple[PurePosixPath, int, Callable[[], IO[bytes]]]  # path, size in bytes, and how to open it


def download(source: Source, output: Path) -> Path:
    """Get the pictures of a source, or what is missing of them.

    An archive or a folder of pictures that was put in its place by hand is taken as it is.

    Args:
        source: What to get.
        output: Folder of all data sets; the pictures come to their folder in ``output / source.name``.

    Returns:
        The folder of the pictures.

    Raises:
        UserError: The archive cannot be had, with a word on what to fetch by hand; it is damaged or not the right one;
            another process downloads it; or the disk is full.
    """
    folder = output / source.name / (source.folder or source.pictures)
    archive = output / source.name / source.archive
    if folder.exists():
        _check_count(source, folder)
        _say(f'{printable(folder)}: all {source.count} pictures exist')
        return folder
    try:
        with folder_lock(archive.parent):
            _fetch_and_unpack(source, archive, folder)
    except OSError as error:
        raise UserError(f'{printable(archive)}: {error}; finished parts are kept, run again to continue') from error
    _say(f'{printable(folder)}: {source.count} pictures, all decodable; {printable(archive)} is no longer needed')
    return folder


def _fetch_and_unpack(source: Source, archive: Path, folder: Path) -> None:
    if folder.exists():  # made by another process before the lock was free
        return
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source, archive)
    unpacked = partial(folder)
    unpacked.mkdir(parents=True, exist_ok=True)
    _check_sum(source, archive)
    _extract(source, archive, unpacked)
    _check_count(source, unpacked)
    _check_decodable(unpacked)
    unpacked.rename(folder)


def _fetch(source: Source, archive: Path) -> None:
    """Download to a temporary name, with several attempts that go on where the last one stopped."""
    unfinished, failures = partial(archive), 0
    while True:
        size = unfinished.stat().st_size if unfinished.exists() else 0
        try:
            _fetch_rest(source.url, unfinished, size)
            unfinished.rename(archive)
            return
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            progress = unfinished.exists() and unfinished.stat().st_size > size
            failures = 0 if progress else failures + 1
            final = isinstance(error, HTTPError) and error.code < 500
            if final or failures == _ATTEMPTS:
                reason = error.reason if isinstance(error, URLError) else error
                raise UserError(
                    f'{source.url}: {reason}; run again to continue, or download it by hand to {printable(archive)}'
                ) from error
            time.sleep(_PAUSE)


def _fetch_rest(url: str, unfinished: Path, size: int) -> None:
    """Append to a file of ``size`` bytes what is missing; start over where the server cannot go on."""
    try:
        response = urlopen(Request(url, headers={'Range': f'bytes={size}-'} if size else {}), timeout=_TIMEOUT)
    except HTTPError as error:
        if size and error.code == 416:  # no bytes after these: all there, or not of this file
            if error.headers.get('Content-Range', '').rpartition('/')[2] != str(size):
                unfinished.unlink()
                _fetch_rest(url, unfinished, 0)
            return
        raise
    with response:
        size = size if response.status == 206 else 0
        length = response.headers.get('Content-Length', '')
        total = size + int(length) if length.isdecimal() else None
        if total is not None:
            _check_space(unfinished, total - size, total)
        with (
            open(unfinished, 'r+b' if size else 'wb') as file,
            tqdm(total=total, initial=size, desc=unfinished.stem, unit='B', unit_scale=True, disable=None) as bar,
        ):
            file.seek(size)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            received = file.tell()
        if total is not None and received != total:
            raise ConnectionError(f'the connection ended after {received} of {total} bytes')


def _check_space(unfinished: Path, needed: int, total: int) -> None:
    free = shutil.disk_usage(unfinished.parent).free
    figures = f'{total / 1e9:.2f} GB, {needed / 1e9:.2f} GB to download, {free / 1e9:.2f} GB of disk free'
    if needed > free:
        raise UserError(f'{printable(unfinished)}: not enough disk space: {figures}')
    _say(f'{unfinished.stem}: {figures}')


def _extract(source: Source, archive: Path, folder: Path) -> None:
    """Unpack the pictures that are not there yet; a name in the archive decides nothing but the picture's own name."""
    wanted = PurePosixPath(source.pictures).parts
    try:
        with _open_archive(archive) as members, tqdm(total=source.count, desc='unpacking', disable=None) as bar:
            for path, size, content in members:
                if path.parent.parts[-len(wanted) :] != wanted or path.suffix.lower() != '.png':
                    continue
                target = folder / path.name
                if not (target.exists() and target.stat().st_size == size):
                    with content() as reader, open(partial(target), 'wb') as writer:
                        shutil.copyfileobj(reader, writer)
                    partial(target).rename(target)
                bar.update()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f'{printable(archive)} is damaged ({error}): delete it and run again') from error


@contextmanager
def _open_archive(archive: Path) -> Iterator[Iterator[Member]]:
    """The files in a zip or tar archive, in order."""
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive) as file:
            yield (
                (PurePosixPath(info.filename), info.file_size, functools.partial(file.open, info))
                for info in file.infolist()
            )
    else:
        with tarfile.open(archive) as file:
            yield (
                (PurePosixPath(info.name), info.size, functools.partial(_content, file, info))
                for info in file
                if info.isfile()
            )


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None, 'a file has one'
    return content


def _check_sum(source: Source, archive: Path) -> None:
    """Write down the archive's MD5 at the first look, and hold it against that later."""
    digest, record = hashlib.md5(usedforsecurity=False), archive.with_name(f'{archive.name}.md5')
    with open(archive, 'rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found, before = digest.hexdigest(), record.read_text().split() if record.exists() else []
    if before and before[0] != found:
        raise UserError(
            f'{printable(archive)} is damaged (its MD5 is {found}, it was {before[0]}): delete it and '
            f'{record.name}, and run again'
        )
    if not before:
        replace_file(record, f'{found}  {archive.name}\n'.encode())
        if source.md5 not in (None, found):
            _say(f'{printable(archive)}: its MD5 is {found}, but torchSR gives {source.md5}; its pictures are checked')


def _check_count(source: Source, folder: Path) -> None:
    found = sum(1 for _ in folder.glob('*.png'))
    if found != source.count:
        raise UserError(
            f'{printable(folder)} has {found} pictures, but {source.name} has {source.count}: delete it and run again'
        )


def _check_decodable(folder: Path) -> None:
    def fault(path: Path) -> str | None:
        try:
            read_picture(path)
        except UnreadableError as error:
            return f'{path.name} ({error})'
        return None

    paths = sorted(folder.glob('*.png'))
    faults = [f for f in tqdm(in_order(fault, paths), total=len(paths), desc='decoding', disable=None) if f]
    if faults:
        raise UserError(
            f'{printable(folder)}: {len(faults)} pictures are broken, e.g. {faults[0]}; delete the archive '
            'and this folder and run again'
        )


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
