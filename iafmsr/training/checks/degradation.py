"""The check of the degradations of Real-ESRGAN, of which BasicSR's models and data set read every key unasked."""

from __future__ import annotations

from typing import Any

from iafmsr.options.datasets import DATASETS, REAL, Degradation, OtherDataset
from iafmsr.options.schema import readers
from iafmsr.training.checks.datasets import DatasetCheck
from iafmsr.training.checks.findings import Options, shown, subsection, whole

_CROP = 400  # pixels of HR that RealESRGANDataset gives, in height and width
_QUEUE = 180  # BasicSR's
_KERNELS = ('iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso')
_OPTIONAL = ('high_order_degradation', 'queue_size')


class DegradationCheck(DatasetCheck):
    def degradation(self, model: type) -> None:
        """What a model of Real-ESRGAN needs at the top level and of its train set."""
        bases = {base.__name__ for base in model.__mro__}
        train = subsection(subsection(self.opt, 'datasets'), 'train')
        if not bases & set(REAL) or self.opt.get('high_order_degradation') is False:
            return
        if train.get('type') != 'RealESRGANDataset':
            self.fault(
                'datasets.train.type',
                f'{shown(train.get("type"))}: {model.__name__} needs RealESRGANDataset, whose pictures it degrades '
                '(for pairs, set high_order_degradation: false)',
            )
            return
        read = [key for key in Degradation.model_fields if bases & set(readers(key, Degradation))]
        self.require('', self.opt, *(key for key in read if key not in _OPTIONAL))
        self.ranges('', self.opt, read)
        self.kernels('datasets.train', train)
        size, queue = whole(self.opt.get('gt_size')), whole(self.opt.get('queue_size')) or _QUEUE
        if self.scale and _CROP % self.scale:
            self.fault(
                'scale', f'RealESRGANDataset gives {_CROP}x{_CROP} pixels, which is not a multiple of {self.scale}'
            )
        elif size and self.scale and (size > _CROP or size % self.scale):
            self.fault('gt_size', f'{size} must be a multiple of the scale, {self.scale}, and at most {_CROP}')
        batch = self.batch(train)
        if batch and queue % batch:
            self.fault('queue_size', f'{queue} is no multiple of the batch of a process, {batch}')

    def kernels(self, where: str, dataset: Options) -> None:
        own = DATASETS['RealESRGANDataset'].model_fields.keys() - OtherDataset.model_fields.keys()
        as_lmdb = subsection(dataset, 'io_backend').get('type') == 'lmdb'
        self.require(where, dataset, *sorted(own - {'gt_size', *({'meta_info'} if as_lmdb else ())}))
        self.ranges(where, dataset, own)
        for key, weights in (('kernel_list', 'kernel_prob'), ('kernel_list2', 'kernel_prob2')):
            kinds, shares = dataset.get(key), dataset.get(weights)
            if isinstance(kinds, list) and (unknown := [kind for kind in kinds if kind not in _KERNELS]):
                self.fault(f'{where}.{key}', f'{shown(unknown[0])} must be one of {", ".join(_KERNELS)}')
            elif isinstance(kinds, list) and isinstance(shares, list) and len(kinds) != len(shares):
                self.fault(f'{where}.{weights}', f'{len(shares)} numbers for {len(kinds)} kernels')

    def ranges(self, where: str, section: Options, keys: Any) -> None:
        """Ranges are two numbers from 0 that rise; the probabilities of enlarging, reducing, keeping are three."""
        for key in sorted(keys):
            value, name = section.get(key), key.rstrip('2')
            if not isinstance(value, list) or name.startswith('kernel_'):
                continue
            wanted = 'three numbers from 0' if name == 'resize_prob' else 'two numbers from 0, the smaller one first'
            count = 3 if name == 'resize_prob' else 2
            if len(value) != count or min(value) < 0 or (count == 2 and value[0] > value[1]) or not any(value):
                self.fault(f'{where}.{key}'.lstrip('.'), f'must be {wanted}, got {shown(value)}')
