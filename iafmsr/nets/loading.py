"""Networks with their weights, ready to run, from a single file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.building import build_with_weights
from iafmsr.nets.description import describe
from iafmsr.nets.trained import TrainedNet, trained

__all__ = ['load_net']


def load_net(file: Path, given: Mapping[str, Any] | None = None) -> TrainedNet:
    """The network that a file of weights belongs to, see :func:`~iafmsr.nets.description.describe`.

    Args:
        file: weights (``.pth``), an option file that names some (``.yml``), or a file of ``iafmsr export`` (``.onnx``),
            which onnxruntime runs.
        given: ``type`` and keywords of the arch that the user gives.

    Raises:
        UserError: no file of weights, or of no known network, or they do not fit it or are not finite.
    """
    if file.suffix == '.onnx':
        from iafmsr.nets.engines import load_onnx

        return load_onnx(file)
    described, name = describe(file, given), printable(file)
    if described.weights is None:
        raise UserError(f'{name}: it names no weights (path.pretrain_network_g)')
    net = build_with_weights(name, described.network, described.weights, described.param_key)
    return trained(name, net, described.network)
