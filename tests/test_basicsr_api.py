"""BasicSR is cured and knows what is here, whichever module is imported first."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import importlib, os, sys
import torch
import iafmsr

assert 'basicsr' not in sys.modules and 'torchvision' not in sys.modules
# seconds that all of the processes share
import cv2, requests, scipy.linalg, scipy.special, scipy.stats
from iafmsr.bridge import importing
importing.prepare_import()
import torchvision.models

bad = []
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
            from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
            from basicsr.utils.options import parse_options
            assert parse_options.__wrapped__
            known = [key for registry in (ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY)
                     for key, value in registry if value.__module__.startswith('iafmsr.')]
            from iafmsr import archs
            assert {*archs.__all__, 'OnTheFlyDataset',
                    'PairedSRDataset', 'InformationEntropyLoss', 'FFTLoss', 'IAFMNetModel'} <= set(known), known
            os._exit(0)
        except BaseException as error:
            print(name, repr(error), flush=True)
        os._exit(1)
    if os.waitpid(pid, 0)[1]:
        bad.append(name)
sys.exit(bool(bad))
"""


def python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_whichever_module_comes_first(repo_root: Path) -> None:
    """Of those that use BasicSR: the one in whose midst all the others are then imported has to stand it."""
    folders = ('archs', 'data', 'models') if not os.environ.get('IAFMSR_FULL') else ('.',)
    files = [file for folder in folders for file in sorted((repo_root / 'iafmsr' / folder).rglob('*.py'))]
    modules = [
        '.'.join(file.relative_to(repo_root).with_suffix('').parts)
        for file in files
        if '\nfrom iafmsr.bridge.basicsr_api' in file.read_text()
    ]
    assert len(modules) > 5
    done = python(PROGRAM, 'iafmsr.bridge.basicsr_api', *modules, cwd=repo_root)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    'order',
    [
        'import iafmsr; iafmsr.register(); import basicsr',
        # what makes BasicSR importable here is what a stack that needs no cure has
        'from iafmsr.bridge import importing; importing.prepare_import(); sys.modules.pop("iafmsr"); '
        'import basicsr; import iafmsr',
        'import iafmsr; from iafmsr.models import IAFMNetModel; import basicsr',
        'import iafmsr; import basicsr',
    ],
)
def test_before_or_after_basicsr(repo_root: Path, order: str) -> None:
    done = python(
        f'import sys; {order}\n'
        'from basicsr.archs import build_network\n'
        'print(type(build_network({"type": "IAFMNet", "num_feat": 8, "num_block": 1})).__module__)',
        cwd=repo_root,
    )
    assert done.stdout.splitlines()[-1:] == ['iafmsr.archs.iafmnet_arch'], done.stderr


def test_the_package_alone_is_imported_in_a_moment(repo_root: Path) -> None:
    """Without BasicSR as well, and what does not need it works then."""
    done = python(
        'import sys, time; sys.modules["basicsr"] = None; start = time.process_time(); import iafmsr\n'
        'print(time.process_time() - start, "torch" in sys.modules)\n'
        'from iafmsr.archs import IAFMNet; from iafmsr.nets.checkpoints import save_whole',
        cwd=repo_root,
    )
    seconds, torch_is_there = done.stdout.split()
    assert float(seconds) < 0.3 and torch_is_there == 'False' and not done.returncode, done.stderr


def test_only_one_module_takes_names_of_basicsr(repo_root: Path) -> None:
    """Neither it nor torchvision can be imported before it is cured."""
    for file in sorted((repo_root / 'iafmsr').rglob('*.py')):
        names = {
            node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(ast.parse(file.read_text(encoding='utf-8')))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        if file.name not in ('basicsr_api.py', 'compat.py', 'importing.py', 'launching.py'):
            assert not [name for name in names if name and name.partition('.')[0] in ('basicsr', 'torchvision')], file


def test_names_of_packages_are_imported_when_asked_for() -> None:
    import iafmsr
    from iafmsr import archs, data

    for package in (archs, data):
        for name in package.__all__:
            assert getattr(package, name).__module__.startswith(package.__name__)
        assert not hasattr(package, 'NoSuchName')
    assert iafmsr.models.losses.FFTLoss and iafmsr.models.IAFMNetModel
