"""Print what a bug report needs: versions, processor, device, and the folders that are read and written.

Nothing is sent anywhere. Check the paths before you publish them: they may contain your name.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NEEDED = ('torch', 'numpy', 'opencv-python', 'opencv-python-headless', 'pillow', 'tifffile', 'pydantic')
_OPTIONAL = ('basicsr', 'torchvision', 'lmdb', 'onnxruntime', 'openvino', 'spandrel', 'gradio')
_SPCONV = ('spconv-cu120', 'spconv-cu124', 'spconv-cu126')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Returns: 0."""
    for name, value in lines():
        print(f'{name:13} {value}')
    return 0


def lines() -> Iterator[tuple[str, str]]:
    """What is known, as name and value."""
    import torch

    import iafmsr
    from iafmsr.nets.arithmetic import has_bf16
    from iafmsr.nets.files import known_names
    from iafmsr.options.places import OPTIONS, WEIGHTS, root_here

    cpu, cuda = torch.device('cpu'), torch.cuda.is_available()
    yield 'iafmsr', iafmsr.__version__
    yield 'python', f'{platform.python_version()} on {platform.platform()}'
    yield 'packages', ', '.join(filter(None, map(_version, _NEEDED)))
    yield 'optional', ', '.join(filter(None, map(_version, (*_OPTIONAL, *_SPCONV)))) or 'none'
    yield 'processor', f'{processor(cpu)} of PyTorch on {os.cpu_count()} cores'
    yield (
        'bf16',
        'supported by the processor' if has_bf16(cpu) else 'not supported by the processor: slower than float32',
    )
    yield 'CUDA', f'{torch.version.cuda}, {torch.cuda.get_device_name()}' if cuda else 'no device'
    yield 'sparse conv.', 'dense on CUDA' if cuda else 'gather on the CPU'
    yield 'weights', f'{WEIGHTS}: {", ".join(known_names())}'
    yield 'options', str(OPTIONS)
    yield 'runs', f'{root_here()}: experiments/, results/, tb_logger/'
    yield 'benchmarks', f'{os.environ.get("IAFMSR_DATA") or root_here() / "datasets"}/benchmarks'


def processor(device: torch.device) -> str:
    """The device by name, a CPU with the number of threads."""
    import torch

    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    try:
        told = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        model = next(line.partition(':')[2].strip() for line in told if line.startswith('model name'))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f'{model}, {threads} thread{"s" * (threads > 1)}'


def _version(package: str) -> str:
    """Name and version, or nothing where it is not installed."""
    try:
        return f'{package} {version(package)}'
    except PackageNotFoundError:
        return ''
