"""Networks as graphs that an engine runs, with the interface of a PyTorch module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.compiled import Run, compiled, refusal
from iafmsr.nets.graph import METADATA, part, parts_of
from iafmsr.nets.trained import TrainedNet, trained

__all__ = ['EngineNet', 'engine_net', 'load_onnx']


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
        except UserError:
            raise
        except Exception as error:  # the engines' errors have no base of their own
            raise RuntimeError(str(error)) from None


class TiledEngineNet(EngineNet):
    """The same for a net with maps, which a tile takes from its picture; the methods are named as in IAFMNet.

    In half precision the features, the density and the bicubic picture of an IAFMNet are still computed in float32.
    """

    def __init__(self, content: bytes, engine: str, precision: str, described: dict[str, Any]) -> None:
        super().__init__(content, engine, precision, described)
        self._parts: dict[str, Run] = {}

    def forward(self, lq: Tensor, maps: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if self.precision != 'fp32' and 'exact' in self.described:
            return self._in_two_precisions(lq, maps)
        if maps is None:
            return super().forward(lq)
        return self._of('sr', lq=lq, idm=maps[0], mask=maps[1])[0]

    def _in_two_precisions(self, lq: Tensor, maps: tuple[Tensor, Tensor] | None) -> Tensor:
        known: dict[str, Tensor] = {} if maps is None else {'idm': maps[0], 'mask': maps[1]}
        exact = 'exact' if maps is None else 'exact_of_tile'
        found = self._of(exact, lq=lq, **known)
        known |= zip(parts_of(self.described)[exact][1], found, strict=True)
        return self._of('body', lq=lq, **known)[0]

    def local_map(self, lq: Tensor) -> Tensor:
        """(B, C, H, W) -> the learned map (B, 1, H, W), without normalisation over the picture."""
        return self._of('local_map', lq=lq)[0]

    def maps(self, local_map: Tensor, lq: Tensor) -> tuple[Tensor, Tensor]:
        """The :meth:`local_map` of the whole picture lq -> its final map and its mask, (B, 1, H, W) each."""
        idm, mask = self._of('maps', local_map=local_map, lq=lq)
        return idm, mask

    @property
    def margin(self) -> int:
        """How far a tile reaches beyond itself, in pixels."""
        return int(self.described['margin'])

    def _of(self, name: str, **inputs: Tensor) -> list[Tensor]:
        """What a part of the graph makes of its inputs; it is compiled when it is used for the first time."""
        if name not in self._parts:
            precision = self.precision if name in ('sr', 'body') else 'fp32'
            content = part(self.content, *parts_of(self.described)[name])
            self._parts[name] = compiled(content, self.engine, precision)
        return self._called(self._parts[name], **inputs)


def engine_net(
    content: bytes, engine: str, precision: str = 'fp32', described: dict[str, Any] | None = None
) -> EngineNet:
    """The net of a graph of ``iafmsr export`` in an engine; exact in tiles where the graph names its maps.

    Args:
        content, engine, precision: as of :func:`compiled`.
        described: what the graph says of its network, of a graph that was here before; reading it takes a while.

    Raises:
        UserError: as :func:`compiled`, or the graph says nothing of its network that can be read, or wants data of
            other files.
    """
    if described is None:
        described = _described(content)
        _check_whole(content)
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
        raise UserError(f'{name}: a graph for pictures of one size, {net.described["size"]}: only for other programs')
    found = trained(name, net, {'type': str(net.described['arch'])})
    if found.scale != net.described['scale']:
        raise UserError(f'{name}: it says scale {net.described["scale"]!r}, and enlarges by {found.scale}')
    return found


def _check_whole(content: bytes) -> None:
    """Raises:
    UserError: the file needs data from other files.
    """
    import onnx

    for message in _messages(onnx.load_from_string(content)):
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError('its data lie in other files, which are not read')


def _described(content: bytes) -> dict[str, Any]:
    try:
        import onnx
    except ImportError:
        raise UserError("onnx is not installed; install the extra 'onnx'") from None
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # of protobuf's own kinds
        raise UserError(f'not an ONNX file ({type(error).__name__})') from None
    said = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA)
    if said is None:
        raise UserError('not written by iafmsr export')
    try:
        described: dict[str, Any] = json.loads(said)
        _ = described['arch'], described['scale'], int(described.get('margin', 0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f'the description of its network (metadata {METADATA!r}) is damaged') from None
    if [value.name for value in (*model.graph.input, *model.graph.output)] != ['lq', 'sr']:
        raise UserError('its input and output must be lq and sr')
    taken = model.graph.input[0].type.tensor_type.shape.dim
    return {**described, 'channels': 1 if len(taken) > 1 and taken[1].dim_value == 1 else 3}


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that are part of it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, '__len__') else (value,):
                yield from _messages(inner)
