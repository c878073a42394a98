"""Which pictures a command line means, and where their results go."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iafmsr.errors import UserError
from iafmsr.files.kinds import KINDS
from iafmsr.files.names import is_picture_name, printable
from iafmsr.files.whole import LONGEST_NAME

__all__ = ['Job', 'Plan', 'plan']


@dataclass(frozen=True)
class Job:
    """A picture to read and the file to write."""

    source: Path
    target: Path


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: in the order of the inputs.
        faults: a line for each input that is nothing, and for each picture that cannot have a result of its own.
        notes: a line for what was passed over.
    """

    jobs: list[Job] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """Pictures, each with its folder below OUT, and what was passed over to find them."""

    pictures: dict[Path, Path] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    folders: int = 0


def plan(inputs: list[str], out: str, recursive: bool = False, suffix: str | None = None) -> Plan:
    """The jobs of a command line.

    Args:
        inputs: files, whatever their names; folders and glob patterns (``**``: in folders of any depth), of which what
            is named as pictures are is taken. Hidden files and folders are not.
        out: a folder, made when needed; or, when the input is one file, the file to write. In a folder a result has its
            picture's name, and its picture's kind where that is written, else ``.png``.
        recursive: take the sub-folders of folders, too, and make the same ones in ``out``.
        suffix: kind of all results in a folder, such as ``.png``.

    Raises:
        UserError: ``out`` has a suffix that cannot be written, or a picture would be overwritten by a result.
    """
    found, made = _Found(), Plan()
    for entry in inputs:
        try:
            if not _find(entry, out, recursive, found):
                reason = 'no picture in this folder' if Path(entry).is_dir() else 'no such file'
                made.faults.append(f'{printable(Path(entry))}: {reason}')
        except OSError as error:
            made.faults.append(f'{printable(Path(entry))}: cannot be read ({error.strerror})')
    made.notes = _notes(found)
    if _is_file(inputs, out):
        made.jobs = [Job(source, Path(out)) for source in found.pictures]
    else:
        _name_results(found.pictures, Path(out), suffix, made)
    sources = {os.path.realpath(source): source for source in found.pictures}
    for job in made.jobs:
        if (own := sources.get(os.path.realpath(job.target))) is not None:
            by = 'its own result' if own == job.source else f'the result of {printable(job.source)}'
            raise UserError(f'{printable(own)} would be overwritten by {by}; choose another OUT')
    return made


def _find(entry: str, out: str, recursive: bool, found: _Found) -> bool:
    """Whether there is a picture in an input."""
    path = Path(entry)
    if path.is_dir():
        return any(
            [
                _take(Path(folder, name), Path(folder).relative_to(path), found)
                for folder, names in _walk(path, out, recursive, found)
                for name in names
            ]
        )
    if os.path.lexists(path):
        found.pictures.setdefault(path, Path())
        return True
    matches = sorted(map(Path, glob.iglob(_pattern(entry), recursive=True)))
    return any([_take(match, Path(), found) for match in matches if not match.is_dir()])


def _walk(top: Path, out: str, recursive: bool, found: _Found) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names of their files; OUT, with the results of an earlier run, is none of them."""
    for folder, folders, names in os.walk(top, onerror=_raise):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.') and os.path.realpath(Path(folder, name)) != os.path.realpath(out)
        )
        yield folder, sorted(names)
        if not recursive:
            found.folders += len(folders)
            return


def _take(path: Path, folder: Path, found: _Found) -> bool:
    if is_picture_name(path):
        found.pictures.setdefault(path, folder)
        return True
    if not path.name.startswith('.'):
        found.others[path.suffix.lower() or 'no suffix'] += 1
    return False


def _pattern(entry: str) -> str:
    """A pattern in which the folders that exist are no patterns, whatever their names."""
    parts, plain = Path(entry).parts, Path()
    for count, part in enumerate(parts):
        if not (plain / part).is_dir():
            return os.path.join(glob.escape(str(plain)) if count else '', *parts[count:])
        plain /= part
    return glob.escape(str(plain))


def _is_file(inputs: list[str], out: str) -> bool:
    """Whether OUT is the file of a single picture, rather than a folder.

    Raises:
        UserError: it looks like a file of a kind that is not written.
    """
    try:
        if len(inputs) > 1 or not os.path.isfile(inputs[0]) or out.endswith(os.sep) or Path(out).is_dir():
            return False
    except OSError as error:
        raise UserError(f'{printable(Path(out))}: cannot be written ({error.strerror})') from None

    suffix = Path(out).suffix.lower()
    if suffix and suffix not in KINDS:
        raise UserError(
            f'{printable(Path(out))}: {suffix} files cannot be written, only {" ".join(KINDS)}; end '
            f'the name of a new folder with {os.sep}'
        )
    return bool(suffix)


def _name_results(pictures: dict[Path, Path], out: Path, suffix: str | None, made: Plan) -> None:
    """Give each picture a name in OUT; of one name a.png has it before a.gif, which becomes a.gif.png."""
    if not pictures:
        return

    claims: dict[Path, list[Path]] = {}
    for own_name in (True, False):
        for source, folder in pictures.items():
            name = source.stem + (suffix or (source.suffix if source.suffix.lower() in KINDS else '.png'))
            if (name == source.name) is own_name:
                target = out / folder / name
                if target in claims and claims[target][0].name != source.name:
                    target = out / folder / (source.name + (suffix or '.png'))
                claims.setdefault(target, []).append(source)
    targets = {sources[0]: target for target, sources in claims.items() if len(sources) == 1}
    for target, sources in claims.items():
        if len(sources) > 1:
            names = ' and '.join(map(printable, sources))
            made.faults += [
                f'{printable(source)}: not upscaled, {names} would both become {printable(target)}; use '
                'different folders'
                for source in sources
            ]
    for source in pictures:
        if source in targets and len(os.fsencode(targets[source].name)) > LONGEST_NAME:
            made.faults.append(f'{printable(source)}: the name of its result would be too long')
        elif source in targets:
            made.jobs.append(Job(source, targets[source]))


def _notes(found: _Found) -> list[str]:
    notes = []
    if found.others:
        kinds = ', '.join(f'{kind} {count}' for kind, count in sorted(found.others.items()))
        notes.append(f'skipped files that are not named as pictures: {kinds}')
    if found.folders:
        notes.append(f'skipped {found.folders} sub-folder{"s" * (found.folders > 1)} (use --recursive to include them)')
    return notes


def _raise(error: OSError) -> None:
    raise error
