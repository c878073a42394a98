"""A network as an ONNX graph that takes pictures of any number and size, and the parts of it that tiles need."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.errors import UserError, without_warnings
from iafmsr.layers.enlargement import enlarge
from iafmsr.nets.rewriting import rewrite
from iafmsr.nets.trained import TrainedNet
from iafmsr.nets.translations import translations

__all__ = ['METADATA', 'part', 'parts_of', 'to_onnx']

Names = tuple[str, ...]
METADATA = 'iafmsr'  # key under which the file says what it holds
_TRACED = (2, 33, 47)  # no side a multiple of the attention's cell, none is 1: no special case is traced
# The largest share of active sites at which gather and scatter beat the dense convolution in an engine (docs/speed.md)
GATHER_UP_TO = 0.3
_NAMES = ('sr', 'local_map', 'idm', 'mask')
_EXACT = ('f0', 'guide', 'mu', 'base')  # what an IAFMNet computes in float32 in every precision; base: if residual


class _Traced(nn.Module):
    """lq -> sr in float32, and the maps that a tile takes from its picture, of a net that has them.

    With ``half`` the net is under autocast to float16; the density stays in float32, as in training.
    """

    def __init__(self, net: nn.Module, half: bool) -> None:
        super().__init__()
        self.net, self.in_half = net, half

    def forward(self, lq: Tensor) -> Tensor | tuple[Tensor, ...]:
        net: Any = self.net
        with torch.autocast(lq.device.type, torch.float16) if self.in_half else nullcontext():
            if not hasattr(net, 'local_map'):
                return net(lq).float()
            local_map = net.local_map(lq)
            idm, mask = net.maps(local_map, lq)
            if not isinstance(net, IAFMNet):
                return net(lq, maps=(idm, mask)).float(), local_map, idm, mask
            sr, density = net(lq, return_density=True, maps=(idm, mask))
            base = (enlarge(lq, net.scale),) if net.residual else ()
            return sr.float(), local_map, idm, mask, net.head(lq), density.guide, density.mu, *base


def to_onnx(trained: TrainedNet, half: bool = False, size: Sequence[int] | None = None) -> bytes:
    """The content of an ONNX file with input ``lq`` (batch, channels, height, width) and output ``sr``, float32.

    The sparse convolution gathers the neighbours of the active sites, or is in its dense form where many are active.
    The choice of the active sites (sort, threshold, ties by raster order) is part of the graph, their number computed
    from the picture's size.

    Args:
        trained: the net; left as it is.
        half: convolutions in float16, the density in float32.
        size: width and height of the pictures, for a net that has no graph for all sizes; then the batch is 1.

    Raises:
        UserError: the packages of the extra ``onnx`` are missing, or the exporter cannot express the net.
    """
    net: Any = copy.deepcopy(trained.net)
    for module in net.modules():
        if getattr(module, 'backend', None) in ('auto', 'gather', 'spconv'):  # of the sparse convolution
            share = getattr(getattr(net, 'density', None), 'k', 1.0)
            module.backend = 'graph' if share <= GATHER_UP_TO else 'dense'
    with_maps = hasattr(net, 'local_map')
    exact = () if not isinstance(net, IAFMNet) else _EXACT if net.residual else _EXACT[:-1]
    program = _program(_Traced(net, half), trained, (*_NAMES, *exact) if with_maps else _NAMES[:1], size)
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces of the exporting machine
        node.doc_string = ''
    rewrite(model.graph)
    model.graph.value_info.extend(model.graph.output[1:])  # known within the graph by their names, see part
    del model.graph.output[1:]
    if size is None:
        _name_sizes(model.graph, trained.scale)
    described = {'arch': trained.arch, 'scale': trained.scale, 'precision': 'float16' if half else 'float32'}
    described |= {'margin': net.margin} if with_maps else {}
    described |= {'exact': _used(model.graph, 'sr', ('idm', 'mask', *exact))} if exact else {}
    described |= {'size': list(size)} if size is not None else {}
    model.metadata_props.add(key=METADATA, value=json.dumps(described))
    return model.SerializeToString()


def parts_of(described: Mapping[str, Any]) -> dict[str, tuple[Names, Names]]:
    """The parts of a graph of a net with maps: name -> inputs and outputs, names of values within the graph.

    ``local_map`` and ``maps`` are for tiles, and ``sr`` for a tile that has its maps. Of an IAFMNet, ``exact`` is what
    is computed in float32 in every precision, and ``body`` the rest; ``exact_of_tile`` is for a tile that has its maps.

    Args:
        described: what the graph says of its network.
    """
    parts: dict[str, tuple[Names, Names]] = {
        'local_map': (('lq',), ('local_map',)),
        'maps': (('local_map', 'lq'), ('idm', 'mask')),
        'sr': (('lq', 'idm', 'mask'), ('sr',)),
    }
    if exact := tuple(described.get('exact', ())):
        parts['exact'] = (('lq',), exact)
        parts['exact_of_tile'] = (('lq', 'idm', 'mask'), tuple(name for name in exact if name not in ('idm', 'mask')))
        parts['body'] = (('lq', *exact), ('sr',))
    return parts


def part(content: bytes, inputs: Names, outputs: Names) -> bytes:
    """A part of a graph of :func:`to_onnx`, by itself, see :func:`parts_of`.

    Raises:
        UserError: the graph does not name what lies between picture and result.
    """
    import onnx

    try:
        extractor = onnx.utils.Extractor(onnx.load_from_string(content))
        return extractor.extract_model(list(inputs), list(outputs)).SerializeToString()
    except Exception as error:  # of onnx's own kinds
        raise UserError(f'the graph has no values {", ".join(outputs)} ({type(error).__name__})') from None


def _used(graph: Any, result: str, names: Names) -> Names:
    """Those of the named values that a result is computed from, when all of them are known."""
    maker = {name: node for node in graph.node for name in node.output}
    found, left = set(), [result]
    while left:
        name = left.pop()
        if name not in found and name not in names and name in maker:
            left.extend(maker[name].input)
        found.add(name)
    return tuple(name for name in names if name in found)


def _program(
    net: nn.Module, trained: TrainedNet, names: Sequence[str], given: Sequence[int] | None
) -> torch.onnx.ONNXProgram:
    """The net as torch's exporter writes it."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; install the extra 'onnx'") from None
    size, (batch, *sides) = torch.export.Dim.DYNAMIC, (1, *given[::-1]) if given else _TRACED

    try:
        logging.disable(logging.WARNING)  # the optimiser's notes
        with without_warnings(), torch.inference_mode():
            program = torch.onnx.export(
                net,
                (torch.rand(batch, trained.channels, *sides),),
                dynamo=True,
                verbose=False,
                dynamic_shapes=None if given else ({0: size, 2: size, 3: size},),
                input_names=['lq'],
                output_names=list(names),
                custom_translation_table=translations(),
            )
    except Exception as error:  # the exporter fails in any way
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).strip().partition('\n')[0] or type(cause).__name__
        way = '' if given else '; --size exports it for pictures of one size'
        raise UserError(f'{trained.arch} cannot be exported: {reason}{way}') from None
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
