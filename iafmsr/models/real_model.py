"""Training on the degradations of Real-ESRGAN with all features of IAFMNetModel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iafmsr.bridge.basicsr_api import MODEL_REGISTRY, RealESRGANModel, RealESRNetModel
from iafmsr.models.gan_model import IAFMNetGANModel
from iafmsr.models.iafmnet_model import IAFMNetModel


class _Degraded(IAFMNetModel):
    """LR made from HR by Real-ESRGAN's second-order degradation (section 3) on the device, as in BasicSR's models.

    Batches are drawn from a pool of ``queue_size`` pairs. In a run of one process the pool is saved with the state, so
    that a resume is exact. With several processes it is filled again after a resume.
    """

    def init_training_settings(self) -> None:
        super().init_training_settings()
        if not self.opt['dist']:
            self.stateful['pool'] = Pool(self)

    def feed_data(self, data: dict[str, Any]) -> None:
        if not (self.is_train and self.opt.get('high_order_degradation', True)):
            super().feed_data(data)
            if self.is_train:
                self.gt_usm = self.usm_sharpener(self.gt)
            return
        super(IAFMNetModel, self).feed_data(data)
        self.lq = self.lq.contiguous(memory_format=self.memory_format)
        self.names = list(data['gt_path'])


@MODEL_REGISTRY.register()
class IAFMNetRealModel(_Degraded, RealESRNetModel):
    """IAFMNetModel on Real-ESRGAN's degradations: RealESRNetModel's data, IAFMNetModel's losses and options."""


@MODEL_REGISTRY.register()
class IAFMNetRealGANModel(_Degraded, IAFMNetGANModel, RealESRGANModel):
    """IAFMNetGANModel on Real-ESRGAN's degradations: RealESRGANModel's data, and its sharpened ground truth.

    ``l1_gt_usm``, ``percep_gt_usm`` and ``gan_gt_usm`` of the option file set which losses use the sharpened truth.
    ``l1_gt_usm`` also applies to ``train.losses``. ``ldl_opt`` always uses the truth that is not sharpened.
    """

    def target(self, name: str) -> Tensor:
        key = {'percep': 'percep_gt_usm', 'gan': 'gan_gt_usm'}.get(name, 'l1_gt_usm')
        sharp = name != 'ldl' and self.opt.get(key) is not False
        return self.gt_usm if sharp else self.gt


class Pool:
    """The pairs that a model has degraded and keeps, as a part of the state of its run."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self.model).items() if key.startswith('queue_')}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self.model, key, value.to(self.model.device) if isinstance(value, torch.Tensor) else value)
