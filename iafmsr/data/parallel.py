"""Work on many pictures at a time."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ['in_order']

Item = TypeVar('Item')
Result = TypeVar('Result')


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """The function's results in the order of the items, a bounded number of them ahead of the reader.

    Threads do: decoding, resizing and encoding pictures all release the interpreter's lock.

    Args:
        function: Called in other threads.
        items: Its arguments.
        workers: Calls at a time; one for each CPU core by default.
    """
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
