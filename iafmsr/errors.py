"""Errors that a user can cause, and how a command reports them."""

import difflib
import errno
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# what would break a line, or a terminal, as a name of a file may hold it: shown as Python writes it
_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, 0x85, 0x2028, 0x2029) if chr(code) != '\n'}


class UserError(ValueError):
    """A mistake of the user's. Its message names the culprit (a file, an option key or a value) in one line; where
    several faults were found, it has a line for each."""

    def __init__(self, message: str) -> None:
        # torch raises a data worker's error again with a message that is the traceback and, last, what was said
        super().__init__(message.rpartition('iafmsr.errors.UserError: ')[2].strip().translate(_CONTROL))


@contextmanager
def without_warnings() -> Iterator[None]:
    """A block whose warnings no user can act on; ``catch_warnings`` takes an action from Python 3.11 on only."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` with the nearest of the known names, or nothing when none is near."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5) or [k for k in known if str(name) in k]
    return f' (did you mean {near[0]}?)' if near else ''


def say(line: str) -> None:
    """Tells the user of a command, on stderr, what it does or leaves out."""
    print(f'iafmsr: {line}', file=sys.stderr)


@contextmanager
def cli_errors() -> Iterator[None]:
    """Turns a `UserError` into `iafmsr: error: ...` on stderr and exit code 2, as well as a stdout that is full or
    closed, and Ctrl-C into exit code 130, all without a traceback.

    For the entry points of commands, as a context manager (`with cli_errors():`) or a decorator (`@cli_errors()`).

    Raises:
        SystemExit: In place of the two.
    """
    try:
        yield
        sys.stdout.flush()  # here a full disk is a line; at the exit of the process it would be a traceback
    except UserError as error:
        for fault in str(error).splitlines():
            print(f'iafmsr: error: {fault}', file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more
        print(f'iafmsr: error: the output cannot be written ({error.strerror})', file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
