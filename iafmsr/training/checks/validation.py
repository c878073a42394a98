"""The check of the section ``val``: metrics and tiles."""

from __future__ import annotations

import inspect

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from iafmsr.errors import UserError
from iafmsr.models.iafmnet_model import IAFMNetModel
from iafmsr.models.metrics import missing_package, prepare
from iafmsr.training.checks.findings import Findings, Options, is_foreign, shown, subsection


class ValidationCheck(Findings):
    def validation(self) -> None:
        if not self.is_train:
            self.require('', self.opt, 'val')
        elif self.val:
            self.require('val', self.val, 'val_freq')
        for name, section in subsection(self.val, 'metrics').items():
            if isinstance(section, dict):
                self.metric(f'val.metrics.{name}', section)
        if self.val.get('tile'):
            self.tile()

    def tile(self) -> None:
        """That the model reads it, also in a test, and whether the network is exact."""
        model = dict(iter(MODEL_REGISTRY)).get(str(self.opt.get('model_type')))
        arch = dict(iter(ARCH_REGISTRY)).get(str(subsection(self.opt, 'network_g').get('type')))
        if model is not None and not (issubclass(model, IAFMNetModel) or is_foreign(model)):
            self.fault('val.tile', f'{model.__name__} does not use it, IAFMNetModel does')
        elif arch is not None and not hasattr(arch, 'local_map'):
            self.warn('val.tile', f'{arch.__name__} gives a different result in tiles than for the whole picture')

    def metric(self, where: str, section: Options) -> None:
        metric = self.constructor(
            where,
            {key: value for key, value in section.items() if key != 'better'},
            dict(iter(METRIC_REGISTRY)),
            given=('img', 'img2'),
        )
        if metric is None:
            return
        if self.files and (missing := missing_package(metric.__name__)):
            self.fault(where, missing)
        # BasicSR's metrics swallow any keyword: what is misspelt would be lost in silence
        known = ['type', 'better', *inspect.signature(metric).parameters]
        for key in (key for key in section if key not in known):
            self.unknown(f'{where}.{key}', key, known, metric)
        if self.scale and section.get('crop_border', self.scale) != self.scale:
            self.warn(
                f'{where}.crop_border',
                f'{shown(section["crop_border"])}; for published results, as many pixels as the scale are cropped, '
                f'{self.scale}',
            )

    def weights_of_metrics(self) -> None:
        """Fetch what metrics need, when nothing else is wrong."""
        for name, section in subsection(self.val, 'metrics').items() if not self.report.faults else ():
            try:
                prepare(str(section['type']))
            except UserError as error:
                self.fault(f'val.metrics.{name}', str(error))
