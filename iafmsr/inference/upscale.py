"""Upscaling many pictures: reading and writing overlap the net, and one bad picture does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from iafmsr.data.pictures import UnreadableError, picture_size, printable
from iafmsr.errors import UserError
from iafmsr.inference.jobs import Job
from iafmsr.inference.pictures import Picture, read, write
from iafmsr.inference.tiles import Enlarger

__all__ = ['Upscaler', 'upscale_all']

_LEAST_TILE = 32
_OUT_OF_MEMORY = ('out of memory', "can't allocate memory", 'not enough memory', 'std::bad_alloc')


class Upscaler:
    """Upscales pictures of any kind: gray stays gray, alpha is upscaled as a gray picture, bits stay.

    Args:
        enlarger: has the net.
        tile: side of the tiles in pixels; 0: none. It is halved for good when memory does not suffice.
        ensemble: the mean over eight flips and rotations.
        say: is told in a line of a smaller tile.
    """

    def __init__(self, enlarger: Enlarger, tile: int, ensemble: bool, say: Callable[[str], None]) -> None:
        self.enlarger, self.tile, self.ensemble, self.say = enlarger, tile, ensemble, say

    def __call__(self, picture: Picture, progress: Callable[[float], None] = lambda share: None) -> Picture:
        """The picture at the net's scale.

        Args:
            picture: any.
            progress: is told the share of the work that is done each time.

        Raises:
            UserError: memory does not suffice for the least tile.
        """
        alpha, opaque = picture.alpha, None
        if alpha is not None and alpha.min() == alpha.max():
            opaque = alpha[0, 0, 0]
        passes = 1 if alpha is None or opaque is not None else 2

        def enlarged(pixels: np.ndarray) -> np.ndarray:
            return self._in_memory(pixels, lambda share: progress(share / passes))

        colour = enlarged(picture.colour)
        if alpha is not None:
            alpha = enlarged(alpha) if opaque is None else np.full((*colour.shape[:2], 1), opaque)
        return replace(picture, colour=colour, alpha=alpha)

    def _in_memory(self, pixels: np.ndarray, progress: Callable[[float], None]) -> np.ndarray:
        done = 0.0

        def advance(share: float) -> None:
            nonlocal done
            done += share
            progress(share)

        while True:
            try:
                return self.enlarger(pixels, self.tile, self.ensemble, advance)
            except (RuntimeError, MemoryError) as error:
                if not isinstance(error, MemoryError) and not any(word in str(error) for word in _OUT_OF_MEMORY):
                    raise
            tile = min(self.tile or max(pixels.shape), max(pixels.shape)) // 16 * 8
            if tile < _LEAST_TILE:
                raise UserError('out of memory, even in small tiles')
            if self.enlarger.device.type == 'cuda':
                torch.cuda.empty_cache()
            self.say(f'out of memory: goes on in tiles of {tile} pixels')
            self.tile = tile
            progress(-done)
            done = 0.0


def upscale_all(jobs: list[Job], upscaler: Upscaler, bar: tqdm, say: Callable[[str], None]) -> int:
    """Upscale pictures: one is computed while the next is read and the last is written.

    Args:
        jobs: pictures and their results.
        upscaler: see :class:`Upscaler`.
        bar: shows the progress; its unit is a megapixel of input.
        say: is told in a line of each picture that failed.

    Returns:
        How many failed.
    """
    sizes = {job: _megapixels(job.source) for job in jobs}
    bar.total = sum(sizes.values())
    failed = 0

    def fail(path: Path, reason: str) -> None:
        nonlocal failed
        failed += 1
        say('error: ' + (reason if reason.startswith(printable(path)) else f'{printable(path)}: {reason}'))

    def settle(job: Job, writing: Future[None]) -> None:
        try:
            writing.result()
        except (UserError, MemoryError) as error:
            fail(job.target, str(error) or 'out of memory')

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = [reader.submit(read, job.source) for job in jobs[:1]]
        writing: list[tuple[Job, Future[None]]] = []
        for number, job in enumerate(jobs):
            bar.set_description(f'{number + 1}/{len(jobs)} {printable(Path(job.source.name))}',
                                refresh=bar.mininterval < 1)  # on a terminal
            start = bar.n
            try:
                try:
                    picture = reading.pop().result()
                finally:
                    reading += [reader.submit(read, following.source) for following in jobs[number + 1:number + 2]]
                if picture.frames > 1:
                    say(f'{printable(job.source)}: the first of {picture.frames} frames')
                result = upscaler(picture, lambda share, size=sizes[job]: bar.update(share * size))
            except (UnreadableError, UserError, RuntimeError, ValueError) as error:
                fail(job.source, str(error).partition('\n')[0])
            else:
                while writing:  # not more than one result waits
                    settle(*writing.pop())
                writing.append((job, writer.submit(write, result, job.target)))
            bar.update(start + sizes[job] - bar.n)
        while writing:
            settle(*writing.pop())
    return failed


def _megapixels(path: Path) -> float:
    with suppress(UnreadableError):
        height, width = picture_size(path)
        return height * width / 1e6
    return 0.0
