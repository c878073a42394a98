"""Arrows point one way: tools -> models -> archs -> layers -> ops; the method itself needs torch alone."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'iafmsr'
ALLOWED = {
    'ops': {'iafmsr.ops'},
    'layers': {'iafmsr.ops', 'iafmsr.layers'},
    'archs': {'iafmsr.ops', 'iafmsr.layers', 'iafmsr.archs', 'iafmsr.errors', 'iafmsr.basicsr_api'},
    'files': {'iafmsr.files', 'iafmsr.errors'},
    'losses': {'iafmsr.ops', 'iafmsr.layers', 'iafmsr.losses', 'iafmsr.errors', 'iafmsr.basicsr_api'},
    'nets': {
        'iafmsr.archs',
        'iafmsr.nets',
        'iafmsr.errors',
        'iafmsr.files',
        'iafmsr.options.files',
        'iafmsr.basicsr_api',
    },
}
LIBRARIES = {
    'ops': {'torch', 'spconv'},
    'layers': {'torch'},
    'archs': {'torch', 'spandrel'},
    'losses': {'torch'},
    'files': {'torch', 'numpy', 'cv2', 'PIL', 'tifffile'},
    'nets': {'torch', 'yaml', 'onnx', 'onnxruntime'},
}


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f'iafmsr.{alias.name}' for alias in node.names} if node.module == 'iafmsr' else {node.module}
    return names


@pytest.mark.parametrize('folder', ALLOWED)
def test_a_folder_imports_what_lies_below_it_alone(folder):
    files = sorted((PACKAGE / folder).glob('*.py'))
    assert len(files) > 1
    for file in files:
        for name in imports(file):
            root = name.split('.')[0]
            if root == 'iafmsr':
                assert any(name == a or name.startswith(f'{a}.') for a in ALLOWED[folder]), f'{file.name}: {name}'
            else:
                assert root in LIBRARIES[folder] | sys.stdlib_module_names, f'{file.name}: {name}'


def test_scripts_call_commands_and_do_no_more():
    for script in (PACKAGE.parent / 'scripts').rglob('*.py'):
        tree = ast.parse(script.read_text(encoding='utf-8'))
        assert imports(script) == {'sys', 'iafmsr.cli'} and len(tree.body) == 4, script.name
