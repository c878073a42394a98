"""Which backend of the submanifold convolution is faster, according to measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.torch_names import is_compiling

# The largest share of active sites at which ``gather`` is faster than the dense form on a CPU, without and with a
# gradient. `iafmsr profile sparse-conv` measures it (docs/speed.md).
GATHER_UP_TO = {False: 0.4, True: 0.4}


def choose_backend(x: Tensor, weight: Tensor, sites: ActiveSites) -> str:
    """The backend that ``auto`` selects: ``gather`` on a CPU if few sites are active, otherwise ``dense``.

    CUDA uses the dense form, because no crossover has been measured there. Tracing (compile, export) and tensors
    without values (meta) use it too, because only the dense form has no shape that depends on values.
    """
    if x.device.type != 'cpu' or is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return 'dense'
    gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return 'gather' if sites.count <= GATHER_UP_TO[gradient] * sites.mask.numel() else 'dense'
