"""What a check of an option file found, and how a section is held against the class that it names."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from iafmsr.errors import did_you_mean
from iafmsr.options.foreign import advice

Options = dict[str, Any]
MAX_MODULES = 10_000  # of a network; it takes a few seconds to build so many
_LONGEST_NAME = 150  # bytes
_SHOWN = 200  # characters of a value in a message


@dataclass
class Report:
    """What a check found; faults stop the run, warnings do not."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and not all of it when it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def subsection(opt: Options, key: str) -> Options:
    """A section of the options, empty when it is missing or no section."""
    value = opt.get(key)
    return value if isinstance(value, dict) else {}


def is_folder_name(name: str) -> bool:
    """Whether a name is that of one folder, with room for what is added to it (a time, the name of a picture)."""
    return not re.search(r'[/\\\x00-\x1f]|^\.*$', name) and len(os.fsencode(name)) <= _LONGEST_NAME


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole(value: Any, least: int = 1) -> int | None:
    """The value if it is a whole number and not too small, else None."""
    return int(value) if is_number(value) and value >= least and float(value).is_integer() else None


def is_ours(obj: Any) -> bool:
    return obj.__module__.startswith('iafmsr.')


def is_foreign(obj: Any) -> bool:
    return obj.__module__.partition('.')[0] not in ('iafmsr', 'basicsr', 'torch')


class Findings:
    """Adds to a report what is wrong with an option file; ``where`` is a section's path, ``train.optim_g``."""

    def __init__(
        self, opt: Options, is_train: bool, root_path: str, processes: int, distributed: bool, files: bool
    ) -> None:
        self.report = Report()
        self.opt, self.is_train, self.root_path, self.files = opt, is_train, root_path, files
        self.processes, self.distributed = processes, distributed
        self.train, self.path, self.val = (subsection(opt, key) for key in ('train', 'path', 'val'))
        self.scale = whole(opt.get('scale'))

    def fault(self, where: str, text: str) -> None:
        """A fault of a key, unless it has one already."""
        where = where if where.isprintable() else repr(where)
        if not any(fault.startswith(f'{where}: ') for fault in self.report.faults):
            self.report.faults.append(f'{where}: {text}')

    def warn(self, where: str, text: str) -> None:
        self.report.warnings.append(f'{where}: {text}')

    def require(self, where: str, section: Options, *keys: str) -> None:
        for key in keys:
            if section.get(key) is None:
                path = f'{where}.{key}'.lstrip('.')
                self.fault(path, (key in section and advice(path, None)) or 'missing')

    def choose(self, where: str, name: Any, choices: Mapping[str, Any]) -> Any:
        """The class registered under a name, or None and a fault; ``*_basicsr`` stands in as in BasicSR."""
        for candidate in (name, f'{name}_basicsr'):
            if isinstance(name, str) and candidate in choices:
                return choices[candidate]
        hint = advice(where, name) if isinstance(name, str) else None
        self.fault(
            where,
            'missing'
            if name is None
            else f'{shown(name)} is not known' + (f': {hint}' if hint else did_you_mean(name, choices)),
        )
        return None

    def constructor(self, where: str, section: Options, choices: Mapping[str, Any], given: Iterable[str] = ()) -> Any:
        """A section with a ``type``: its other keys are the keywords of that class, less those BasicSR gives itself."""
        cls = self.choose(f'{where}.type', section.get('type'), choices)
        if cls is None:
            return None
        parameters = dict(inspect.signature(cls).parameters)
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        named = {
            key: parameter
            for key, parameter in parameters.items()
            if key not in given and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        for key, value in section.items():
            if key == 'type':
                continue
            default = named[key].default if key in named else None
            if key not in named and not open_ended:
                self.unknown(f'{where}.{key}', key, named, cls)
            elif isinstance(value, str) and isinstance(default, (bool, int, float)) and not is_foreign(cls):
                self.fault(
                    f'{where}.{key}',
                    f'must be {"true or false" if isinstance(default, bool) else "a number"}, got {shown(value)}',
                )
        for key, parameter in named.items():
            if parameter.default is parameter.empty and key not in section:
                self.fault(f'{where}.{key}', f'missing, {section["type"]} needs it')
        return cls

    def unknown(self, where: str, key: Any, known: Iterable[str], owner: Any = None) -> None:
        """A key that is not known; a warning only where its owner is a class of somebody else's."""
        report = self.warn if owner is not None and is_foreign(owner) else self.fault
        hint = advice(where, None)
        report(where, 'unknown key' + (f': {hint}' if hint else did_you_mean(key, known)))

    def build(self, where: str, cls: Any, section: Options, *given: Any) -> Any:
        """What a section describes; its constructor's own complaint about a value is a fault."""
        try:
            with _limited_size():
                return cls(*given, **{key: value for key, value in section.items() if key != 'type'})
        except Exception as error:  # a constructor fails on a value of the wrong kind in any way
            reason = str(error).partition('\n')[0][:_SHOWN] or type(error).__name__
            self.fault(where, f'{section["type"]} cannot be built: {reason}')
            return None


@contextmanager
def _limited_size() -> Iterator[None]:
    """Ends the building of a network that has too many modules; a depth of 1e9 would take days."""
    count = 0

    def add(module: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > MAX_MODULES:
            raise ValueError(f'more than {MAX_MODULES:,} modules')

    hook = register_module_module_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()
