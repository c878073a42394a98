"""Findings about the sections of an option file: keys that are unknown, missing or of a wrong type.

A section with a ``type`` is held against the constructor of the class of that name, any other against a table of keys.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iafmsr.utils.option_keys import FLAG, NUMBER, Kind

Options = dict[str, Any]


@dataclass
class Report:
    """What a check found; faults stop the run, warnings do not."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` with the nearest of the known names, or nothing when none is near."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5) or [k for k in known if str(name) in k]
    return f' (did you mean {near[0]}?)' if near else ''


def subsection(opt: Options, key: str) -> Options:
    """A section of the options, empty when it is missing or no section."""
    value = opt.get(key)
    return value if isinstance(value, dict) else {}


class SectionCheck:
    """Adds to a report what is wrong with a section; ``where`` is the section's path, ``train.optim_g``."""

    def __init__(self) -> None:
        self.report = Report()

    def fault(self, where: str, text: str) -> None:
        self.report.faults.append(f'{where}: {text}')

    def warn(self, where: str, text: str) -> None:
        self.report.warnings.append(f'{where}: {text}')

    def keys(self, where: str, section: Options, known: Mapping[str, Kind]) -> None:
        """Every key of a section is known and of its type; null stands for 'not given'."""
        for key, value in section.items():
            path = f'{where}.{key}' if where else str(key)
            if key not in known:
                self.fault(path, f'unknown key{did_you_mean(key, known)}')
            elif value is not None and not known[key].accepts(value):
                self.fault(path, f'{known[key].name} is wanted, got {value!r}')

    def require(self, where: str, section: Options, *keys: str) -> None:
        for key in keys:
            if section.get(key) is None:
                self.fault(f'{where}.{key}' if where else key, 'missing')

    def choose(self, where: str, name: Any, choices: Mapping[str, Any]) -> Any:
        """The class registered under a name, or None and a fault; ``*_basicsr`` stands in as in BasicSR."""
        for candidate in (name, f'{name}_basicsr'):
            if isinstance(name, str) and candidate in choices:
                return choices[candidate]
        self.fault(where, 'missing' if name is None else f'{name!r} is not known{did_you_mean(name, choices)}')
        return None

    def constructor(self, where: str, section: Options, choices: Mapping[str, Any], given: Iterable[str] = ()) -> Any:
        """A section with a ``type``: its other keys are the keywords of that class, less those BasicSR gives itself."""
        cls = self.choose(f'{where}.type', section.get('type'), choices)
        if cls is None:
            return None
        parameters = dict(inspect.signature(cls).parameters)
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        named = {key: parameter for key, parameter in parameters.items() if key not in given
                 and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
        for key, value in section.items():
            if key == 'type':
                continue
            default = named[key].default if key in named else None
            if key not in named and not open_ended:
                self.unknown(f'{where}.{key}', cls, key, named)
            elif isinstance(value, str) and isinstance(default, (bool, int, float)) and not is_foreign(cls):
                self.fault(f'{where}.{key}', f'{FLAG.name if isinstance(default, bool) else NUMBER.name} is wanted, '
                                             f'got {value!r}')
        for key, parameter in named.items():
            if parameter.default is parameter.empty and key not in section:
                self.fault(f'{where}.{key}', f'missing, {section["type"]} needs it')
        return cls

    def unknown(self, where: str, owner: Any, key: Any, known: Iterable[str]) -> None:
        """A key that its class does not know: a fault in ours, BasicSR's and torch's, a warning in anyone else's."""
        report = self.warn if is_foreign(owner) else self.fault
        report(where, f'unknown key{did_you_mean(key, known)}')

    def build(self, where: str, cls: Any, section: Options, *given: Any) -> Any:
        """What a section describes; its constructor's own complaint about a value is a fault."""
        try:
            return cls(*given, **{key: value for key, value in section.items() if key != 'type'})
        except Exception as error:  # a constructor fails on a value of the wrong kind in any way
            reason = str(error).partition('\n')[0] or type(error).__name__
            self.fault(where, f'{section["type"]} cannot be built: {reason}')
            return None


def is_ours(obj: Any) -> bool:
    return obj.__module__.startswith('iafmsr.')


def is_foreign(obj: Any) -> bool:
    return obj.__module__.partition('.')[0] not in ('iafmsr', 'basicsr', 'torch')
