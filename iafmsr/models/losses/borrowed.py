"""Losses that use parts of BasicSR."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.bridge.basicsr_api import LOSS_REGISTRY, VGGFeatureExtractor, get_refined_artifact_map, ssim


@LOSS_REGISTRY.register()
class SSIMLoss(nn.Module):
    """1 - SSIM, of each channel of pictures in [0, 1], as BasicSR's metric measures it (Wang et al., TIP 2004).

    Args:
        loss_weight (float): of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Two batches (B, C, H, W), of at least 11x11 pixels -> a scalar."""
        return self.loss_weight * (1 - ssim(255 * pred, 255 * target).mean())


@LOSS_REGISTRY.register()
class LDLLoss(nn.Module):
    """L1 loss where the result looks like an artifact: mean |M pred - M target| (Liang et al., CVPR 2022, section 3.3).

    M is the local variance of the residual, times a power of the residual's variance over the picture. M is 0 where the
    averaged network is further from the truth than the network. ``train.ema_decay`` must be above 0.

    Args:
        loss_weight (float): of the loss.
        ksize (int): side of the window of the local variance, in pixels; odd.
    """

    def __init__(self, loss_weight: float = 1.0, ksize: int = 7) -> None:
        super().__init__()
        if ksize % 2 == 0:
            raise ValueError(f'ksize must be odd, got {ksize}')
        self.loss_weight, self.ksize = loss_weight, ksize

    def forward(self, pred: Tensor, target: Tensor, average: Tensor) -> Tensor:
        """Result, truth, and result of the averaged network, (B, C, H, W) each -> a scalar."""
        m = get_refined_artifact_map(target, pred, average, self.ksize)
        return self.loss_weight * F.l1_loss(m * pred, m * target)


@LOSS_REGISTRY.register()
class ContrastiveLoss(nn.Module):
    """Pulls the features of the result towards those of the truth and away from those of the enlarged input.

    The sum over layers of w |f(pred) - f(target)| / |f(pred) - f(bicubic)|, the mean absolute differences of VGG's
    features (Wu et al., CVPR 2021, section 3.3; for super-resolution RLFN, section 3.2).

    Args:
        layer_weights (dict): w of each layer of the VGG, such as ``{conv3_4: 1.0}``.
        vgg_type (str): ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``, with ``_bn`` or without.
        loss_weight (float): of the loss.
    """

    def __init__(self, layer_weights: Mapping[str, float], vgg_type: str = 'vgg19', loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight, self.layer_weights = loss_weight, dict(layer_weights)
        self.vgg = VGGFeatureExtractor(list(layer_weights), vgg_type)

    def forward(self, pred: Tensor, target: Tensor, lq: Tensor) -> Tensor:
        """Two batches (B, 3, sH, sW) and the input (B, 3, H, W), in [0, 1] -> a scalar."""
        with torch.no_grad():
            bicubic = F.interpolate(lq, pred.shape[2:], mode='bicubic')
            near, far = self.vgg(target), self.vgg(bicubic)
        own = self.vgg(pred)
        ratios = [
            weight * F.l1_loss(own[layer], near[layer]) / (F.l1_loss(own[layer], far[layer]) + 1e-7)
            for layer, weight in self.layer_weights.items()
        ]
        return self.loss_weight * torch.stack(ratios).sum()
