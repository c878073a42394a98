"""How long the processes of a run wait for each other and for their data workers, and what is said at its end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist

from iafmsr.errors import UserError

__all__ = ['WorkerWatch', 'waiting']


@contextmanager
def waiting(opt: dict[str, Any]) -> Iterator[None]:
    """A block of a run whose processes wait for each other for ``train.timeout`` seconds at most.

    Raises:
        UserError: another process has not answered; one of this machine that is stopped is named.
    """
    seconds, others = opt['train']['timeout'], {}
    if opt['dist']:
        found: list[Any] = [None] * opt['world_size']
        dist.all_gather_object(found, (socket.gethostname(), os.getpid()))
        others = {f'rank {rank}': pid for rank, (host, pid) in enumerate(found) if host == socket.gethostname()}
    try:
        yield
    except RuntimeError as error:
        if 'Timed out waiting' not in str(error):  # gloo's words
            raise
        raise UserError(
            f'another process has not answered for {seconds} s, which is train.timeout{_stopped(others)}'
        ) from None


def _stopped(processes: Mapping[str, int]) -> str:
    """Which of some processes of this machine are stopped, by SIGSTOP, say; empty where none is."""
    names = [f'{name} (process {pid}) is stopped' for name, pid in processes.items() if _state(pid) in ('T', 't')]
    return ''.join(f'; {name}' for name in names)


def _state(pid: int) -> str:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:  # it has ended, or the system has no such files
        return ''


class WorkerWatch:
    """Ends the data workers of a loader when a batch is waited for too long.

    A loader's own time-out does not see a worker that stops while a tensor is handed over.

    Args:
        batches: whose ``workers`` are watched.
        seconds: that a batch may take.
    """

    def __init__(self, batches: Any, seconds: float) -> None:
        self.batches, self.seconds = batches, seconds
        self.since: float | None = None
        self.late: str | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def __enter__(self) -> None:
        self.since = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.since = None
        if error is not None and self.late is not None:
            raise UserError(self.late) from None

    def end(self) -> None:
        """End the watch."""
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(min(1, self.seconds / 4)):
            since = self.since
            if since is not None and time.monotonic() - since > self.seconds:
                workers = {f'worker {number}': worker.pid for number, worker in enumerate(self.batches.workers)}
                self.late = (
                    f'no batch from the data workers for {self.seconds} s, which is datasets.train.timeout'
                    + _stopped(workers)
                )
                for worker in self.batches.workers:
                    worker.kill()  # whoever waits for it gets an error
                return
