"""The optimizers of torch.optim by their names, and Muon."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from iafmsr.models.muon import Muon, has_fused

__all__ = ['OPTIMIZERS', 'build_optimizer']

# LBFGS evaluates the loss several times a step, SparseAdam takes only sparse gradients, torch's Muon only matrices
_LEFT_OUT = ('Optimizer', 'LBFGS', 'SparseAdam', 'Muon')
_FUSED = ('Adam', 'AdamW')  # their fused kind can skip a step on a GPU, even the first one

OPTIMIZERS: dict[str, Any] = {
    name: found
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, torch.optim.Optimizer) and name not in _LEFT_OUT
} | {'Muon': Muon}


def build_optimizer(name: str, params: list[Tensor], lr: float, **kwargs: Any) -> torch.optim.Optimizer:
    """The optimizer with this name. Adam and AdamW are fused where torch can, unless another kind is requested.

    A fused optimizer can skip a step without waiting for the host, and takes a tenth of the time on a CPU.

    Args:
        name: a key of :data:`OPTIMIZERS`.
        params: parameters.
        lr: learning rate.
        **kwargs: further arguments of the class.
    """
    if name in _FUSED and not kwargs.keys() & {'fused', 'foreach', 'capturable', 'differentiable'}:
        kwargs['fused'] = has_fused(params)
    return OPTIMIZERS[name](params, lr=lr, **kwargs)
