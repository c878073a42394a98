"""Reading option files: YAML that is plain data, `1e-4` as a number, `base: FILE`, and `--force_yml`."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from iafmsr.errors import UserError, did_you_mean
from iafmsr.options.datasets import DATASETS
from iafmsr.options.foreign import translated
from iafmsr.options.places import option_file
from iafmsr.options.plugins import import_packages

Options = dict[str, Any]
MAX_BYTES = 2**20  # of an option file
MAX_VALUES = 100_000  # in an option file, each use of an alias counted


class ValueLoader(yaml.SafeLoader):
    """YAML of plain data: `1e-4` is a number, a key that is given twice and aliases without end are errors."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _count(node, {}) > MAX_VALUES:
            raise yaml.composer.ComposerError(
                None, None, f'its aliases stand for more than {MAX_VALUES:,} values', node.start_mark
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.composer.ComposerError(None, None, f'{name} is given twice', key.start_mark)
            seen.add(name)
        return node


# YAML 1.1 wants a dot and a signed exponent (1.0e-4); everybody writes 1e-4.
ValueLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$'), list('-+.0123456789')
)


def _count(node: yaml.Node, counted: dict[int, float]) -> float:
    """Values below a node, an alias as many as what it stands for; infinity for one that stands for itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = float('inf')  # while its own values are counted
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        counted[id(node)] = 1 + sum(_count(part, counted) for part in parts)
    return counted[id(node)]


class OptionLoader(ValueLoader):
    """The YAML of option files, in which `base: FILE` starts from another option file.

    The base's path counts from the folder of the file that names it, or it is the name of a file that comes with the
    package; what this file says stands over what the base
    says, section by section (`over`). What other projects write and means the same is taken (`foreign.translated`).
    """

    above: tuple[Path, ...] = ()  # the files that have led to this one by `base`

    def get_single_data(self) -> Any:
        opt = translated(super().get_single_data())
        if not isinstance(opt, dict) or 'base' not in opt:
            return opt
        named = str(opt.pop('base'))
        base = Path(self.name).parent / named
        if not base.is_file() and option_file(named) != Path(named):
            base = option_file(named)
        above = (*self.above, Path(self.name).resolve())
        try:
            if base.suffix not in ('.yml', '.yaml'):
                raise UserError(f'{base}: the name of an option file must end in .yml')
            if base.resolve() in above:
                raise UserError(f'{base}: starts from itself')
            return over(_read(base, above), opt)
        except UserError as error:
            raise UserError(f'{self.name}: base: {error}') from None


def over(base: Any, opt: Any, where: tuple[str, ...] = ()) -> Any:
    """Lays options over others: sections are merged key by key, anything else is replaced.

    A section with another `type` than the base's replaces it whole: its other keys are the keywords of another class.
    Only a dataset's keeps of the base's keys those that the new type has as well. `~` in place of a section of the
    base takes it out.
    """
    if not isinstance(base, dict) or not isinstance(opt, dict):
        return opt
    if 'type' in opt and opt['type'] != base.get('type'):
        if where[:1] != ('datasets',) or len(where) != 2:
            return opt
        known = DATASETS.get(str(opt['type']))
        base = {key: value for key, value in base.items() if known is None or key in known.model_fields}
    merged = {**base, **{key: over(base.get(key), value, (*where, key)) for key, value in opt.items()}}
    return {key: value for key, value in merged.items() if value is not None or not isinstance(base.get(key), dict)}


def parse_value(text: str) -> Any:
    """Reads the value of a `--force_yml key=value` as an option file would.

    Args:
        text: What follows the equals sign.

    Returns:
        None (also for the word `None`), or the bool, int, float, str, list or dict.

    Raises:
        UserError: If it is not YAML.
    """
    if text == 'None':  # as Python writes it; `none` is a word, such as that of network_g:ssconv
        return None
    try:
        return yaml.load(text, ValueLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f'--force_yml: {text!r} is not a YAML value') from None


def load_options(file: str | Path, forced: Sequence[str] = ()) -> Options:
    """Read an option file, import the packages that it names, and apply ``--force_yml`` (``section:key=value``) to it.

    Args:
        file: a path, or the name of a file that comes with the package (:func:`iafmsr.options.places.option_file`).
        forced: the entries.

    Raises:
        UserError: the file cannot be read or is no YAML mapping, or an entry names a section that is not there.
    """
    path = option_file(file)
    opt = _read(path, ())
    packages = opt.get('import')
    if isinstance(packages, list) and all(isinstance(name, str) for name in packages):  # else the schema's to say
        import_packages(packages, (Path.cwd(), path.parent), f'{path}: import')
    for entry in forced:
        _force(opt, entry)
    return opt


def _read(file: Path, above: tuple[Path, ...]) -> Options:
    """One file, laid over those that it starts from."""
    try:
        status = file.stat()  # before it is opened: a FIFO would be waited for
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f'{file}: {"Is a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"}')
        if status.st_size > MAX_BYTES:
            raise UserError(f'{file}: {status.st_size:,} bytes are too many for an option file')
        with open(file, encoding='utf-8') as stream:
            loader = OptionLoader(stream)
            loader.above = above
            opt = loader.get_single_data()
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}') from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise UserError(f'{file}: not a text file in UTF-8') from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else '?'
        raise UserError(f'{file}, line {line}: not valid YAML: {error.problem}') from None
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, UserError) else UserError(f'{file}: not valid YAML: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{file}: not an option file: must be a mapping of keys to values')
    return opt


def _force(opt: Options, entry: str) -> None:
    keys, _, value = entry.partition('=')
    names = keys.strip().split(':')
    if entry.count('=') != 1 or not all(re.fullmatch(r'[\w.+-]+', name) for name in names):
        raise UserError(f'--force_yml {entry}: must be section:key=value')
    section = opt
    for name in names[:-1]:
        if not isinstance(section.get(name), dict):
            raise UserError(
                f'--force_yml {entry}: no section {name}'
                + did_you_mean(name, [key for key in section if isinstance(section[key], dict)])
            )
        section = section[name]
    section[names[-1]] = parse_value(value.strip())
