"""How long the stages of an iteration take."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

__all__ = ['Stopwatch', 'replaced']


class Stopwatch:
    """Seconds by stage. A stage within another one is that one's no more: stages add up to the whole.

    Args:
        device: on CUDA a stage ends when the device has done its work.

    Attributes:
        seconds (dict[str, float]): by stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens inside is of this stage."""
        self._turn(name)
        try:
            yield
        finally:
            self._turn(None)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose calls are of this stage."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return run

    def _turn(self, name: str | None) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._running.append(name) if name else self._running.pop()
        self._since = now


@contextmanager
def replaced(*places: tuple[Any, str, Callable[[Any], Any]]) -> Iterator[None]:
    """Attributes are other ones while the context lasts.

    Args:
        places: owner, name, and what makes the other one of the one that is there; an owner without it is passed over.
    """
    with ExitStack() as stack:
        for owner, name, change in places:
            if not hasattr(owner, name):
                continue
            own = name in vars(owner)
            before = getattr(owner, name)
            stack.callback(*((setattr, owner, name, before) if own else (delattr, owner, name)))
            setattr(owner, name, change(before))
        yield
