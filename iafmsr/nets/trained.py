"""A network that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError

__all__ = ['CHANNEL_WORDS', 'TrainedNet', 'in_rgb', 'set_budget', 'to_gray', 'trained']

CHANNEL_WORDS = ('num_in_ch', 'in_chans', 'in_channels')
_SIDE = 16  # of the picture that is tried
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R BT.601


@dataclass(frozen=True)
class TrainedNet:
    """A network with its weights, in evaluation mode, on the CPU.

    Attributes:
        net: (B, channels, H, W) in [0, 1] -> (B, channels, sH, sW).
        arch (str): its name.
        scale (int): output size over input size.
        channels (int): of the pictures that it takes and gives.
    """

    net: nn.Module
    arch: str
    scale: int
    channels: int = 3


def to_gray(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), of the same range: black stays 0 and white stays 1."""
    return (pictures * pictures.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def in_rgb(net: nn.Module) -> Any:
    """A network of RGB pictures: ``net`` itself, or, where it is of gray ones, one that lets it work on their luma.

    What is made of the luma is given three times, as gray red, green and blue.
    """
    return _OnLuma(net) if _channels(net) == 1 else net


class _OnLuma(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, lq: Tensor, return_density: bool = False) -> Any:
        if not return_density:
            return self.net(to_gray(lq)).expand(-1, 3, -1, -1)
        sr, density = self.net(to_gray(lq), return_density=True)
        return sr.expand(-1, 3, -1, -1), density

    def local_map(self, lq: Tensor) -> Tensor:
        return self.net.local_map(to_gray(lq))


def set_budget(net: nn.Module, budget: float | None) -> None:
    """Let the routed blocks of a net work at a share of the positions, in (0, 1]; None leaves it as it is.

    Raises:
        UserError: it has no routed blocks.
    """
    if budget is None:
        return
    if not getattr(net, 'num_routed', 0):
        raise UserError(f'--budget {budget:g}: this network has no routed blocks, so its work cannot be reduced')
    net.budget = budget  # type: ignore[assignment]


def _channels(net: nn.Module) -> int:
    """Channels that a network takes, by its own word or by its first convolution: one, or else three."""
    found = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), 3)
    return int(getattr(net, 'channels', 1 if found == 1 else 3))


def trained(where: str, net: nn.Module, network: Mapping[str, Any]) -> TrainedNet:
    """A network of a section ``network_g`` with its scale, found out by a small picture: archs call it differently.

    Raises:
        UserError: it cannot be run, or does not give pictures that are larger by a whole number; the line begins with
            ``where``.
    """
    net.eval().requires_grad_(False)
    channels = next((network[word] for word in CHANNEL_WORDS if word in network), _channels(net))
    try:
        with torch.inference_mode():
            sr = net(torch.zeros(1, channels, _SIDE, _SIDE))
        batch, planes, height, width = sr.shape
    except Exception as error:  # a net fails in any way on what it does not expect
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(f'{where}: {network["type"]} fails on a picture of {channels} channels: {reason}') from None
    if (batch, planes, width) != (1, channels, height) or height % _SIDE or height < _SIDE:
        raise UserError(
            f'{where}: {network["type"]} makes {planes} channels of {width}x{height} from {channels} of '
            f'{_SIDE}x{_SIDE}: not a network for super-resolution'
        )
    return TrainedNet(net, network['type'], height // _SIDE, channels)
