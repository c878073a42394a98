"""Upscaling many pictures: reading and writing overlap the net, and one bad picture does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.files.picture import Picture, UnreadableError, fill_hidden
from iafmsr.files.reading import picture_size, read
from iafmsr.files.writing import QUALITY, check_kind, write
from iafmsr.nets.tiles import Enlarger
from iafmsr.ops.resize import imresize
from iafmsr.tools.inference.jobs import Job

__all__ = ['Upscaler', 'resized', 'upscale_all']

_LEAST_TILE = 32
_OUT_OF_MEMORY = ('out of memory', "can't allocate memory", 'not enough memory', 'std::bad_alloc')


class Upscaler:
    """Upscales pictures of any kind: gray stays gray, bits stay, and alpha is enlarged without the net.

    Args:
        enlarger: has the net.
        tile: side of the tiles in pixels; 0: none. It is halved when memory does not suffice.
        ensemble: the mean over eight flips and rotations.
        say: is told in a line of a smaller tile.
        scale: of the results, where it is another than the net's: they are resized by bicubic interpolation.
    """

    def __init__(
        self,
        enlarger: Enlarger,
        tile: int,
        ensemble: bool,
        say: Callable[[str], None],
        scale: Fraction | None = None,
    ) -> None:
        self.enlarger, self.tile, self.ensemble, self.say, self.wanted = enlarger, tile, ensemble, say, scale

    @property
    def scale(self) -> int:
        return self.enlarger.trained.scale

    def __call__(self, picture: Picture, progress: Callable[[float], None] = lambda share: None) -> Picture:
        """The picture at the net's scale, or the one that is wanted.

        Args:
            picture: any.
            progress: is told the share of the work that is done each time.

        Raises:
            UserError: memory does not suffice for the result, or for the least tile.
        """
        colour = self._in_memory(fill_hidden(picture).colour, progress)
        if self.wanted is not None and self.wanted != self.scale:
            colour = resized(colour, self.wanted / self.scale)
        # it is flat but for an edge, which no net has learned to sharpen
        alpha = None if picture.alpha is None else resized(picture.alpha, self.wanted or self.scale)
        return replace(picture, colour=colour, alpha=alpha)

    def _in_memory(self, pixels: np.ndarray, progress: Callable[[float], None]) -> np.ndarray:
        done, tile = 0.0, self.tile

        def advance(share: float) -> None:
            nonlocal done
            done += share
            progress(share)

        out = self.enlarger.reserve(pixels, self.ensemble)  # first: smaller tiles would not make it smaller
        while True:
            try:
                result = self.enlarger(pixels, tile, self.ensemble, advance, out)
                self.tile = tile  # for the next ones, too: this one could be computed
                return result
            except (RuntimeError, MemoryError) as error:
                if not isinstance(error, MemoryError) and not any(word in str(error) for word in _OUT_OF_MEMORY):
                    raise
            tile = min(tile or max(pixels.shape), max(pixels.shape)) // 16 * 8
            if tile < _LEAST_TILE:
                raise UserError('out of memory, even in small tiles')
            if self.enlarger.device.type == 'cuda':
                torch.cuda.empty_cache()
            self.say(f'out of memory: continuing with tiles of {tile} pixels')
            progress(-done)
            done = 0.0


def resized(pixels: np.ndarray, scale: Fraction | int) -> np.ndarray:
    """Pixels at a scale, by MATLAB's bicubic interpolation.

    Args:
        pixels: (H, W, C), uint8, uint16 or floating-point numbers in [0, 1].
        scale: of the result, (ceil(scale H), ceil(scale W), C) of the same kind.
    """
    whole = np.issubdtype(pixels.dtype, np.integer)
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32))
    values = imresize(planes, scale).clamp_(0, np.iinfo(pixels.dtype).max if whole else 1)
    return np.ascontiguousarray((values.round_() if whole else values).numpy().transpose(1, 2, 0).astype(pixels.dtype))


def upscale_all(
    jobs: list[Job], upscaler: Upscaler, bar: tqdm, say: Callable[[str], None], quality: int = QUALITY
) -> int:
    """Upscale pictures: one is computed while the next is read and the last is written.

    Args:
        jobs: pictures and their results.
        upscaler: see :class:`Upscaler`.
        bar: shows the progress; its unit is a megapixel of input.
        say: is told in a line of each picture that failed.
        quality: of JPEG and WebP, 1 to 100.

    Returns:
        How many failed.
    """
    sizes = {job: _megapixels(job.source) for job in jobs}
    bar.total = sum(sizes.values())
    failures = _Failures(say)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = [reader.submit(read, job.source) for job in jobs[:1]]
        writing: list[tuple[Job, Future[None]]] = []
        for number, job in enumerate(jobs):
            bar.set_description(
                f'{number + 1}/{len(jobs)} {printable(Path(job.source.name))}', refresh=bar.mininterval < 1
            )  # on a terminal
            start, read_now = bar.n, reading.pop()
            with failures.of(job.source):
                picture = _awaited(read_now, reading, reader, jobs[number + 1 : number + 2])
                if picture.frames > 1:
                    say(f'{printable(job.source)}: only the first of {picture.frames} frames')
                check_kind(job.target, picture, upscaler.wanted or upscaler.scale)
                result = upscaler(picture, partial(_advance, bar, sizes[job]))
                _settle(writing, failures)  # not more than one result waits
                writing.append((job, writer.submit(write, result, job.target, quality)))
            bar.update(start + sizes[job] - bar.n)
        _settle(writing, failures)
    return failures.count


def _advance(bar: tqdm, size: float, share: float) -> None:
    bar.update(share * size)


class _Failures:
    """Counts what failed, and says why."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.count, self.say = 0, say

    @contextmanager
    def of(self, path: Path) -> Iterator[None]:
        """A block about a file, which may fail by what a picture or memory does."""
        try:
            yield
        except (UnreadableError, UserError, RuntimeError, ValueError, MemoryError) as error:
            self.count += 1
            reason, name = str(error).partition('\n')[0] or 'out of memory', printable(path)
            self.say('error: ' + (reason if reason.startswith(name) else f'{name}: {reason}'))


def _awaited(
    read_now: Future[Picture], reading: list[Future[Picture]], reader: ThreadPoolExecutor, following: list[Job]
) -> Picture:
    """The picture that is read; whatever becomes of it, the next one is read from then on."""
    try:
        return read_now.result()
    finally:
        reading += [reader.submit(read, job.source) for job in following]


def _settle(writing: list[tuple[Job, Future[None]]], failures: _Failures) -> None:
    while writing:
        job, written = writing.pop()
        with failures.of(job.target):
            written.result()


def _megapixels(path: Path) -> float:
    with suppress(UnreadableError):
        height, width = picture_size(path)
        return height * width / 1e6
    return 0.0
