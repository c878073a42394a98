"""Files of pictures opened, and what goes wrong with them said in a line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from iafmsr.files.picture import UnreadableError

__all__ = ['opened', 'reasons']


@contextmanager
def opened(source: Path | bytes) -> Iterator[BinaryIO]:
    """A file, or its content as one.

    Raises:
        UnreadableError: there is something else of that name.
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if source.exists() and not source.is_file():
        raise UnreadableError('not a file')  # but a device or a pipe, which may never end
    with open(source, 'rb') as file:
        yield file


@contextmanager
def reasons() -> Iterator[None]:
    """Whatever a decoder raises on a broken file, as a line."""
    try:
        yield
    except UnreadableError:
        raise
    except OSError as error:
        if error.strerror:
            raise UnreadableError(f'cannot be read ({error.strerror})') from None
        raise UnreadableError(f'cannot be decoded ({_line(error)})') from None
    except Exception as error:
        raise UnreadableError(f'cannot be decoded ({_line(error)})') from None


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition('\n')[0] or type(error).__name__
