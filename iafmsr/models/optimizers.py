"""The optimizers of torch.optim by their names, and Muon."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from iafmsr.models.muon import Muon, has_fused

__all__ = ['OPTIMIZERS', 'build_optimizer']

# LBFGS calls the loss again and again, SparseAdam takes sparse gradients alone, torch's Muon matrices alone
_LEFT_OUT = ('Optimizer', 'LBFGS', 'SparseAdam', 'Muon')
_FUSED = ('Adam', 'AdamW')  # whose fused kind can leave out a step on a GPU, the first one too

OPTIMIZERS: dict[str, Any] = {
    name: found
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, torch.optim.Optimizer) and name not in _LEFT_OUT
} | {'Muon': Muon}


def build_optimizer(name: str, params: list[Tensor], lr: float, **kwargs: Any) -> torch.optim.Optimizer:
    """The optimizer of a name, with Adam and AdamW of the fused kind where torch has it and no other kind is asked for.

    The fused kind can leave a step out without asking the host, and on a CPU takes a tenth of the time.

    Args:
        name: a key of :data:`OPTIMIZERS`.
        params: parameters.
        lr: learning rate.
        **kwargs: of the class.
    """
    if name in _FUSED and not kwargs.keys() & {'fused', 'foreach', 'capturable', 'differentiable'}:
        kwargs['fused'] = has_fused(params)
    return OPTIMIZERS[name](params, lr=lr, **kwargs)
