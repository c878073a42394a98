"""A network compiled for training if that works; otherwise the network itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from iafmsr.bridge.basicsr_api import get_root_logger

MODES = ('default', 'reduce-overhead', 'max-autotune')


def compiled_or_not(net: nn.Module, mode: str, try_out: Callable[[nn.Module], None]) -> nn.Module:
    """The network compiled by torch.compile if that can be trained; otherwise a warning, and the network itself.

    Compilers fail late: in the backward pass, or when the generated code runs. So a forward and backward pass is tried.
    It changes neither gradients nor buffers nor random generators.

    Args:
        net: in training mode, wrapped or not; its parameters have no gradients.
        mode: one of :data:`MODES`; ``reduce-overhead`` and ``max-autotune`` record CUDA graphs.
        try_out: a forward and backward pass of the network that it gets, with the shapes of the training.
    """
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    devices = [torch.cuda.current_device()] if next(net.parameters()).is_cuda else []
    compiled: Any = torch.compile(net, mode=mode)
    try:
        with torch.random.fork_rng(devices):
            try_out(compiled)
    except Exception as error:  # whatever a compiler or its product may raise
        reason = str(error).strip().partition('\n')[0][:120]
        name = type(getattr(net, 'module', net)).__name__
        get_root_logger().warning(
            f'train.compile: {name} cannot be compiled for training ({type(error).__name__}: {reason}'
            '); it is trained without compilation'
        )
        torch._dynamo.reset()
        compiled = net
    for buffer, before in buffers:
        buffer.copy_(before)
    for parameter in net.parameters():
        parameter.grad = None
    return compiled
