"""A network as an ONNX graph that takes pictures of any number and size."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError, without_warnings
from iafmsr.nets.onnx_file import METADATA
from iafmsr.nets.trained import TrainedNet
from iafmsr.ops.submanifold import SubmanifoldConv2d

__all__ = ['to_onnx']

_TRACED = (33, 47)  # no side a multiple of the attention's cell, none is 1: no special case is traced


class _Half(nn.Module):
    """A net under autocast to float16: takes and gives float32; the density stays in float32, as in training."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, lq: Tensor) -> Tensor:
        with torch.autocast(lq.device.type, torch.float16):
            return self.net(lq).float()


def to_onnx(trained: TrainedNet, half: bool = False) -> bytes:
    """The content of an ONNX file with input ``lq`` (batch, channels, height, width) and output ``sr``, float32.

    The sparse convolution is in its dense form, equal up to rounding. The choice of the active sites (sort, threshold,
    ties by raster order) is part of the graph, their number computed from the picture's size.

    Args:
        trained: the net; left as it is.
        half: convolutions in float16, the density in float32.

    Raises:
        UserError: the packages of the extra ``onnx`` are missing, or the exporter cannot express the net.
    """
    net = copy.deepcopy(trained.net)
    for module in net.modules():
        if isinstance(module, SubmanifoldConv2d):
            module.backend = 'dense'  # the only form whose shapes do not depend on values
    program = _program(_Half(net) if half else net, trained.arch, trained.channels)
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces of the exporting machine
        node.doc_string = ''
    _name_sizes(model.graph, trained.scale)
    described = {'arch': trained.arch, 'scale': trained.scale, 'precision': 'float16' if half else 'float32'}
    model.metadata_props.add(key=METADATA, value=json.dumps(described))
    return model.SerializeToString()


def _program(net: nn.Module, arch: str, channels: int) -> torch.onnx.ONNXProgram:
    """The net as torch's exporter writes it."""
    try:
        import onnx  # noqa: F401
        from onnxscript import opset18
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; the extra 'onnx' brings it") from None
    size = torch.export.Dim.DYNAMIC

    def hypot(x: Any, y: Any) -> Any:  # of the Sobel map; the exporter does not know it
        return opset18.Sqrt(opset18.Add(opset18.Mul(x, x), opset18.Mul(y, y)))

    try:
        logging.disable(logging.WARNING)  # the optimiser's notes
        with without_warnings(), torch.inference_mode():
            program = torch.onnx.export(
                net,
                (torch.rand(2, channels, *_TRACED),),
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: size, 2: size, 3: size},),
                input_names=['lq'],
                output_names=['sr'],
                custom_translation_table={torch.ops.aten.hypot.default: hypot},
            )
    except Exception as error:  # the exporter fails in any way
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).strip().partition('\n')[0] or type(cause).__name__
        raise UserError(f'{arch} cannot be exported: {reason}') from None
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None, 'what dynamo=True gives'
    return program


def _name_sizes(graph: Any, scale: int) -> None:
    """Call the free sizes of input and output by their names instead of the exporter's numbers."""
    for value, factor in ((graph.input[0], ''), (graph.output[0], f'{scale}*')):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip((dims[0], dims[2], dims[3]), ('batch', f'{factor}height', f'{factor}width'), strict=True):
            dim.dim_param = name
