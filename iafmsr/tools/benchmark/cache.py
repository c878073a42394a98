"""Results that have been measured before."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.files.whole import write_whole

__all__ = ['Cache', 'code_digest']

# code of these packages takes part in what a network computes
_REACHED = ('iafmsr.archs.', 'iafmsr.layers.', 'iafmsr.ops.')
_PACKAGES = ('torch', 'basicsr', 'numpy', 'opencv-python', 'spandrel')


class Cache:
    """One JSON file for each subject (a net under its settings), which holds its results by keys.

    A file that cannot be read counts as empty; one that cannot be written costs a warning, for the results are there.

    Args:
        folder: None for a cache that forgets with the process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._subjects: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()

    def get(self, subject: str, key: str, kind: Any = Any) -> Any:
        """What was put there, or None, also where it is not of a kind that is wanted: a file may have been damaged."""
        found = self._results(subject).get(key)
        try:
            return None if found is None else TypeAdapter(kind).validate_python(found)
        except ValidationError:
            return None

    def remembered(self, subject: str, key: str, kind: Any, measure: Callable[[], Any]) -> Any:
        """What was put there, of a kind that is wanted; where there is none, what ``measure`` gives, from now on."""
        known = self.get(subject, key, kind)
        if known is None:
            known = measure()
            self.put(subject, key, TypeAdapter(kind).dump_python(known))
        return known

    def put(self, subject: str, key: str, result: Any) -> None:
        """Remember a result, which JSON must be able to hold."""
        self._results(subject)[key] = result
        self._changed.add(subject)

    def save(self) -> None:
        """Write what is new, beside what other processes have written meanwhile."""
        if self._folder and self._changed:
            try:
                with folder_lock(self._folder, wait=True):
                    for subject in sorted(self._changed):
                        results = self._read(subject) | self._subjects[subject]
                        write_whole(_file(self._folder, subject), json.dumps(results).encode())
            except UserError as error:
                print(f'iafmsr: warning: results are not kept: {error}', file=sys.stderr)
                self._folder = None
        self._changed.clear()

    def _results(self, subject: str) -> dict[str, Any]:
        if subject not in self._subjects:
            self._subjects[subject] = self._read(subject)
        return self._subjects[subject]

    def _read(self, subject: str) -> dict[str, Any]:
        try:
            content = json.loads(_file(self._folder, subject).read_bytes()) if self._folder else {}
        except (OSError, ValueError):
            content = {}
        return content if isinstance(content, dict) else {}


def _file(folder: Path, subject: str) -> Path:
    return folder / f'{hashlib.sha256(subject.encode()).hexdigest()[:32]}.json'


def code_digest(*modules: str) -> str:
    """A digest of the code that results depend on: some modules, what they use of this package's networks and
    operators, and the versions of the libraries below. Other networks do not take part."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        if importlib.util.find_spec({'opencv-python': 'cv2'}.get(package, package)):
            digest.update(f'{package} {version(package)}\n'.encode())
    found: set[str] = set()
    for module in modules:
        _reach(module, found)
    for module in sorted(found):
        digest.update(Path(inspect.getfile(sys.modules[module])).read_bytes())
    return digest.hexdigest()


def _reach(module: str, found: set[str]) -> None:
    """Add a module and those that its names come from."""
    if module in found:
        return
    found.add(module)
    for value in list(vars(sys.modules[module]).values()):
        origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, '__module__', None)
        if isinstance(origin, str) and origin.startswith(_REACHED):
            _reach(origin, found)
