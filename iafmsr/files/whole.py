"""Files that are there whole or not at all: the one way in which this project writes a file."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from iafmsr.errors import UserError
from iafmsr.files.names import printable

__all__ = ['LONGEST_NAME', 'check_writable', 'clear_leftovers', 'own_folder', 'replace_file', 'write_whole']

LONGEST_NAME = 255  # bytes, of a file's name
_HOST = re.sub(r'\W', '', socket.gethostname())[:40]
_PARTIAL = re.compile(rf'\..*\.{_HOST}-(\d+)\.partial', re.DOTALL)


def check_writable(path: Path) -> None:
    """Find out before hours of work whether a file can be written at their end; leaves nothing behind but its folder.

    What a process that was killed left half-written in that folder is removed.

    Raises:
        UserError: it cannot be written.
    """
    trial = _partial(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if len(os.fsencode(path.name)) > LONGEST_NAME:  # the trial has a shorter name
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        _remove(trial)
    clear_leftovers(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """:func:`replace_file` for a file that a user named; its folder is made where it is missing.

    Raises:
        UserError: the disk is full, the folder read-only, or the like; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise _refusal(path, error) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under another name, flush it to the disk and rename it; an old file stays until then.

    Raises:
        OSError: the disk is full, say. What lay at ``path`` is as it was, and nothing is left beside it.
    """
    partial = _partial(path)
    try:
        with open(partial, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        _remove(partial)
    if os.name == 'posix':  # elsewhere a folder is no file that could be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, has to be on the disk
        finally:
            os.close(folder)


def clear_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed left half-written in a folder."""
    with suppress(OSError):  # no folder, or no right to it: whoever writes there says so
        for name in os.listdir(folder):
            if (match := _PARTIAL.fullmatch(name)) and not _runs(int(match[1])):
                _remove(folder / name)


def own_folder(name: str) -> Path:
    """A new folder of this process among the temporary ones; those of killed processes of this machine are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f'{name}-{_HOST}-*'):
        pid = folder.name.removeprefix(f'{name}-{_HOST}-').partition('-')[0]
        if pid.isdecimal() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f'{name}-{_HOST}-{os.getpid()}-'))


def _runs(pid: int) -> bool:
    if os.name != 'posix':  # elsewhere there is no harmless signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _partial(path: Path) -> Path:
    """The name of a file that is not whole yet: it tells which process of which machine writes it."""
    ending = f'.{_HOST}-{os.getpid()}.partial'
    name = os.fsdecode(os.fsencode(path.name)[: LONGEST_NAME - 1 - len(ending)])
    return path.with_name(f'.{name}{ending}')


def _remove(path: Path) -> None:
    with suppress(OSError):  # of a folder that is no folder there is nothing to remove
        path.unlink()


def _refusal(path: Path, error: OSError) -> UserError:
    return UserError(f'{printable(path)}: cannot be written ({error.strerror})')
