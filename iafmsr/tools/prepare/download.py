"""Download of DF2K: DIV2K's 800 training pictures and Flickr2K's 2,650, from the addresses their authors give.

An interrupted download goes on where it stopped (HTTP ranges). There is no published checksum; instead all pictures are
counted and decoded once, and only then does their folder get its name.
"""

import functools
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from iafmsr.tools.prepare.stores import partial

__all__ = ['DF2K', 'Source', 'download']

_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 5  # in a row without progress
_PAUSE = 2  # seconds before the next attempt
_CHUNK = 1 << 20

Member = tuple[PurePosixPath, int, Callable[[], IO[bytes]]]  # path, size in bytes, and how to open it


@dataclass(frozen=True)
class Source:
    """An archive of pictures.

    Args:
        name: Folder of the data set.
        url: Address of the archive, a zip or a tar file.
        pictures: Folder of the pictures, in the archive and on the disk; others in the archive are passed over.
        count: Number of the pictures.
    """

    name: str
    url: str
    pictures: str
    count: int

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return PurePosixPath(self.url).name


DF2K = (
    Source('DIV2K', 'https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip', 'DIV2K_train_HR', 800),
    Source('Flickr2K', 'https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar', 'Flickr2K_HR', 2650),
)


def download(source: Source, output: Path) -> Path:
    """Get the pictures of a source, or what is missing of them.

    An archive or a folder of pictures that was put in its place by hand is taken as it is.

    Args:
        source: What to get.
        output: Folder of all data sets; the pictures come to ``output / source.name / source.pictures``.

    Returns:
        The folder of the pictures.

    Raises:
        UserError: The archive cannot be had, with a word on what to fetch by hand; it is damaged or not the right one;
            another process downloads it; or the disk is full.
    """
    folder, archive = output / source.name / source.pictures, output / source.name / source.archive
    if folder.exists():
        _check_count(source, folder)
        _say(f'{printable(folder)}: {source.count} pictures are there')
        return folder
    try:
        with folder_lock(archive.parent):
            _fetch_and_unpack(source, archive, folder)
    except OSError as error:
        raise UserError(f'{printable(archive)}: {error}; what is finished is kept, run again to go on') from error
    _say(f'{printable(folder)}: {source.count} pictures, all decodable; {printable(archive)} is needed no more')
    return folder


def _fetch_and_unpack(source: Source, archive: Path, folder: Path) -> None:
    if folder.exists():  # made by another process before the lock was free
        return
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source, archive)
    unpacked = partial(folder)
    unpacked.mkdir(exist_ok=True)
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
                    f'{source.url}: {reason}; run again to go on, or fetch it by hand and put it here: '
                    f'{printable(archive)}'
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
            raise ConnectionError(f'the connection broke off after {received} of {total} bytes')


def _check_space(unfinished: Path, needed: int, total: int) -> None:
    free = shutil.disk_usage(unfinished.parent).free
    figures = f'{total / 1e9:.2f} GB, {needed / 1e9:.2f} GB to get, {free / 1e9:.2f} GB of disk free'
    if needed > free:
        raise UserError(f'{printable(unfinished)}: {figures}')
    _say(f'{unfinished.stem}: {figures}')


def _extract(source: Source, archive: Path, folder: Path) -> None:
    """Unpack the pictures that are not there yet; a name in the archive decides nothing but the picture's own name."""
    try:
        with _open_archive(archive) as members, tqdm(total=source.count, desc='unpacking', disable=None) as bar:
            for path, size, content in members:
                if path.parent.name != source.pictures or path.suffix.lower() != '.png':
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


def _check_count(source: Source, folder: Path) -> None:
    found = sum(1 for _ in folder.glob('*.png'))
    if found != source.count:
        raise UserError(
            f'{printable(folder)} holds {found} pictures, {source.name} has {source.count}: delete it and run again'
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
