"""Which pictures a command line means, and where their results go."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iafmsr.data.pictures import printable
from iafmsr.errors import UserError
from iafmsr.inference.pictures import WRITABLE

__all__ = ['Job', 'plan']


@dataclass(frozen=True)
class Job:
    """A picture to read and the file to write."""

    source: Path
    target: Path


def plan(inputs: list[str], out: str) -> tuple[list[Job], list[str]]:
    """The jobs of a command line.

    Args:
        inputs: files, folders (all that lies in them, but for hidden files and folders), and glob patterns (``**``: in
            folders of any depth).
        out: a folder, made when needed; or, when the input is one file, the file to write. In a folder a result has its
            picture's name, and its picture's kind where that is written, else ``.png``.

    Returns:
        The jobs in the order of the inputs, and a line for each input that is nothing.

    Raises:
        UserError: two pictures would become one file, or a picture would be overwritten by its own result.
    """
    sources, faults = [], []
    for entry in inputs:
        try:
            found = _files(entry)
        except OSError as error:
            faults.append(f'{printable(Path(entry))}: cannot be read ({error.strerror})')
            continue
        if not found:
            faults.append(f'{printable(Path(entry))}: no such file' if not Path(entry).is_dir() else
                          f'{printable(Path(entry))}: an empty folder')
        sources += found
    sources = list(dict.fromkeys(sources))
    to_file = len(inputs) == 1 and Path(inputs[0]).is_file() and Path(out).suffix and not Path(out).is_dir()
    jobs: dict[Path, Job] = {}
    for source in sources:
        job = Job(source, Path(out) if to_file else Path(out, _name(source)))
        other = jobs.setdefault(job.target, job)
        if other is not job:
            raise UserError(f'{printable(other.source)} and {printable(source)} would both become '
                            f'{printable(job.target)}; upscale them into different folders')
        if job.target.exists() and job.target.samefile(source):
            raise UserError(f'{printable(source)} would be overwritten by its own result; choose another OUT')
    return list(jobs.values()), faults


def _files(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if not file.name.startswith('.') and not file.is_dir())
    if path.exists():
        return [path]
    return sorted(file for file in map(Path, _glob(entry)) if not file.is_dir())


def _glob(pattern: str) -> Iterator[str]:
    return glob.iglob(pattern, recursive=True)


def _name(source: Path) -> str:
    return source.name if source.suffix.lower() in WRITABLE else f'{source.stem}.png'
