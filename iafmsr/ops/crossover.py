"""Which backend of the submanifold convolution is the faster one: measured, not computed."""

from __future__ import annotations

import torch
from torch import Tensor

from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.torch_names import is_compiling

# The largest share of active sites at which ``gather`` beats the dense form on a CPU, by whether a gradient is wanted.
# `iafmsr profile sparse-conv` measures it (docs/speed.md).
GATHER_UP_TO = {False: 0.4, True: 0.4}


def choose_backend(x: Tensor, weight: Tensor, sites: ActiveSites) -> str:
    """What ``auto`` stands for: ``gather`` on a CPU where few sites are active, ``dense`` elsewhere.

    CUDA follows the dense form: no crossover has been measured there. So does whatever traces the network (compile,
    export), since only the dense form has no shape that depends on values, and tensors without values (meta).
    """
    if x.device.type != 'cpu' or is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return 'dense'
    gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return 'gather' if sites.count <= GATHER_UP_TO[gradient] * sites.mask.numel() else 'dense'
