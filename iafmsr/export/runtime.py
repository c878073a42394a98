"""A network in an ONNX file, run by onnxruntime, with the interface of a PyTorch module."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.export.graph import METADATA
from iafmsr.files.names import printable
from iafmsr.inference.weights import TrainedNet

__all__ = ['OnnxNet', 'load_onnx', 'session']


def session(content: bytes):
    """onnxruntime's session of the content of a file, on the CPU with as many threads as torch has.

    Raises:
        UserError: onnxruntime is missing, or cannot take the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnxruntime is not installed; the extra 'onnx' brings it") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise UserError(f'no ONNX file that onnxruntime takes ({type(error).__name__})') from None


class OnnxNet(nn.Module):
    """``net(lq)``: (B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), float32, by a :func:`session`."""

    def __init__(self, onnx_session) -> None:
        super().__init__()
        self._session = onnx_session

    def forward(self, lq: Tensor) -> Tensor:
        return torch.from_numpy(self._session.run(['sr'], {'lq': lq.float().cpu().numpy()})[0]).to(lq.device)


def load_onnx(file: Path) -> TrainedNet:
    """The network in a file that ``iafmsr export`` wrote.

    Raises:
        UserError: there is none, it is damaged or another program's, or onnxruntime is missing.
    """
    try:
        onnx_session = session(file.read_bytes())
    except OSError as error:
        raise UserError(f'{printable(file)}: cannot be read ({error.strerror})') from None
    except UserError as error:
        raise UserError(f'{printable(file)}: {error}') from None
    described = onnx_session.get_modelmeta().custom_metadata_map.get(METADATA)
    if described is None:
        raise UserError(f'{printable(file)}: not written by iafmsr export')
    described = json.loads(described)
    return TrainedNet(OnnxNet(onnx_session).eval(), described['arch'], described['scale'])
