"""Fixtures that all tests share."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import iafmsr

if find_spec('basicsr'):  # not on Python 3.13, where the tests of inference run without it
    iafmsr.register()  # first: BasicSR cannot be imported without its cures
torch.set_num_threads(1)
os.environ['IAFMSR_ENGINE'] = 'torch'  # an export takes seconds: tests/test_engines.py has those of the others

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture
def bf16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 is trained in where it is asked for: any CPU can, and most of those without arithmetic for it too."""
    monkeypatch.setattr('iafmsr.models.precision.has_bf16', lambda device: True)


@pytest.fixture(scope='session')
def data_root() -> Path:
    """The folder of real data (benchmarks/, train/, weights/); the test is skipped where there is none."""
    root = Path(os.environ.get('IAFMSR_DATA', ROOT.parent / 'shared' / 'data'))
    if not root.is_dir():
        pytest.skip(f'no real data: {root} is not a folder; set IAFMSR_DATA')
    return root
