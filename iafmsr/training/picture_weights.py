"""How often the pictures of a train set are drawn, by its ``picture_weights``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iafmsr.data.weights import BY_GRADIENT, density_weights, gradient_weights, read_weights
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import to_gray

__all__ = ['check_picture_weights', 'weights_of']


def weights_of(dataset: Any, wanted: str | None) -> Tensor | None:
    """The weights of a dataset's pictures, float64 (pictures,); None where all are drawn alike.

    Raises:
        UserError: the file of weights is none, see :func:`check_picture_weights`.
    """
    if wanted is None or wanted == BY_GRADIENT:
        return gradient_weights(dataset) if wanted else None
    if _is_network(wanted):
        return density_weights(dataset, _density(wanted))
    return read_weights(Path(wanted), [dataset.names(index)['gt_path'] for index in range(len(dataset))])


def check_picture_weights(wanted: str, names: list[str]) -> None:
    """That a run can take them.

    Raises:
        UserError: the file has no weight of each of the HR pictures ``names``, or is of a network without a density.
    """
    if _is_network(wanted):
        _density(wanted)
    elif wanted != BY_GRADIENT:
        read_weights(Path(wanted), names)


def _is_network(wanted: str) -> bool:
    return Path(wanted).suffix in ('.pth', '.safetensors')


def _density(file: str) -> Callable[[Tensor], Tensor]:
    """The map of a network in a file: LR (1, 3, H, W) in [0, 1] -> (1, 1, H, W)."""
    trained = load_net(Path(file))
    net: Any = trained.net
    if 'return_density' not in inspect.signature(net.forward).parameters:
        raise UserError(f'{printable(Path(file))}: its network has no density')

    @torch.inference_mode()
    def density(lq: Tensor) -> Tensor:
        lq = to_gray(lq) if trained.channels == 1 else lq
        return net.local_map(lq) if hasattr(net, 'local_map') else net(lq, return_density=True)[1].idm

    return density
