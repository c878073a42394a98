"""Which parameters of a network take part in a loss."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from iafmsr.bridge.basicsr_api import get_root_logger
from iafmsr.models.channels import channels_of
from iafmsr.models.losses.terms import trains_density

_SIDE = 32


def announce_unused_parameters(opt: dict[str, Any], net: nn.Module) -> None:
    """Set ``find_unused_parameters`` in the options of a distributed run if it is not set, and log the names.

    Args:
        opt: of the run; its ``network_g`` describes the network.
        net: on its device, in training mode.
    """
    if opt.get('find_unused_parameters') is not None:
        return
    losses = trains_density(opt['train'])
    unused = unused_parameters(net, channels_of(opt['network_g']) or 3, bool(losses))
    opt['find_unused_parameters'] = bool(unused) or any(loss.start_iter > 1 for loss in losses)
    if unused:
        get_root_logger().info(f'find_unused_parameters is set to true: no loss trains {", ".join(unused)}')


def unused_parameters(net: nn.Module, channels: int, with_density: bool) -> list[str]:
    """Names of the parameters that get no gradient when the picture, and the density with it, is trained.

    They are found by a small forward and backward pass of a copy, which works for every arch and option. A single such
    parameter without the option stops DistributedDataParallel from averaging, first silently, then with an error.

    Args:
        net: on its device, in training mode.
        channels: of its input.
        with_density: call it with ``return_density=True`` and train mu and theta as well.
    """
    trial, device = copy.deepcopy(net), next(net.parameters()).device
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        lq = torch.rand(1, channels, _SIDE, _SIDE, device=device)
        if with_density:
            sr, density = trial(lq, return_density=True)
            outputs = [sr, density.features, density.mu, density.theta]
        else:
            outputs = [trial(lq)]
        names, parameters = zip(*[(n, p) for n, p in trial.named_parameters() if p.requires_grad], strict=True)
        gradients = torch.autograd.grad(sum(output.float().sum() for output in outputs), parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
