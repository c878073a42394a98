"""Networks as graphs that an engine runs, with the interface of a PyTorch module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.graph import METADATA, PARTS, part
from iafmsr.nets.trained import TrainedNet, trained

__all__ = ['ENGINES', 'EngineNet', 'compiled', 'engine_net', 'load_onnx', 'refusal']

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
        return {'openvino': _in_openvino, 'onnxruntime': _in_onnxruntime}[engine](content, precision)
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


def _in_openvino(content: bytes, precision: str) -> Run:
    _check_whole(content)
    core = _openvino()
    options = {
        'INFERENCE_PRECISION_HINT': _HINTS[precision],
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
        'PERFORMANCE_HINT': 'LATENCY',
        'ENABLE_CPU_PINNING': False,  # two processes would share a core while others are idle
    }
    net = core.compile_model(core.read_model(content), 'CPU', options)
    names = {name for value in net.inputs for name in value.get_names()}

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        found = net({name: value.numpy() for name, value in inputs.items() if name in names}, share_inputs=True)
        return [torch.from_numpy(found[output]) for output in net.outputs]

    return run


def _in_onnxruntime(content: bytes, precision: str) -> Run:
    import onnxruntime

    _check_whole(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    names = {value.name for value in session.get_inputs()}

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in names})
        return [torch.from_numpy(value) for value in found]

    return run


def _check_whole(content: bytes) -> None:
    """Raises:
    UserError: the file wants data of other files.
    """
    import onnx

    for message in _messages(onnx.load_from_string(content)):
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError('its data lie in other files, which are not read')


class EngineNet(nn.Module):
    """``net(lq)``: (B, C, H, W) in [0, 1] -> (B, C, sH, sW), float32, by a graph in an engine.

    Args:
        content, engine, precision: as of :func:`compiled`.
        described (dict): what the graph says of its network.

    Raises:
        UserError: as :func:`compiled`.
    """

    def __init__(self, content: bytes, engine: str, precision: str, described: dict[str, Any]) -> None:
        super().__init__()
        self.content, self.engine, self.precision, self.described = content, engine, precision, described
        self.channels = int(described['channels'])
        self._run, self._lock = compiled(content, engine, precision), Lock()

    def forward(self, lq: Tensor) -> Tensor:
        return self._called(self._run, lq=lq)[0]

    def _called(self, run: Run, **inputs: Tensor) -> list[Tensor]:
        given = {name: value if value.dtype == torch.bool else value.float() for name, value in inputs.items()}
        try:
            with self._lock:  # a graph computes one thing at a time
                return run({name: value.detach().cpu().contiguous() for name, value in given.items()})
        except Exception as error:  # the engines' errors have no base of their own
            raise RuntimeError(str(error)) from None


class TiledEngineNet(EngineNet):
    """The same of a net with maps, which a tile takes from its picture, with IAFMNet's names for it."""

    def forward(self, lq: Tensor, maps: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if maps is None:
            return super().forward(lq)
        return self._called(self._parts['sr'], lq=lq, idm=maps[0], mask=maps[1])[0]

    def local_map(self, lq: Tensor) -> Tensor:
        """(B, C, H, W) -> the learned map (B, 1, H, W), as far as each place's surroundings decide it."""
        return self._called(self._parts['local_map'], lq=lq)[0]

    def maps(self, local_map: Tensor, lq: Tensor) -> tuple[Tensor, Tensor]:
        """The :meth:`local_map` of the whole picture lq -> map and mask (B, 1, H, W), which the whole decides."""
        idm, mask = self._called(self._parts['maps'], local_map=local_map, lq=lq)
        return idm, mask

    @property
    def margin(self) -> int:
        """How far a tile reaches beyond itself, in pixels."""
        return int(self.described['margin'])

    @cached_property
    def _parts(self) -> dict[str, Run]:
        precision = {name: self.precision if name == 'sr' else 'fp32' for name in PARTS}
        return {name: compiled(part(self.content, name), self.engine, precision[name]) for name in PARTS}


def engine_net(content: bytes, engine: str, precision: str = 'fp32') -> EngineNet:
    """The net of a graph of ``iafmsr export`` in an engine; exact in tiles where the graph names its maps.

    Raises:
        UserError: as :func:`compiled`, or the graph says nothing of its network that can be read.
    """
    described = _described(content)
    kind = TiledEngineNet if 'margin' in described else EngineNet
    return kind(content, engine, precision, described)


def load_onnx(file: Path) -> TrainedNet:
    """The network in a file that ``iafmsr export`` wrote, in onnxruntime, or in OpenVINO where that is not installed.

    Raises:
        UserError: there is none, it is damaged or another program's, or no engine is installed.
    """
    name = printable(file)
    try:
        engine = next((engine for engine in ('onnxruntime', 'openvino') if not refusal(engine)), 'onnxruntime')
        net = engine_net(file.read_bytes(), engine)
    except OSError as error:
        raise UserError(f'{name}: cannot be read ({error.strerror})') from None
    except UserError as error:
        raise UserError(f'{name}: {error}') from None
    if 'size' in net.described:
        raise UserError(f'{name}: a graph for pictures of one size, {net.described["size"]}; it is for other programs')
    found = trained(name, net, {'type': str(net.described['arch'])})
    if found.scale != net.described['scale']:
        raise UserError(f'{name}: it says scale {net.described["scale"]!r}, and enlarges by {found.scale}')
    return found


def _described(content: bytes) -> dict[str, Any]:
    try:
        import onnx
    except ImportError:
        raise UserError("onnx is not installed; the extra 'onnx' brings it") from None
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # of protobuf's own kinds
        raise UserError(f'no ONNX file ({type(error).__name__})') from None
    said = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA)
    if said is None:
        raise UserError('not written by iafmsr export')
    try:
        described: dict[str, Any] = json.loads(said)
        _ = described['arch'], described['scale'], int(described.get('margin', 0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f'what it says of its network (metadata {METADATA!r}) is damaged') from None
    if [value.name for value in (*model.graph.input, *model.graph.output)] != ['lq', 'sr']:
        raise UserError('no graph from lq to sr')
    taken = model.graph.input[0].type.tensor_type.shape.dim
    return {**described, 'channels': 1 if len(taken) > 1 and taken[1].dim_value == 1 else 3}


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that are part of it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, '__len__') else (value,):
                yield from _messages(inner)
