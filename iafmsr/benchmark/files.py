"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from iafmsr.data.pictures import printable
from iafmsr.errors import UserError

__all__ = ['check_writable', 'write_whole']


def check_writable(path: Path) -> None:
    """Find out before hours of work whether a file can be written at their end; leaves nothing behind but its folder.

    Raises:
        UserError: when it cannot.
    """
    trial = _partial(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        _remove(trial)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it; an old file stays until then.

    Raises:
        UserError: the disk is full, the folder read-only, or the like; nothing is left behind.
    """
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    with suppress(OSError):  # of a folder that is no folder there is nothing to remove
        path.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f'.{path.name}.{os.getpid()}.partial')


def _refusal(path: Path, error: OSError) -> UserError:
    return UserError(f'{printable(path)}: cannot be written ({error.strerror})')
