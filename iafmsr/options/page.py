"""docs/options.md and docs/options.schema.json, made from the schema: ``python -m iafmsr.options.page``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from iafmsr.options.datasets import DATASETS, Degradation, OtherDataset, Storage
from iafmsr.options.kinds import Kind, Section
from iafmsr.options.schema import Options, readers, section_class

_DOCS = Path(__file__).resolve().parents[2] / 'docs'
_HEAD = """# Options

Made by `python -m iafmsr.options.page` from `iafmsr/options/schema.py`; change that file, not this one.

An option file is YAML. `base: FILE` at its top starts from another option file. The keys of the file replace those of
the base, section by section, and `~` removes a section. `--force_yml section:key=value` changes a key for one run. The
value `~` means "not given".

A section with a `type` configures the class that is registered under this name, by BasicSR or by this package. In
addition to the keys that are listed here, it takes the keywords of the constructor of the class. A dataset of your own
may list its keys in `OPTION_KEYS`.

An editor with a YAML language server completes and checks the keys of a file with this line at its top:

    # yaml-language-server: $schema=../docs/options.schema.json
"""


def markdown() -> str:
    """The text of docs/options.md."""
    parts = [_HEAD, _table('Top level', Options, inherited=False)]
    for name in Options.model_fields:
        if name == 'datasets':
            parts += [
                _table('datasets.*', OtherDataset),
                *(_table(f'datasets.*, type: {key}', cls, below=OtherDataset) for key, cls in DATASETS.items()),
            ]
            parts.append(_table('datasets.*.io_backend', Storage))
        elif (cls := section_class(name, Options)) and cls.model_fields.keys() - {'type'}:
            parts += [_table(path, inner) for path, inner in sections_below(name, cls)]
    parts.append(_table('Top level, degradations of Real-ESRGAN', Degradation))
    return '\n'.join(parts)


def schema() -> dict[str, Any]:
    """The JSON schema of docs/options.schema.json: keys and values; what is missing is the command's to say, as a file
    may take it from its base."""
    text = Options.model_json_schema()
    text |= {'title': 'Option file of iafmsr', 'patternProperties': {r'^network_\w+$': {'type': 'object'}}}
    text['properties']['base'] = {'type': 'string', 'description': 'option file that this one starts from'}
    text['properties']['datasets']['additionalProperties']['oneOf'].append({'type': 'null'})  # `~` takes it out
    for name, section in text['$defs'].items():
        known = {'const': name} if name in DATASETS else {'not': {'enum': list(DATASETS)}}
        if name in DATASETS or name == OtherDataset.__name__:
            section['properties']['type'] |= known
    return _relaxed(text)


def _relaxed(part: Any) -> Any:
    """Part of a schema without what is missing and without titles; null stands for "not given"."""
    if isinstance(part, list):
        return [_relaxed(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    relaxed = {
        'anyOf' if key == 'oneOf' else key: _relaxed(value)
        for key, value in part.items()
        if (key, type(value)) not in (('required', list), ('title', str))
    }
    return {'anyOf': [relaxed, {'type': 'null'}]} if 'default' in part and 'anyOf' not in part else relaxed


def sections_below(path: str, cls: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    yield path, cls
    for name in cls.model_fields:
        inner = section_class(name, cls)
        if inner and inner.model_fields.keys() - {'type'}:
            yield from sections_below(f'{path}.{name}' + '.*' * (name in ('metrics', 'losses')), inner)


def _table(title: str, cls: type[Section], below: type[Section] | None = None, inherited: bool = True) -> str:
    """The keys of a section, without those of another class; ``inherited``: with those of its bases."""
    without = below.model_fields if below else {} if inherited else Degradation.model_fields
    rows = [f'## {title}\n', '| key | value | default | meaning |', '|---|---|---|---|']
    for name, field in cls.model_fields.items():
        if name in without:
            continue
        given = 'needed' if field.is_required() else f'`{json.dumps(field.default)}`'
        default = '' if field.default is None else given
        users = f' ({", ".join(readers(name, cls))})' if readers(name, cls) else ''
        rows.append(f'| `{name}` | {_value(field)} | {default} | {field.description}{users} |')
    return '\n'.join([*rows, ''])


def _value(field: Any) -> str:
    """The name of the kind of a value."""

    def names(part: Any) -> Iterator[str]:
        yield from (
            entry.name
            for entry in getattr(part, '__metadata__', getattr(part, 'metadata', ()))
            if isinstance(entry, Kind)
        )
        for inner in get_args(getattr(part, 'annotation', part)):
            yield from names(inner)

    return next(names(field), 'a string' if field.annotation is Any else 'a section')


def main() -> None:
    (_DOCS / 'options.md').write_text(markdown(), encoding='utf-8')
    (_DOCS / 'options.schema.json').write_text(json.dumps(schema(), indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
