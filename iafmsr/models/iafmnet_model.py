"""Training with the information entropy loss, on BasicSR's SRModel."""

from __future__ import annotations

import inspect
from collections import OrderedDict

from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from iafmsr.errors import UserError


@MODEL_REGISTRY.register()
class IAFMNetModel(SRModel):
    """SRModel whose loss is the pixel (and perceptual) loss plus ``train.ie_opt``, the information entropy loss.

    With ``ie_opt`` the net has to answer ``net(lq, return_density=True)`` with ``(sr, density)``; without it any arch
    of BasicSR trains here as under SRModel. Logged besides the losses: ``bpp`` (bits per LR pixel), ``active`` (share
    of active sites) and ``idm_spread`` (standard deviation of the map over its mean, within a picture).

    Raises:
        UserError: when ``ie_opt`` is set for an arch that gives no density.
    """

    def init_training_settings(self) -> None:
        ie_opt = self.opt['train'].get('ie_opt')
        self.cri_ie = build_loss(ie_opt).to(self.device) if ie_opt else None
        forward = self.get_bare_model(self.net_g).forward
        if self.cri_ie and 'return_density' not in inspect.signature(forward).parameters:
            raise UserError(f'train.ie_opt: {self.opt["network_g"]["type"]} gives no density; leave ie_opt out')
        super().init_training_settings()

    def optimize_parameters(self, current_iter: int) -> None:
        self.optimizer_g.zero_grad()
        losses, measures = self.compute_losses()
        sum(losses.values()).backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(OrderedDict(**losses, **measures))
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def compute_losses(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One forward pass: the weighted losses, whose sum is trained, and what is only logged."""
        losses, measures = {}, {}
        if self.cri_ie:
            self.output, density = self.net_g(self.lq, return_density=True)
            losses['l_ie'], measures['bpp'] = self.cri_ie(density)
            idm = density.idm.detach().flatten(1)
            measures['active'] = density.mask.float().mean()
            measures['idm_spread'] = (idm.std(1, correction=0) / idm.mean(1)).mean()
        else:
            self.output = self.net_g(self.lq)
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(self.output, self.gt)
        if self.cri_perceptual:
            percep, style = self.cri_perceptual(self.output, self.gt)
            losses.update({k: v for k, v in (('l_percep', percep), ('l_style', style)) if v is not None})
        return losses, measures

    def validation(self, dataloader, current_iter: int | str, tb_logger, save_img: bool = False) -> None:
        # BasicSR's last validation comes with an iteration number past the run's end
        if self.is_train:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        super().validation(dataloader, current_iter, tb_logger, save_img)
