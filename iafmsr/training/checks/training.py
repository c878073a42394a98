"""The check of the sections ``train`` and ``logger``: losses, optimizers, schedules."""

from __future__ import annotations

import importlib.util
import inspect
import math
from typing import Any

import torch

from iafmsr.bridge.basicsr_api import (
    ARCH_REGISTRY,
    LOSS_REGISTRY,
    CosineAnnealingRestartLR,
    MultiStepRestartLR,
    SRGANModel,
)
from iafmsr.bridge.vgg import check_vgg
from iafmsr.errors import UserError
from iafmsr.models.channels import channels_of
from iafmsr.models.iafmnet_model import IAFMNetModel
from iafmsr.models.losses.terms import entries, needs, trains_density
from iafmsr.models.optimizers import OPTIMIZERS
from iafmsr.models.teacher import load_teacher
from iafmsr.options.schema import Loss, Optimizer, Scheduler, Teacher, Train, section_class
from iafmsr.training.checks.findings import Findings, Options, is_foreign, is_number, shown, subsection, whole

_SCHEDULERS = {
    'MultiStepLR': MultiStepRestartLR,
    'MultiStepRestartLR': MultiStepRestartLR,
    'CosineAnnealingRestartLR': CosineAnnealingRestartLR,
}


class TrainingCheck(Findings):
    def match(self, model: type) -> None:
        """Optimizer and losses that not every model class and not every network can have."""
        own = issubclass(model, IAFMNetModel)
        for key in ('optim_g', 'optim_d'):
            kind = str(subsection(self.train, key).get('type'))
            if kind in OPTIMIZERS and kind != 'Adam' and not own:
                self.fault(f'train.{key}.type', f'{model.__name__} does not support {kind}, IAFMNetModel does')
        if (whole(self.train.get('accumulate')) or 1) > 1 and issubclass(model, SRGANModel):
            self.fault('train.accumulate', 'cannot be used with a discriminator, which gets the whole batch')
        name = subsection(self.opt, 'network_g').get('type')
        arch = next((cls for key, cls in ARCH_REGISTRY if key == name), None)
        if subsection(self.train, 'curriculum').get('k') and arch and 'k' not in inspect.signature(arch).parameters:
            self.fault('train.curriculum.k', f'{arch.__name__} has no share of active sites')
        self.density(own, arch)

    def density(self, own: bool, arch: Any) -> None:
        """That losses get what they ask for, and that a density is trained."""
        network = subsection(self.opt, 'network_g')
        with_density = arch is not None and 'return_density' in inspect.signature(arch.forward).parameters
        for entry in entries(self.train) if own else ():
            if arch is not None and needs(entry, 'density') and not with_density:
                self.fault(entry.where, f'needs a density, {arch.__name__} gives none')
            if needs(entry, 'average') and not self.train.get('ema_decay'):
                self.fault(entry.where, 'needs train.ema_decay above 0, for the result of the averaged network')
        if with_density and not (own and trains_density(self.train)) and network.get('detach_idm', True):
            self.warn(
                'train',
                f'no loss trains the density of {network["type"]}: its map and mask stay random; use ie_opt with '
                'IAFMNetModel, IAFMNetGANModel, IAFMNetRealModel or IAFMNetRealGANModel to train it',
            )

    def training(self) -> None:
        parameter = torch.zeros(1, requires_grad=True)
        listed = {entry.where: entry.section for entry in entries(self.train)}
        for where, section in listed.items():
            self.loss(where, section)
        if listed and all(entry.start_iter > 1 for entry in entries(self.train)):
            self.fault('train.losses', 'none of the losses starts at the first iteration')
        for key in self.train:
            where, section, found = f'train.{key}', subsection(self.train, key), len(self.report.faults)
            kind = section_class(key, Train)
            if not section or kind is None:
                continue
            if kind is Optimizer:
                cls = self.constructor(where, section, OPTIMIZERS, given=('params',))
                if cls and len(self.report.faults) == found and is_number(section.get('lr')):
                    self.build(where, cls, section, [parameter])
            elif kind is Scheduler:
                self.schedule(where, section, torch.optim.SGD([parameter]))
            elif kind is Loss and where not in listed:
                self.loss(where, section)
            elif kind is Teacher:
                self.teacher(where, section)

    def loss(self, where: str, section: Options) -> None:
        found = len(self.report.faults)
        cls = self.constructor(where, section, dict(iter(LOSS_REGISTRY)))
        if cls is None or is_foreign(cls):
            return
        for key in (key for key in section if str(key).endswith('weight') or key == 'layer_weights'):
            values = section[key].values() if isinstance(section[key], dict) else [section[key]]
            if any(is_number(value) and not 0 <= value < math.inf for value in values):
                self.fault(f'{where}.{key}', f'must be a number from 0, got {shown(section[key])}')
        if len(self.report.faults) > found:
            return
        if isinstance(section.get('layer_weights'), dict):
            self.vgg(where, section, download=False)
        elif self.files or not section.get('weights'):
            self.build(where, cls, section)

    def vgg(self, where: str, section: Options, download: bool) -> None:
        """The VGG that a loss takes features of."""
        try:
            check_vgg(str(section.get('vgg_type', 'vgg19')), [*section['layer_weights']], download)
        except UserError as error:
            self.fault(where, str(error))

    def weights_of_losses(self) -> None:
        """Fetch what losses need, when nothing else is wrong: it is half a gigabyte."""
        for entry in entries(self.train) if self.is_train and not self.report.faults else ():
            if isinstance(entry.section.get('layer_weights'), dict):
                self.vgg(entry.where, entry.section, download=True)

    def teacher(self, where: str, section: Options) -> None:
        weights, train_set = section.get('weights'), subsection(subsection(self.opt, 'datasets'), 'train')
        prepared = train_set.get('dataroot_teacher') is not None
        if prepared == (weights is not None):
            self.fault(
                where,
                'needs weights of a network or datasets.train.dataroot_teacher, '
                f'{"not both" if prepared else "one of the two"}',
            )
        if isinstance(weights, str) and self.files and not any(f.startswith(where) for f in self.report.faults):
            try:
                taught = load_teacher(weights)
            except UserError as error:
                self.fault(f'{where}.weights', str(error))
            else:
                if self.scale and taught.scale != self.scale:
                    self.fault(
                        f'{where}.weights',
                        f'{weights}: a network of scale {taught.scale}, but the option file has scale {self.scale}',
                    )
                elif taught.channels != (channels_of(subsection(self.opt, 'network_g')) or taught.channels):
                    self.fault(
                        f'{where}.weights', f'{weights}: a network of {taught.channels} channels, network_g has others'
                    )

    def schedule(self, where: str, section: Options, optimizer: torch.optim.Optimizer) -> None:
        cls = self.constructor(where, section, _SCHEDULERS, given=('optimizer', 'last_epoch'))
        if cls is None or any(fault.startswith(where) for fault in self.report.faults):
            return
        starts, total = 'periods' if 'periods' in section else 'restarts', whole(self.train.get('total_iter'))
        lengths = [len(section.get(key) or [0]) for key in (starts, 'restart_weights')]
        if lengths[0] != lengths[1]:
            self.fault(where, f'{starts} and restart_weights differ in length: {lengths[0]}, {lengths[1]}')
        elif self.build(where, cls, section, optimizer) and starts == 'periods' and total:
            if (end := sum(section['periods'])) < total:
                self.fault(
                    f'{where}.periods', f'they end at iteration {end}, before total_iter, {self.train["total_iter"]}'
                )

    def logger(self) -> None:
        logger = subsection(self.opt, 'logger')
        datasets = subsection(self.opt, 'datasets')
        with_gt = any(
            str(phase).startswith('val') and subsection(datasets, phase).get('dataroot_gt') for phase in datasets
        )
        if logger.get('keep_best') and not (with_gt and self.val.get('metrics')):
            self.fault(
                'logger.keep_best', 'needs a val set with dataroot_gt, and val.metrics, to find the best weights'
            )
        if subsection(logger, 'wandb').get('project') and not logger.get('use_tb_logger'):
            self.fault('logger.wandb', 'needs use_tb_logger: true, since it copies the records of TensorBoard')
        wanted: dict[str, Any] = {
            'tensorboard': logger.get('use_tb_logger'),
            'wandb': subsection(logger, 'wandb').get('project'),
        }
        for package in (name for name, used in wanted.items() if used and self.files):
            if importlib.util.find_spec(package) is None:
                self.fault('logger', f'{package} is not installed: pip install {package}, or leave it out')
