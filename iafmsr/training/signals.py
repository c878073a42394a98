"""Leaving a run on a signal, between two iterations and with all processes together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: what was asked for is not done, try again later
# Windows has no SIGUSR1
_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name)]


class StopSignal:
    """Remembers that Ctrl-C, SIGTERM or SIGUSR1 came in; a second Ctrl-C ends the process at once, with code 130.

    Attributes:
        name: of the signal that came in.
        timeout: of waiting for the other processes; None: torch's own.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.timeout: timedelta | None = None
        self._interrupted = False
        self._group: dist.ProcessGroup | None = None
        self._asked: tuple[torch.Tensor, dist.Work] | None = None

    @contextmanager
    def watched(self) -> Iterator[StopSignal]:
        """The signals are taken while the context lasts."""
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                os._exit(130)
            self._interrupted = True
        self.name = signal.Signals(number).name

    def agreed(self) -> bool:
        """Whether the run has to stop; of several processes, all get the same answer.

        Each asks the others as it goes into an iteration and reads their answer at the next: by then it is there, so
        that nobody waits. The question goes by gloo, so that no GPU has to be waited for.
        """
        if not dist.is_initialized():
            return self.name is not None
        if self._group is None:
            self._group = dist.new_group(backend='gloo', timeout=self.timeout)
        stop = False
        if self._asked is not None:
            flag, work = self._asked
            work.wait()
            stop = bool(flag.item())
        flag = torch.tensor(int(self.name is not None))
        self._asked = flag, dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return stop

    def wait_for_all(self) -> None:
        """Returns when every process has come here."""
        if self._group is not None:
            dist.barrier(self._group)


def leave_signals_to_the_main_process() -> None:
    """For data workers: a signal to the process group must not take the data from an iteration to be finished."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
