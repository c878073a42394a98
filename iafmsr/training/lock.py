"""One process at a time on a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iafmsr.errors import UserError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, which need not exist yet, against other processes.

    The lock is on a file beside the folder, since the folder itself may be renamed. The system takes it back however
    the process ends.

    Raises:
        UserError: another process holds the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f'.{folder.name}.lock'), 'a+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f'{folder}: process {file.read().strip()} is at work in it; wait for its end, or take another name'
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
