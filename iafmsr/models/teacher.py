"""Learning from a teacher: a network whose pictures are aimed at beside HR, less and less."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

__all__ = ['Teacher', 'load_teacher']


class Teacher:
    """The loss ``weight(i) mean |sr - teacher(lq)|``, where the weight falls linearly to 0 in iteration ``until``.

    The teacher's picture comes from the batch (``datasets: {train: {dataroot_teacher: ...}}``), or from a network that
    runs beside the one that is trained, in evaluation mode and without gradients.

    Args:
        weight: at the start, beside the pixel loss's ``loss_weight``.
        until: last iteration of the teacher; None: the weight stays as it is.
        weights: file of the network; None: pictures come with the batches.

    Raises:
        UserError: the file is no network that is known here.
    """

    def __init__(self, weight: float, until: int | None = None, weights: str | None = None) -> None:
        self.weight, self.until, self.net, self.scale = weight, until, None, None
        if weights:
            self.net, self.scale = load_teacher(weights)

    def weight_at(self, iteration: int) -> float:
        """The weight in an iteration, counted from 1."""
        return self.weight if self.until is None else self.weight * max(0.0, 1 - iteration / self.until)

    @torch.no_grad()
    def picture(self, lq: Tensor, given: Tensor | None) -> Tensor:
        """The picture to aim at, (B, C, sH, sW) in [0, 1], float32.

        Args:
            lq: (B, C, H, W).
            given: what came with the batch.
        """
        if self.net is not None:
            return self.net(lq).float().clamp(0, 1)
        assert given is not None, 'without a network, batches bring the picture'
        return given

    def loss(self, sr: Tensor, picture: Tensor, iteration: int) -> Tensor:
        """The weighted loss, a scalar."""
        return self.weight_at(iteration) * l1_loss(sr, picture)


def load_teacher(weights: str) -> tuple[nn.Module, int]:
    """The network in a file, in evaluation mode, and its scale."""
    from iafmsr.nets.loading import load_net  # the module of the archs imports this one

    trained = load_net(Path(weights))
    return trained.net, trained.scale
