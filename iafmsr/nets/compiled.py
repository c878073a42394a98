"""Graphs in engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from iafmsr.errors import UserError

__all__ = ['ENGINES', 'Run', 'compiled', 'refusal']

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]  # inputs by name -> outputs in the order of the graph
_EXTRAS = {'openvino': 'fast', 'onnxruntime': 'onnx'}
ENGINES = ('auto', 'torch', *_EXTRAS)
_HINTS = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16'}


def refusal(engine: str, precision: str = 'fp32') -> str | None:
    """Why an engine cannot run here in a precision; None where it can."""
    if find_spec(engine) is None:
        return f"{engine} is not installed; install the extra '{_EXTRAS[engine]}'"
    if precision != 'fp32' and engine == 'onnxruntime':
        return 'onnxruntime computes in float32, or in the precision of a file of iafmsr export --fp16'
    if precision != 'fp32' and precision.upper() not in _openvino().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        return f'this CPU does not support {precision}'
    return None


def compiled(content: bytes, engine: str, precision: str = 'fp32') -> Run:
    """A graph in an engine, on the CPU with as many threads as torch has.

    Args:
        content: of an ONNX file.
        engine: ``openvino`` or ``onnxruntime``.
        precision: ``fp32``, or ``bf16`` or ``fp16`` where OpenVINO has arithmetic for it here.

    Raises:
        UserError: the engine is not installed, cannot compute in the precision, or cannot take the graph.
    """
    if reason := refusal(engine, precision):
        raise UserError(reason)
    makers: dict[str, Callable[[bytes, str], Run]] = {'openvino': _InOpenVINO, 'onnxruntime': _in_onnxruntime}
    with _taken_by(engine):
        return makers[engine](content, precision)


@contextmanager
def _taken_by(engine: str) -> Iterator[None]:
    """Raises:
    UserError: the engine cannot take the graph.
    """
    try:
        yield
    except Exception as error:  # the engines' errors have no base of their own
        raise UserError(f'{engine} cannot load this ONNX file ({type(error).__name__})') from None


@cache
def _openvino() -> Any:
    """The only core of the process, kept for good.

    A core gives the thread a stack for signal handlers and frees it at its end. A second core would remember the stack
    of the first and bring it back after it was freed: the next signal would then write into freed memory.
    """
    import openvino

    return openvino.Core()


class _InOpenVINO:
    """A graph for the size of the first picture, or of the last two, and one for all others.

    The graph of one size is a tenth faster, and takes half of the memory (docs/speed.md).
    """

    def __init__(self, content: bytes, precision: str) -> None:
        self.core = _openvino()
        self.model = self.core.read_model(content)
        self.options = {
            'INFERENCE_PRECISION_HINT': _HINTS[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
            'ENABLE_CPU_PINNING': False,  # two processes would share a core while others are idle
        }
        self.names = {name for value in self.model.inputs for name in value.get_names()}
        self.size: dict[str, list[int]] = {}
        self.of_size: Any = None
        self.of_any_size: Any = None

    def __call__(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        size = {name: list(value.shape) for name, value in inputs.items() if name in self.names}
        net = self._net(size)
        found = net({name: inputs[name].numpy() for name in size}, share_inputs=True)
        return [torch.from_numpy(found[output]) for output in net.outputs]

    def _net(self, size: dict[str, list[int]]) -> Any:
        if self.size not in ({}, size):
            self.size, self.of_size = size, None
            self.of_any_size = self.of_any_size or self._compiled({})
            return self.of_any_size
        self.size = size
        self.of_size = self.of_size or self._compiled(size)
        return self.of_size

    def _compiled(self, size: dict[str, list[int]]) -> Any:
        with _taken_by('openvino'):
            model = self.model.clone()
            if size:
                model.reshape(size)
            return self.core.compile_model(model, 'CPU', self.options)


def _in_onnxruntime(content: bytes, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    names = {value.name for value in session.get_inputs()}

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in names})
        return [torch.from_numpy(value) for value in found]

    return run
