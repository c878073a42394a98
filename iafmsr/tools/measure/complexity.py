"""Parameters, multiply-accumulates and activations of a network, as this field reports them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from iafmsr.layers.density import num_active
from iafmsr.layers.idm import InformationDensity
from iafmsr.nets.building import build
from iafmsr.nets.trained import in_rgb
from iafmsr.ops.submanifold import SubmanifoldConv2d
from iafmsr.options.files import load_options

# fvcore, by which the papers count, gives a value that an interpolation writes this many operations
_INTERPOLATION = {torch.ops.aten.upsample_nearest2d: 1, torch.ops.aten.upsample_bilinear2d: 4}


class Complexity(NamedTuple):
    """params: learned numbers; macs: multiply-accumulates; activations: values that convolutions and linear layers
    write. macs and activations hold for one picture."""

    params: int
    macs: int
    activations: int


def count(net: nn.Module, scale: int, output_size: tuple[int, int] = (1280, 720), device: str = 'meta') -> Complexity:
    """Count one forward pass at an output size; nothing is computed (the meta device), so any size takes seconds.

    Convolutions and matrix products are counted by torch's own counter (two operations a multiply-accumulate), the
    submanifold convolution at its share of active sites: 9 k H W C^2, an upper bound, since inactive neighbours cost
    nothing. As in the papers' tables interpolation counts 1 (nearest) or 4 (bilinear) a value, other element-wise work
    nothing.

    Args:
        net (nn.Module): takes (1, 3, H, W).
        scale (int): the input is output_size / scale, rounded up.
        output_size (tuple[int, int]): width and height of the output, in pixels.
        device (str): a real one for a net whose way depends on values.
    """
    width, height = (-(-side // scale) for side in output_size)
    net = net.to(device).eval()
    share = _shares(net, height, width)
    beside, skipped = _Beside(), _Beside()
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(beside.hook(1))
        elif name in share:
            module.register_forward_hook(beside.hook(share[name] - 1))  # the dense form writes and computes all of it
            module.register_forward_hook(skipped.hook((1 - share[name]) * module.weight[0].numel()))
    with (
        _Written() as written,
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=_interpolation_counters()) as counter,
    ):
        net(torch.zeros(1, 3, height, width, device=device))
    macs = counter.get_total_flops() / 2 - skipped.count
    return Complexity(sum(p.numel() for p in net.parameters()), round(macs), written.count + beside.count)


def _shares(net: nn.Module, height: int, width: int) -> dict[str, float]:
    """Share of active sites of each submanifold convolution, which is put into its dense form."""
    ks = [module.k for module in net.modules() if isinstance(module, InformationDensity)]
    share = {}
    for name, module in net.named_modules():
        if isinstance(module, SubmanifoldConv2d):
            share[name] = num_active(height, width, ks[0]) / (height * width)
            module.backend = 'dense'  # whose work is known without values
    return share


class _Beside:
    """Values that are written, or not, beside what convolutions write."""

    def __init__(self) -> None:
        self.count = 0

    def hook(self, share_of_output: float) -> Callable[..., None]:
        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.count += round(output.numel() * share_of_output)

        return add


class _Written(TorchDispatchMode):
    """A context that counts the values that convolutions write."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self.count += result.numel()
        return result


def _interpolation_counters() -> dict[Any, Callable[..., int]]:
    def counter(operations: int) -> Callable[..., int]:
        return lambda *_shapes, out_shape, **_: 2 * operations * math.prod(out_shape)  # halved again with the rest

    # the counter looks an operator up by its overload, and takes to pieces what it does not find, then by its name
    return {key: counter(operations) for op, operations in _INTERPOLATION.items() for key in (op.default, op)}


def table(option_files: list[str], output_size: tuple[int, int]) -> str:
    """A Markdown table of the networks (``network_g``) of option files, each at the same output size.

    Raises:
        UserError: when an option file cannot be read or names no network that can be built.
    """
    rows = [
        f'| options | net | params | GMACs at {output_size[0]}x{output_size[1]} | M activations |',
        '|---|---|---|---|---|',
    ]
    for file in option_files:
        opt = load_options(file)
        c = count(in_rgb(build(file, opt['network_g'])), opt['scale'], output_size)
        rows.append(
            f'| {Path(file).stem} | {opt["network_g"]["type"]} x{opt["scale"]} | {c.params:,} '
            f'| {c.macs / 1e9:.2f} | {c.activations / 1e6:.1f} |'
        )
    return '\n'.join(rows)
