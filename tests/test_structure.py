"""Arrows point one way, from tools down to ops; the method itself needs torch alone; what is long is cut."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'iafmsr'
# every room of the package, from the ground floor up, and the rooms that it may import
ALLOWED = {
    'errors': set(),
    'ops': set(),
    'layers': {'ops'},
    'files': {'errors'},
    'options': {'errors'},
    'bridge': {'errors'},
    'archs': {'bridge', 'errors', 'layers', 'ops'},
    'data': {'bridge', 'errors', 'files', 'ops'},
    'nets': {'archs', 'errors', 'files', 'layers', 'ops', 'options'},
    'models': {'bridge', 'errors', 'layers', 'nets'},
    'training': {'bridge', 'data', 'errors', 'files', 'models', 'nets', 'options'},
    '__init__': {'bridge', 'options'},  # what it registers it imports by name, when BasicSR is there
    'cli': {'__init__', 'errors', 'options'},  # a command is imported by name, when it is called
    'tools': {
        'bridge',
        'cli',
        'data',
        'errors',
        'files',
        'layers',
        'models',
        'nets',
        'ops',
        'options',
        'training',
        '__init__',
    },
    '__main__': {'cli'},
    'train': {'cli'},
    'test': {'cli'},
}
LIBRARIES = {
    'errors': set(),
    'ops': {'torch', 'spconv'},
    'layers': {'torch'},
    'archs': {'torch', 'spandrel', 'huggingface_hub', 'safetensors'},
    'models': {'torch', 'numpy', 'piq'},
    '__init__': set(),
    'bridge': {'torch', 'numpy', 'yaml', 'basicsr', 'torchvision', 'setuptools'},
    'files': {'torch', 'numpy', 'cv2', 'PIL', 'tifffile'},
    'nets': {'torch', 'numpy', 'yaml', 'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'safetensors'},
    'options': {'yaml', 'pydantic', 'pydantic_core'},
    'data': {'torch', 'numpy', 'PIL', 'lmdb', 'tqdm'},
    'cli': {'torch'},
    '__main__': set(),
    'train': set(),
    'test': set(),
}
FILES = sorted(PACKAGE.rglob('*.py'))
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 250, 40
STILL_LONGER = {'archs/edsr_idm_arch.py'}


def place(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def room(file: Path) -> str:
    """The folder or file at the top of the package that a file is in."""
    return file.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{place(file)}: a relative import'
            names |= {f'iafmsr.{alias.name}' for alias in node.names} if node.module == 'iafmsr' else {node.module}
    return names


def rooms(file: Path) -> set[str]:
    """The rooms that a file imports."""
    names = [name.split('.') for name in imports(file)]
    return {(parts[1:] or ['__init__'])[0] for parts in names if parts[0] == 'iafmsr'}


def modules(file: Path) -> Iterator[str]:
    """The modules of the package, by their places, that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            path = PACKAGE.parent.joinpath(*name.split('.'))
            for found in (path.with_suffix('.py'), path / '__init__.py'):
                if found.is_file() and found.is_relative_to(PACKAGE) and found.parent != PACKAGE:
                    yield place(found)


def test_each_room_has_its_rule_and_rules_point_down() -> None:
    assert {room(file) for file in FILES} == set(ALLOWED)
    floors = list(ALLOWED)
    for name, below in ALLOWED.items():
        assert below <= set(floors[: floors.index(name)]), name


@pytest.mark.parametrize('name', ALLOWED)
def test_a_room_imports_what_lies_below_it_alone(name: str) -> None:
    files = [file for file in FILES if room(file) == name]
    for file in files:
        assert rooms(file) <= ALLOWED[name] | {name}, place(file)
    used = set().union(*(rooms(file) for file in files))
    assert ALLOWED[name] <= used, 'a rule that nothing needs'


@pytest.mark.parametrize('name', LIBRARIES)
def test_a_room_needs_these_libraries_alone(name: str) -> None:
    files = [file for file in FILES if room(file) == name]
    used = {library: place(file) for file in files for library in {name.split('.')[0] for name in imports(file)}}
    foreign = {library: file for library, file in used.items() if library not in {'iafmsr', *sys.stdlib_module_names}}
    assert foreign.keys() == LIBRARIES[name], foreign


def test_no_files_import_each_other_in_a_circle() -> None:
    above = {place(file): set(modules(file)) - {place(file)} for file in FILES}
    while free := {file for file, below in above.items() if not below & above.keys()}:
        above = {file: below for file, below in above.items() if file not in free}
    while free := above.keys() - set().union(*above.values()):  # those above a circle
        above = {file: below for file, below in above.items() if file not in free}
    assert not above, f'in circles: {sorted(above)}'


def test_cures_of_basicsr_import_nothing_of_ours_but_errors() -> None:
    for name in ('compat', 'importing', 'launching'):
        ours = {name for name in imports(PACKAGE / f'bridge/{name}.py') if name.startswith('iafmsr')}
        assert ours <= {'iafmsr.errors'}, name


def test_no_file_and_no_function_is_too_long() -> None:
    longer = set()
    for file in FILES:
        text = file.read_text(encoding='utf-8')
        functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        lines = [function.end_lineno - function.lineno + 1 for function in functions]
        if len(text.splitlines()) > MOST_LINES or max(lines, default=0) > MOST_LINES_OF_A_FUNCTION:
            longer.add(place(file))
    assert longer == STILL_LONGER


def test_scripts_call_commands_and_do_no_more() -> None:
    for script in (PACKAGE.parent / 'scripts').rglob('*.py'):
        tree = ast.parse(script.read_text(encoding='utf-8'))
        assert imports(script) == {'sys', 'iafmsr.cli'} and len(tree.body) == 4, script.name


def test_no_view_of_a_buffer_outlives_its_block() -> None:
    """Python 3.12.1 crashes when an error keeps one: the collector frees the buffer before its view."""
    for file in FILES:
        text = file.read_text(encoding='utf-8')
        short = re.findall(r'with \w+\.getbuffer\(\) as|\.getbuffer\(\)\[', text)
        assert text.count('.getbuffer()') == len(short), file
