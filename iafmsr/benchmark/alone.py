"""A network in a process of its own, as whoever uses it runs it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from iafmsr.benchmark.nets import NetSpec
from iafmsr.errors import UserError

__all__ = ['Alone']


class Alone(AbstractContextManager['Alone']):
    """A network that lives in another process and answers questions there, with as many threads as torch has here.

    Within one process networks disturb each other: the C library learns from the largest block that anyone ever took
    which memory to keep, and a network that takes smaller ones is up to a fifth faster for it (docs/speed.md).

    Args:
        spec: the network.
    """

    def __init__(self, spec: NetSpec) -> None:
        context = multiprocessing.get_context('spawn')  # a fork would inherit threads and memory
        self._name, (self._connection, other) = spec.name, context.Pipe()
        self._process = context.Process(target=_serve, args=(other, spec, torch.get_num_threads()), daemon=True)
        self._process.start()
        other.close()

    def ask(self, question: Callable[..., Any], *args: Any) -> Any:
        """``question(net, *args)``, computed there; a function of a module, since its name is what travels.

        Raises:
            UserError: the network cannot be built, an operator fails, of memory mostly, or the process is gone.
        """
        try:
            self._connection.send((question, args))
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise UserError(f'{self._name}: its process has ended, for want of memory perhaps') from None
        if isinstance(answer, UserError):
            raise answer
        return answer

    def __exit__(self, *error: object) -> None:
        self._connection.close()  # is the end of the process, unless it computes still
        self._process.join(timeout=1)
        self._process.terminate()


@torch.no_grad()
def _serve(connection: Connection, spec: NetSpec, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the process that asks
    torch.set_num_threads(threads)
    net: nn.Module | None = None
    while True:
        try:
            question, args = connection.recv()
        except EOFError:
            return
        try:
            net = spec.build() if net is None else net
            answer = question(net, *args)
        except UserError as error:
            answer = error
        except RuntimeError as error:
            reason = str(error).partition('\n')[0]
            answer = UserError(f'{spec.name}: {reason}')
        connection.send(answer)
