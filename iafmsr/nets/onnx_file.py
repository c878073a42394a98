"""A network in an ONNX file, run by onnxruntime, with the interface of a PyTorch module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.trained import TrainedNet, trained

__all__ = ['METADATA', 'OnnxNet', 'load_onnx', 'session']

METADATA = 'iafmsr'  # key under which the file says what it holds


def session(content: bytes) -> Any:
    """onnxruntime's session of the content of a file, on the CPU with as many threads as torch has.

    Raises:
        UserError: the packages of the extra ``onnx`` are missing, the file wants data of other files, or onnxruntime
            cannot take it.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; the extra 'onnx' brings it") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        outside = any(
            message.data_location == onnx.TensorProto.EXTERNAL
            for message in _messages(onnx.load_from_string(content))
            if isinstance(message, onnx.TensorProto)
        )
        if not outside:
            return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise UserError(f'no ONNX file that onnxruntime takes ({type(error).__name__})') from None
    raise UserError('its data lie in other files, which are not read')


class OnnxNet(nn.Module):
    """``net(lq)``: (B, channels, H, W) in [0, 1] -> (B, channels, sH, sW), float32, by a :func:`session`."""

    def __init__(self, onnx_session: Any) -> None:
        super().__init__()
        self._session = onnx_session
        self.channels = 1 if onnx_session.get_inputs()[0].shape[1:2] == [1] else 3

    def forward(self, lq: Tensor) -> Tensor:
        try:
            sr = self._session.run(['sr'], {'lq': lq.float().cpu().numpy()})[0]
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise RuntimeError(str(error)) from None
        return torch.from_numpy(sr).to(lq.device)


def load_onnx(file: Path) -> TrainedNet:
    """The network in a file that ``iafmsr export`` wrote.

    Raises:
        UserError: there is none, it is damaged or another program's, or the packages of the extra ``onnx`` are missing.
    """
    name = printable(file)
    try:
        onnx_session = session(file.read_bytes())
    except OSError as error:
        raise UserError(f'{name}: cannot be read ({error.strerror})') from None
    except UserError as error:
        raise UserError(f'{name}: {error}') from None
    said = onnx_session.get_modelmeta().custom_metadata_map.get(METADATA)
    if said is None:
        raise UserError(f'{name}: not written by iafmsr export')
    try:
        said = json.loads(said)
        arch, scale = said['arch'], said['scale']
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f'{name}: what it says of its network (metadata {METADATA!r}) is damaged') from None
    found = trained(name, OnnxNet(onnx_session), {'type': str(arch)})
    if found.scale != scale:
        raise UserError(f'{name}: it says scale {scale!r}, and enlarges by {found.scale}')
    return found


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all that are part of it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, '__len__') else (value,):
                yield from _messages(part)
