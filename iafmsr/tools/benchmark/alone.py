"""Runs a network in a process of its own, as its users do."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import torch

from iafmsr.errors import UserError

__all__ = ['Alone']


class Alone(AbstractContextManager['Alone']):
    """An object that lives in another process and answers questions there, with as many threads as torch has here.

    Within one process networks disturb each other: the C library learns from the largest block that anyone ever took
    which memory to keep, and a network that takes smaller ones is up to a fifth faster for it (docs/speed.md).

    Args:
        name: of the object, in messages.
        build: makes it, at the first question; a function or method whose name can travel, as can
        args: its arguments.
    """

    def __init__(self, name: str, build: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context('spawn')  # a fork would inherit threads and memory
        self._name, (self._connection, other) = name, context.Pipe()
        # no daemon, which may have no data workers; when the other end of the pipe is gone it ends by itself
        self._process = context.Process(
            target=_serve, args=(other, name, build, args, torch.get_num_threads(), multiprocessing.get_start_method())
        )
        self._process.start()
        other.close()

    def ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """``question(object, *args)``, computed there; a function of a module, since its name is what travels.

        Raises:
            UserError: the object cannot be built, an operator fails, of memory mostly, or the process is gone.
        """
        try:
            self._connection.send((question, args))
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise UserError(f'{self._name}: its process has ended, perhaps for lack of memory') from None
        if isinstance(answer, UserError):
            raise answer
        return answer

    def __exit__(self, *error: object) -> None:
        self._connection.close()  # is the end of the process, unless it computes still
        self._process.join(timeout=1)
        self._process.terminate()


def _serve(
    connection: Connection, name: str, build: Callable[..., Any], args: tuple[Any, ...], threads: int, start_method: str
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the process that asks
    torch.set_num_threads(threads)
    multiprocessing.set_start_method(start_method, force=True)  # its data workers start as they do elsewhere
    built: list[Any] = []
    while True:
        try:
            question, values = connection.recv()
        except EOFError:
            return
        try:
            if not built:
                built.append(build(*args))
            answer = question(built[0], *values)
        except UserError as error:
            answer = error
        except RuntimeError as error:
            reason = str(error).partition('\n')[0]
            answer = UserError(f'{name}: {reason}')
        connection.send(answer)
