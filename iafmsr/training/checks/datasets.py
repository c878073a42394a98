"""The check of the section ``datasets``: what its keys need of each other, and then the pictures themselves."""

from __future__ import annotations

import math

import torch

from iafmsr.bridge.basicsr_api import DATASET_REGISTRY, MODEL_REGISTRY
from iafmsr.data.augmentation import AUGMENTATIONS, MIXINGS
from iafmsr.data.on_the_fly import OnTheFlyDataset
from iafmsr.data.paired_dataset import PairedSRDataset
from iafmsr.errors import UserError
from iafmsr.options.datasets import DATASETS, REAL, OtherDataset
from iafmsr.training.checks.data_files import check_dataset, names_of, one_by_one, roots_of, same_names
from iafmsr.training.checks.data_pixels import check_pixels
from iafmsr.training.checks.findings import Findings, Options, is_folder_name, shown, subsection, whole
from iafmsr.training.picture_weights import check_picture_weights

_OF_TRAINING = (*AUGMENTATIONS, *MIXINGS, 'picture_weights')
_WINDOWS = {'calculate_ssim': 11, 'calculate_niqe': 96}  # pixels in height and width that a value is of; else one


class DatasetCheck(Findings):
    def datasets(self) -> None:
        datasets = subsection(self.opt, 'datasets')
        if self.is_train or not datasets:
            self.require('datasets', datasets, 'train' if self.is_train else 'test')
        for phase, dataset in datasets.items():
            where, kind = f'datasets.{phase}', str(phase).split('_')[0]
            if kind not in (('train', 'val') if self.is_train else ('test', 'val')):
                self.fault(
                    where, f'unknown phase; {"train, val and val_*" if self.is_train else "test and test_*"} are known'
                )
            elif isinstance(dataset, dict):
                self.dataset(where, kind, dataset)
        self.names(datasets)

    def names(self, datasets: Options) -> None:
        """Records and pictures of the sets that are validated go by their names."""
        seen: dict[str, str] = {}
        for phase, dataset in datasets.items():
            if phase == 'train' or not isinstance(dataset, dict) or not isinstance(name := dataset.get('name'), str):
                continue
            if not is_folder_name(name):
                self.fault(f'datasets.{phase}.name', f'must be a plain folder name, got {shown(name)}')
            elif name in seen:
                self.fault(f'datasets.{phase}.name', f'{shown(name)} is also the name of {seen[name]}')
            seen.setdefault(name, f'datasets.{phase}')

    def dataset(self, where: str, phase: str, dataset: Options) -> None:
        cls = self.choose(f'{where}.type', dataset.get('type'), dict(iter(DATASET_REGISTRY)))
        if cls is None or not self.other_keys(where, cls, dataset):
            return
        if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
            self.fault(f'{where}.prefetch_mode', 'cuda needs pin_memory: true')
        if dataset.get('persistent_workers') and not (phase == 'train' and dataset.get('num_worker_per_gpu')):
            self.fault(f'{where}.persistent_workers', 'there are no data workers to keep (num_worker_per_gpu)')
        self.roots(where, phase, dataset)
        if phase == 'train':
            self.patches(where, dataset)
            self.curriculum(where, dataset)
            self.batches(where, dataset)
            self.shares(where, dataset)
        if dataset.get('in_memory') is not None:
            self.memory(where, phase, dataset)
        self.additions(where, phase, dataset)
        if self.files and self.scale and not any(fault.startswith(f'{where}.') for fault in self.report.faults):
            parts = one_by_one(dataset | {'gt_size': self.largest_patch(dataset)})
            found = [check_dataset(part, self.scale, phase, self.measured()) for part in parts]
            faults = [fault for _, part_faults in found for fault in part_faults]
            self.report.faults.extend(f'{where}.{fault}' for fault in faults)
            if not faults:
                for part in parts:
                    self.pixels(where, part)
                if phase == 'train':
                    self.weights(where, dataset, parts)
                    self.epoch(where, dataset, sum(count for count, _ in found))
                elif self.val.get('save_img') and (name := same_names(dataset)):
                    self.fault(where, f'two pictures are called {name}: val.save_img would keep only one of them')

    def measured(self) -> int:
        """Pixels in height and width that the metrics need: their window, inside the border that they leave out."""
        metrics = subsection(self.val, 'metrics').values()
        return max(
            2 * (whole(metric.get('crop_border'), 0) or 0) + _WINDOWS.get(str(metric.get('type')), 1)
            for metric in ({}, *filter(lambda metric: isinstance(metric, dict), metrics))
        )

    def pixels(self, where: str, dataset: Options) -> None:
        faults, warnings = check_pixels(dataset)
        self.report.faults.extend(f'{where}.{fault}' for fault in faults)
        self.report.warnings.extend(f'{where}.{warning}' for warning in warnings)

    def other_keys(self, where: str, cls: type, dataset: Options) -> bool:
        """The keys of a dataset of somebody else's, by its ``OPTION_KEYS``; without them it is left unchecked."""
        if dataset['type'] in DATASETS:
            return True
        own = getattr(cls, 'OPTION_KEYS', ())
        if not own:
            self.warn(where, f'the keys of {dataset["type"]} are not checked')
            return False
        known = [*OtherDataset.model_fields, *own]
        for key in (key for key in dataset if key not in known):
            self.unknown(f'{where}.{key}', key, known)
        self.require(where, dataset, 'io_backend', *(key for key in own if key in ('dataroot_gt', 'dataroot_lq')))
        return True

    def patches(self, where: str, dataset: Options) -> None:
        sizes = () if dataset['type'] == 'RealESRGANDataset' else ('gt_size',)
        self.require(where, dataset, *sizes, 'use_hflip', 'use_rot', 'num_worker_per_gpu')
        size = whole(dataset.get('gt_size'))
        if size and self.scale and size % self.scale:
            self.fault(f'{where}.gt_size', f'{size} is no multiple of the scale, {self.scale}')
        model = dict(iter(MODEL_REGISTRY)).get(str(self.opt.get('model_type')))
        if dataset['type'] == 'RealESRGANDataset' and model and not {c.__name__ for c in model.__mro__} & set(REAL):
            self.fault(
                f'{where}.type',
                f'RealESRGANDataset has no LR pictures, which {model.__name__} trains on; '
                f'{" and ".join(REAL)} make them',
            )

    def roots(self, where: str, phase: str, dataset: Options) -> None:
        """Several folders or LMDBs: in training, as many of each side."""
        lists = {key: len(dataset[key]) for key in dataset if isinstance(dataset[key], list) and 'dataroot' in str(key)}
        if lists and not (phase == 'train' and self.draws(dataset)):
            self.fault(
                f'{where}.{next(iter(lists))}', 'a list is only for training with PairedSRDataset or OnTheFlyDataset'
            )
        counts = {key: lists.get(key, 1) for key in roots_of(dataset)}
        if len(set(counts.values())) > 1:
            self.fault(f'{where}.dataroot_gt', f'all lists must have the same length, got {shown(counts)}')
        for key in (key for key in ('meta_info_file', 'meta_info') if lists and dataset.get(key) is not None):
            self.fault(f'{where}.{key}', 'cannot be used with a list of folders')

    def curriculum(self, where: str, dataset: Options) -> None:
        """Patches whose size goes by the iteration."""
        steps = subsection(self.train, 'curriculum').get('gt_size')
        if not isinstance(steps, dict):
            return
        if not self.draws(dataset):
            self.fault('train.curriculum.gt_size', f'{dataset["type"]} cuts patches of one size; use PairedSRDataset')
        for size in (size for size in steps.values() if whole(size) and self.scale and size % self.scale):
            self.fault('train.curriculum.gt_size', f'{size} is no multiple of the scale, {self.scale}')

    def draws(self, dataset: Options) -> bool:
        """Whether a dataset is one of ours, whose patches are functions of the draw."""
        return issubclass(dict(iter(DATASET_REGISTRY))[dataset['type']], (PairedSRDataset, OnTheFlyDataset))

    def largest_patch(self, dataset: Options) -> int | None:
        steps = subsection(subsection(self.train, 'curriculum'), 'gt_size')
        return max((size for size in (dataset.get('gt_size'), *steps.values()) if whole(size)), default=None)

    def weights(self, where: str, dataset: Options, parts: list[Options]) -> None:
        wanted = dataset.get('picture_weights')
        if wanted is not None:
            try:
                check_picture_weights(wanted, [name for part in parts for name in names_of(part, 'dataroot_gt')])
            except UserError as error:
                self.fault(f'{where}.picture_weights', str(error))

    def memory(self, where: str, phase: str, dataset: Options) -> None:
        if phase != 'train':
            self.fault(f'{where}.in_memory', 'is only for training')
        if dataset.get('bit_depth') == 16:
            self.fault(f'{where}.bit_depth', '16 cannot be used with in_memory, which keeps 8 bits of a channel')
        for key in (key for key in ('color', 'mean', 'std') if dataset.get(key) is not None):
            self.fault(f'{where}.{key}', 'cannot be used with in_memory, whose pictures are RGB in [0, 1]')

    def additions(self, where: str, phase: str, dataset: Options) -> None:
        """What changes the patches of training, and a teacher's pictures beside them."""
        for key in (key for key in _OF_TRAINING if dataset.get(key) and phase != 'train'):
            self.fault(f'{where}.{key}', 'is only for training')
        if dataset.get('dataroot_teacher') is not None:
            if subsection(dataset, 'io_backend').get('type') != 'lmdb':
                self.fault(f'{where}.dataroot_teacher', 'needs io_backend: type: lmdb')
            if not (phase == 'train' and self.train.get('teacher')):
                self.fault(f'{where}.dataroot_teacher', 'is only for training with a section train.teacher')

    @property
    def loaders(self) -> int:
        """Shares that a total batch is cut into: one a process, or one a GPU when one process drives them all."""
        gpus, wanted = torch.cuda.device_count(), whole(self.opt.get('num_gpu'), 0)
        return self.processes if self.distributed else max(1, gpus if wanted is None else min(gpus, wanted))

    def batches(self, where: str, dataset: Options) -> None:
        shares, each = self.loaders, whole(dataset.get('batch_size_per_gpu'))
        if dataset.get('total_batch_size') is None:
            self.require(where, dataset, 'batch_size_per_gpu')
        elif (total := whole(dataset['total_batch_size'])) and total % shares:
            near = [n for n in (total - total % shares, total + -total % shares) if n]
            self.fault(
                f'{where}.total_batch_size',
                f'{total} is no multiple of {shares} processes or GPUs (nearest: {", ".join(map(str, near))})',
            )
        elif total and each and each * shares != total:
            self.warn(
                f'{where}.total_batch_size',
                f'{total} replaces batch_size_per_gpu {each} (times {shares}): {total // shares} each',
            )

    def batch(self, dataset: Options) -> int | None:
        """Pictures in a batch of one share."""
        total = whole(dataset.get('total_batch_size'))
        return total // self.loaders if total else whole(dataset.get('batch_size_per_gpu'))

    def shares(self, where: str, dataset: Options) -> None:
        """What the batch of a process has to be large enough for."""
        size, parts = self.batch(dataset), whole(self.train.get('accumulate')) or 1
        if size and size % parts:
            self.fault(
                'train.accumulate',
                f'the {size} pictures of a process in a batch cannot be split into {parts} equal parts',
            )
        for key in (key for key in MIXINGS if dataset.get(key) and size == 1):
            self.fault(f'{where}.{key}', 'needs at least 2 pictures in the batch of each process')

    def epoch(self, where: str, dataset: Options, count: int) -> None:
        """An epoch has to fill one batch at least: what does not fill one is left out."""
        batch = dataset.get('total_batch_size') or dataset['batch_size_per_gpu'] * self.loaders
        ratio = dataset.get('dataset_enlarge_ratio') or 1
        if count * ratio < batch:
            self.fault(
                f'{where}.dataset_enlarge_ratio',
                f'{ratio}: {count} pictures do not fill a batch of {batch}; use at least {math.ceil(batch / count)}',
            )
