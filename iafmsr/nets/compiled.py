"""Graphs in engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        return f"{engine} is not installed; the extra '{_EXTRAS[engine]}' brings it"
    if precision != 'fp32' and engine == 'onnxruntime':
        return 'onnxruntime computes in float32, or as a file of iafmsr export --fp16 says'
    if precision != 'fp32' and precision.upper() not in _openvino().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        return f'this CPU has no arithmetic for {precision}'
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
    try:
        makers: dict[str, Callable[[bytes, str], Run]] = {'openvino': _InOpenVINO, 'onnxruntime': _in_onnxruntime}
        return makers[engine](content, precision)
    except UserError:
        raise
    except Exception as error:  # the engines' errors have no base of their own
        raise UserError(f'no ONNX file that {engine} takes ({type(error).__name__})') from None


@cache
def _openvino() -> Any:
    """The only core of the process, kept for good.

    A core gives the thread a stack for signal handlers and frees it at its end. A second core would remember the stack
    of the first and bring it back after it was freed: the next signal would then write into freed memory.
    """
    import openvino

    return openvino.Core()


class _InOpenVINO:
    """A graph for all sizes, and one for the size that came twice in a row, which is a tenth faster (docs/speed.md)."""

    def __init__(self, content: bytes, precision: str) -> None:
        self.core, self.content = _openvino(), content
        self.options = {
            'INFERENCE_PRECISION_HINT': _HINTS[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
            'ENABLE_CPU_PINNING': False,  # two processes would share a core while others are idle
        }
        self.net = self._compiled({})
        self.names = {name for value in self.net.inputs for name in value.get_names()}
        self.size: dict[str, list[int]] = {}
        self.of_size: Any = None

    def __call__(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        size = {name: list(value.shape) for name, value in inputs.items() if name in self.names}
        if size != self.size:
            self.size, self.of_size = size, None
        elif self.of_size is None:
            self.of_size = self._compiled(size)
        net = self.of_size or self.net
        found = net({name: inputs[name].numpy() for name in size}, share_inputs=True)
        return [torch.from_numpy(found[output]) for output in net.outputs]

    def _compiled(self, size: dict[str, list[int]]) -> Any:
        model = self.core.read_model(self.content)
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
