"""A small network for the tests of exported graphs and engines, which need no BasicSR."""

from __future__ import annotations

from typing import Any

import torch

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.nets.trained import TrainedNet


def exportable(scale: int = 2, **keywords: Any) -> TrainedNet:
    """An untrained network, whose mask and map count as a trained one's do."""
    torch.manual_seed(0)
    net = IAFMNet(scale=scale, num_feat=8, num_block=1, **keywords)
    with torch.no_grad():  # where the strength is 0 and the kernel small, mask and map would hardly count
        for name, parameter in net.named_parameters():
            if 'strength' in name:
                parameter.fill_(0.1)
            if 'ssconv' in name:
                parameter.mul_(10)
    return TrainedNet(net.eval().requires_grad_(False), 'IAFMNet', scale)
