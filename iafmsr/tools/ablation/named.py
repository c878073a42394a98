"""The options of a run: an option file, or a name of ``options/ablation.yml`` and what differs from its base."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iafmsr.errors import UserError, did_you_mean
from iafmsr.options.files import load_options, over
from iafmsr.options.places import OPTIONS

__all__ = ['Ablations', 'options_of']

_FILE = OPTIONS / 'ablation.yml'
_FIRST = 'base'  # what an ablation starts from that names no base


@dataclass(frozen=True)
class Ablations:
    """The ablations of a file: under ``ablations``, each name with its overrides.

    ``base`` among the overrides is the name of another ablation, or an option file beside this one; the ablation
    called ``base`` has such a file.
    """

    file: Path
    overrides: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, file: Path) -> Ablations:
        """Raises:
        UserError: the file cannot be read, or holds no ablations.
        """
        overrides = load_options(file).get('ablations')
        if not isinstance(overrides, dict) or not all(isinstance(entry, dict) for entry in overrides.values()):
            raise UserError(f'{file}: ablations: must have names, each with a section of overrides')
        return cls(file, overrides)

    def options(self, name: str) -> dict[str, Any]:
        """The whole options of an ablation; their ``name`` is ``ablation_NAME``.

        Raises:
            UserError: there is no such ablation, or its bases lead back to it.
        """
        if name not in self.overrides:
            raise UserError(
                f'{self.file}: no ablation is called {name!r}{did_you_mean(name, self.overrides)}; '
                'the name of an option file must end in .yml'
            )
        return deepcopy(self._options(name, ())) | {'name': f'ablation_{name}'}

    def _options(self, name: str, above: tuple[str, ...]) -> dict[str, Any]:
        if name in above:
            raise UserError(f'{self.file}: ablations: {" -> ".join((*above, name))}: the bases form a circle')
        overrides = dict(self.overrides[name])
        base = str(overrides.pop('base', _FIRST))
        if base in self.overrides:
            return over(self._options(base, (*above, name)), overrides)
        if Path(base).suffix not in ('.yml', '.yaml'):
            raise UserError(
                f'{self.file}: ablations: {name}: base: no ablation is called {base!r}'
                f'{did_you_mean(base, self.overrides)}'
            )
        return over(load_options(self.file.parent / base), overrides)


def options_of(entry: str) -> tuple[str, dict[str, Any]]:
    """What a command line names: its name in tables, and its options.

    Args:
        entry: an option file (``.yml``), whose name in tables is that of the file, or an ablation of
            ``options/ablation.yml``.

    Raises:
        UserError: there is no such file and no such ablation.
    """
    if Path(entry).suffix in ('.yml', '.yaml'):
        return Path(entry).stem, load_options(entry)
    return entry, Ablations.read(_FILE).options(entry)
