"""Learning from a teacher: a network whose pictures are a second target beside HR, with a falling weight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

if TYPE_CHECKING:
    from iafmsr.nets.trained import TrainedNet

__all__ = ['Teacher', 'load_teacher']


class Teacher:
    """The loss ``weight(i) mean |sr - teacher(lq)|``, where the weight falls linearly to 0 at iteration ``until``.

    The teacher's picture comes from the batch (``datasets: {train: {dataroot_teacher: ...}}``), or from another network
    that runs during the training, in evaluation mode and without gradients.

    Args:
        weight: weight at the start, relative to the pixel loss's ``loss_weight``.
        until: last iteration of the teacher; None: the weight is constant.
        weights: file of the teacher network; None: its pictures come with the batches.

    Raises:
        UserError: the file holds no known network.
    """

    def __init__(self, weight: float, until: int | None = None, weights: str | None = None) -> None:
        self.weight, self.until, self.net, self.scale = weight, until, None, None
        if weights:
            trained = load_teacher(weights)
            self.net, self.scale = trained.net, trained.scale

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


def load_teacher(weights: str) -> TrainedNet:
    """The network in a file, in evaluation mode."""
    from iafmsr.nets.loading import load_net  # the module of the archs imports this one

    return load_net(Path(weights))
