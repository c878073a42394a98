"""Adversarial training with all features of IAFMNetModel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iafmsr.bridge.basicsr_api import MODEL_REGISTRY, SRGANModel, build_loss, build_network
from iafmsr.models.guard import StepGuard, guard_options
from iafmsr.models.iafmnet_model import IAFMNetModel


@MODEL_REGISTRY.register()
class IAFMNetGANModel(IAFMNetModel, SRGANModel):
    """IAFMNetModel with a discriminator: the losses of ``train`` and an adversarial one, ``gan_opt``.

    Let D be the discriminator, x the ground truth and y the result. D is trained to rate x as real and y as fake, and
    the network so that D rates y as real, as in BasicSR's SRGANModel. With ``train.relativistic``, D(x) - mean D(y) and
    D(y) - mean D(x) replace D(x) and D(y), and both train the network (ESRGAN, section 3.2), as in ESRGANModel.

    ``net_d_iters`` and ``net_d_init_iters`` are as in SRGANModel. The average of the weights is updated only with the
    network's steps. The discriminator is float32 even with ``train.autocast``. Like the network's, its steps are
    skipped when a loss or gradient is not finite.
    """

    def init_training_settings(self) -> None:
        train, path = self.opt['train'], self.opt['path']
        self.net_d = self.model_to_device(build_network(self.opt['network_d']))
        self.print_network(self.net_d)
        file = path.get('pretrain_network_d')
        if file is not None:
            self.load_network(self.net_d, file, path.get('strict_load_d', True), path.get('param_key_d', 'params'))
        self.net_d.train()
        self.cri_gan = build_loss(train['gan_opt']).to(self.device)
        self.guard_d = StepGuard(self.device, False, **guard_options(train))
        super().init_training_settings()
        self.stateful['guard_d'] = self.guard_d

    def optimize_parameters(self, current_iter: int) -> None:
        train = self.opt['train']
        if current_iter % train.get('net_d_iters', 1) == 0 and current_iter > train.get('net_d_init_iters', 0):
            self.net_d.requires_grad_(False)
            super().optimize_parameters(current_iter)
            self.net_d.requires_grad_(True)
        else:
            with torch.no_grad():
                self.output = self.net_g(self.lq)
            self.values: dict[str, Tensor] = {}
        self.train_discriminator(current_iter)

    def compute_losses(self, current_iter: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses, measures = super().compute_losses(current_iter)
        fake = self.net_d(self.output)
        if self.relativistic:
            real = self.net_d(self.target('gan')).detach()
            losses['l_g_gan'] = (
                self.cri_gan(real - fake.mean(), False, is_disc=False)
                + self.cri_gan(fake - real.mean(), True, is_disc=False)
            ) / 2
        else:
            losses['l_g_gan'] = self.cri_gan(fake, True, is_disc=False)
        return losses, measures

    def train_discriminator(self, current_iter: int) -> None:
        """A step of the discriminator, on the truth and on the result of the network before its step."""
        self.optimizer_d.zero_grad()
        real, fake = self.net_d(self.target('gan')), self.net_d(self.output.detach())
        mean_real, mean_fake = (real.detach().mean(), fake.detach().mean()) if self.relativistic else (0, 0)
        half = 0.5 if self.relativistic else 1
        losses = {
            'l_d_real': half * self.cri_gan(real - mean_fake, True, is_disc=True),
            'l_d_fake': half * self.cri_gan(fake - mean_real, False, is_disc=True),
        }
        self.guard_d.backward(losses['l_d_real'] + losses['l_d_fake'])
        self.guard_d.step(self.optimizer_d, current_iter, self.names)
        measures = losses | {'out_d_real': real.mean(), 'out_d_fake': fake.mean()}
        self.values = self.values | {key: value.detach() for key, value in measures.items()}

    @property
    def relativistic(self) -> bool:
        return bool(self.opt['train'].get('relativistic'))

    def get_current_log(self) -> Any:
        self.guard_d.report()
        return super().get_current_log()
