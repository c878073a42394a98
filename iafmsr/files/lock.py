"""One process at a time on a folder."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from iafmsr.errors import UserError
from iafmsr.files.names import printable

if sys.platform == 'win32':
    import msvcrt
else:
    import fcntl

__all__ = ['folder_lock']

_FAR = 2**30  # a byte that no file has: on Windows what is locked cannot be read


@contextmanager
def folder_lock(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder, which need not exist yet, against other processes.

    The lock is on a file beside the folder, since the folder itself may be renamed; where nothing can be written beside
    it, the file is in the folder. The file is removed at the end. The system takes the lock back however the process
    ends.

    Args:
        folder: to be held.
        wait: for the end of a process that holds it.

    Raises:
        UserError: another process holds the folder, or it cannot be written to.
    """
    try:
        file = _held(folder, wait)
    except OSError as error:
        raise UserError(f'{printable(folder)}: cannot be written ({error.strerror})') from None
    with file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(file.name)


def _held(folder: Path, wait: bool) -> TextIOWrapper:
    while True:
        file = _lock_file(folder)
        try:
            _take(file, wait)
        except BlockingIOError:
            file.seek(0)
            with file:
                raise UserError(
                    f'{printable(folder)}: process {file.read().strip()} is using it; '
                    'wait until it ends, or choose another name'
                ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                return file
        file.close()  # its last holder has removed it meanwhile


def _take(file: TextIOWrapper, wait: bool) -> None:
    """Lock a file, until it is closed.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == 'win32':
        while True:
            os.lseek(file.fileno(), _FAR, os.SEEK_SET)
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, error.strerror) from None
            time.sleep(0.1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _lock_file(folder: Path) -> TextIOWrapper:
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return open(folder.parent / f'.{folder.name}.lock', 'a+', encoding='utf-8')
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return open(folder / '.lock', 'a+', encoding='utf-8')
