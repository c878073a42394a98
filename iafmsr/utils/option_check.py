"""What must hold for an option file before a run can start.

BasicSR reads its options where it needs them, some after the previous run's folder has been renamed and some after
days. Here they are checked first, all faults at once, each naming its key and, when misspelt, the nearest known one.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from typing import Any

import torch

from iafmsr.basicsr_api import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    SRGANModel,
)
from iafmsr.data.augmentation import AUGMENTATIONS
from iafmsr.errors import UserError
from iafmsr.models.iafmnet_model import IAFMNetModel
from iafmsr.models.teacher import load_teacher
from iafmsr.nets.fine_tuning import weights_for
from iafmsr.training.checkpoints import load_state, networks_to_resume
from iafmsr.utils.dataset_check import check_dataset
from iafmsr.utils.option_keys import (
    ANY,
    COUNT,
    DATASETS,
    ITERATIONS,
    KNOWN,
    LOADER,
    NATURAL,
    NUMBERS,
    OPTIMIZERS,
    PATCHES,
    SCHEDULERS,
    SECTION,
    SHARE,
)
from iafmsr.utils.option_sections import Options, Report, SectionCheck, is_foreign, is_ours, subsection


def check_options(opt: Options, is_train: bool, root_path: str, processes: int = 1, distributed: bool = False,
                  files: bool = True) -> Report:
    """Check options as read from a file, with absolute paths.

    Args:
        opt: the options; left as they are.
        is_train: options for training, or for a test.
        root_path: repository root, where experiments/ lies.
        processes: number of training processes.
        distributed: the processes are a distributed run (else one process, with all of ``num_gpu``).
        files: look at this machine as well: data, checkpoints, CUDA. False checks the text alone.

    Returns:
        Faults and warnings, none when the run can start.
    """
    return _Check(opt, is_train, root_path, processes, distributed, files).run()


class _Check(SectionCheck):
    """One check of one option file; each method looks at one part and adds what it finds to the report."""

    def __init__(self, opt: Options, is_train: bool, root_path: str, processes: int, distributed: bool,
                 files: bool) -> None:
        super().__init__()
        self.opt, self.is_train, self.root_path, self.files = opt, is_train, root_path, files
        self.processes, self.distributed = processes, distributed
        self.train, self.path, self.val = (subsection(opt, key) for key in ('train', 'path', 'val'))
        self.scale = opt['scale'] if COUNT.accepts(opt.get('scale')) else None

    def run(self) -> Report:
        networks = [key for key in self.opt if re.fullmatch(r'network_\w+', str(key))]
        self.keys('', self.opt, KNOWN[''] | dict.fromkeys(networks, SECTION))
        self.require('', self.opt, 'name', 'scale', 'num_gpu', 'datasets', 'path', 'network_g')
        for section in ('path', 'val', 'logger', 'dist_params'):
            self.keys(section, subsection(self.opt, section), KNOWN[section])
        if re.search(r'[/\\]|^\.*$', name := str(self.opt.get('name', '-'))):
            self.fault('name', f'a plain folder name is wanted, got {name!r}')
        self.model()
        for key in networks:
            self.network(key, subsection(self.opt, key))
        if self.is_train:
            # without a seed of its own a run could not be resumed to the bit, nor its ranks agree on an order
            self.require('', self.opt, 'manual_seed', 'train', 'logger')
            self.training()
            self.logger()
        self.validation()
        self.datasets()
        if self.files:
            self.machine()
        return self.report

    def model(self) -> None:
        model = self.choose('model_type', self.opt.get('model_type'), dict(iter(MODEL_REGISTRY)))
        if not self.is_train or model is None:
            return
        if issubclass(model, SRGANModel):
            self.require('', self.opt, 'network_d')
            self.require('train', self.train, 'optim_d', 'gan_opt')
        elif not (self.train.get('pixel_opt') or self.train.get('perceptual_opt')):
            self.fault('train', 'a loss is missing: pixel_opt, perceptual_opt or both')
        own = issubclass(model, IAFMNetModel)
        ours = ('ie_opt', 'fft_opt', 'autocast', 'channels_last', 'compile', 'max_bad_steps', 'teacher')
        for key in (key for key in ours if self.train.get(key) and not own):
            self.fault(f'train.{key}', f'{model.__name__} makes no use of it, IAFMNetModel does')
        if subsection(self.train, 'optim_g').get('type') == 'Muon' and not own:
            self.fault('train.optim_g.type', f'{model.__name__} knows no Muon, IAFMNetModel does')
        if self.train.get('ie_opt') and own:
            name = subsection(self.opt, 'network_g').get('type')
            arch = next((cls for key, cls in ARCH_REGISTRY if key == name), None)
            if arch is not None and 'return_density' not in inspect.signature(arch.forward).parameters:
                self.fault('train.ie_opt', f'{arch.__name__} gives no density to take the entropy of')

    def network(self, where: str, section: Options) -> None:
        found = len(self.report.faults)
        cls = self.constructor(where, section, dict(iter(ARCH_REGISTRY)))
        if cls is None:
            return
        if where == 'network_g':
            self.scales(where, cls, section)
        pretrained = self.files and isinstance(self.path.get(f'pretrain_{where}'), str)
        if len(self.report.faults) == found and (is_ours(cls) or pretrained):
            with torch.device('meta'):  # shapes alone: a width of a million is not tried out in memory
                net = self.build(where, cls, section)
            if net is not None and pretrained:
                self.checkpoint(where, net)

    def scales(self, where: str, cls: Any, section: Options) -> None:
        if is_ours(cls) and self.scale not in (None, 2, 3, 4):
            self.fault('scale', f'2, 3 or 4 is wanted, got {self.scale}')
        parameters = inspect.signature(cls).parameters
        for word in ('scale', 'upscale'):
            if word in parameters and self.scale:
                scale = section.get(word, parameters[word].default)
                if scale != self.scale:
                    self.fault(f'{where}.{word}', f'{scale}, but the scale of the option file is {self.scale}')

    def checkpoint(self, where: str, net: torch.nn.Module) -> None:
        suffix = where.removeprefix('network_')
        try:
            weights_for(net, self.path[f'pretrain_{where}'], self.path.get(f'strict_load_{suffix}', True),
                        self.path.get(f'param_key_{suffix}', 'params'))
        except UserError as error:
            self.fault(f'path.pretrain_{where}', str(error))

    def training(self) -> None:
        self.keys('train', self.train, KNOWN['train'])
        self.require('train', self.train, 'total_iter', 'optim_g', 'scheduler')
        parameter = torch.zeros(1, requires_grad=True)
        for key in self.train:
            where, section, found = f'train.{key}', subsection(self.train, key), len(self.report.faults)
            if not section or key not in KNOWN['train']:
                continue
            if key.startswith('optim_'):
                cls = self.constructor(where, section, OPTIMIZERS, given=('params',))
                self.require(where, section, 'lr')
                if len(self.report.faults) == found:
                    self.build(where, cls, section, [parameter])
            elif key == 'teacher':
                self.teacher(section)
            elif key == 'scheduler':
                self.schedule(where, section, torch.optim.SGD([parameter]))
            else:
                cls = self.constructor(where, section, dict(iter(LOSS_REGISTRY)))
                # PerceptualLoss loads a VGG; what others do is theirs
                if len(self.report.faults) == found and not is_foreign(cls) and cls.__name__ != 'PerceptualLoss':
                    self.build(where, cls, section)

    def teacher(self, section: Options) -> None:
        where, train_set = 'train.teacher', subsection(subsection(self.opt, 'datasets'), 'train')
        found = len(self.report.faults)
        self.keys(where, section, KNOWN[where])
        self.require(where, section, 'weight')
        prepared = train_set.get('dataroot_teacher') is not None
        if prepared == (section.get('weights') is not None):
            self.fault(where, 'weights of a network or datasets.train.dataroot_teacher is wanted, '
                              f'{"not both" if prepared else "one of them"}')
        if section.get('weights') and self.files and len(self.report.faults) == found:
            try:
                scale = load_teacher(section['weights'])[1]
            except UserError as error:
                self.fault(f'{where}.weights', str(error))
            else:
                if self.scale and scale != self.scale:
                    self.fault(f'{where}.weights', f'{section["weights"]}: a network of scale {scale}, the option file '
                                                   f'is of scale {self.scale}')

    def schedule(self, where: str, section: Options, optimizer: torch.optim.Optimizer) -> None:
        found = len(self.report.faults)
        cls = self.constructor(where, section, SCHEDULERS, given=('optimizer', 'last_epoch'))
        lists = ('periods', 'milestones', 'restarts', 'restart_weights')
        self.keys(where, {key: section[key] for key in lists if key in section}, dict.fromkeys(lists, NUMBERS))
        if len(self.report.faults) > found:
            return
        starts, total = 'periods' if 'periods' in section else 'restarts', self.train.get('total_iter')
        lengths = [len(section.get(key) or [0]) for key in (starts, 'restart_weights')]
        if lengths[0] != lengths[1]:
            self.fault(where, f'{starts} and restart_weights differ in length: {lengths[0]}, {lengths[1]}')
        elif self.build(where, cls, section, optimizer) and starts == 'periods' and ITERATIONS.accepts(total):
            if (end := sum(section['periods'])) < total:
                self.fault(f'{where}.periods', f'they end at iteration {end}, before total_iter, {total}')

    def logger(self) -> None:
        logger = subsection(self.opt, 'logger')
        self.require('logger', logger, 'print_freq', 'save_checkpoint_freq', 'use_tb_logger')
        datasets = subsection(self.opt, 'datasets')
        with_gt = any(str(phase).startswith('val') and subsection(datasets, phase).get('dataroot_gt')
                      for phase in datasets)
        if logger.get('keep_best') and not (with_gt and self.val.get('metrics')):
            self.fault('logger.keep_best', 'needs a val set with dataroot_gt, and val.metrics, to tell the best')
        if subsection(logger, 'wandb').get('project') and not logger.get('use_tb_logger'):
            self.fault('logger.wandb', 'needs use_tb_logger: true, whose records it takes')
        self.keys('logger.wandb', subsection(logger, 'wandb'), KNOWN['logger.wandb'])
        wanted = {'tensorboard': logger.get('use_tb_logger'), 'wandb': subsection(logger, 'wandb').get('project')}
        for package in (name for name, used in wanted.items() if used and self.files):
            if importlib.util.find_spec(package) is None:
                self.fault('logger', f'{package} is not installed: pip install {package}, or leave it out')

    def validation(self) -> None:
        if not self.is_train:
            self.require('', self.opt, 'val')
        if not self.val:
            return
        self.require('val', self.val, 'save_img', *['val_freq'] * self.is_train)
        if not self.is_train and self.val.get('save_img') and 'suffix' not in self.val:
            self.fault('val.suffix', 'missing, save_img needs it (~ for the name of the run)')
        for name, section in subsection(self.val, 'metrics').items():
            where = f'val.metrics.{name}'
            if not isinstance(section, dict):
                self.fault(where, f'a section of keys is wanted, got {section!r}')
                continue
            metric = self.constructor(where, {key: value for key, value in section.items() if key != 'better'},
                                      dict(iter(METRIC_REGISTRY)), given=('img', 'img2'))
            if metric is None:
                continue
            # BasicSR's metrics swallow any keyword: what is misspelt would be lost in silence
            known = ['type', 'better', *inspect.signature(metric).parameters]
            for key in (key for key in section if key not in known):
                self.unknown(f'{where}.{key}', metric, key, known)
            self.keys(where, {key: section[key] for key in KNOWN['metric'] if key in section}, KNOWN['metric'])
            if section.get('better', 'higher') not in ('higher', 'lower'):
                self.fault(f'{where}.better', f'higher or lower is wanted, got {section["better"]!r}')
            if self.scale and section.get('crop_border', self.scale) != self.scale:
                self.warn(f'{where}.crop_border', f'{section["crop_border"]}; published figures crop the scale, '
                                                  f'{self.scale} pixels')

    def datasets(self) -> None:
        datasets = subsection(self.opt, 'datasets')
        if self.is_train or not datasets:
            self.require('datasets', datasets, 'train' if self.is_train else 'test')
        for phase, dataset in datasets.items():
            where, kind = f'datasets.{phase}', str(phase).split('_')[0]
            if kind not in (('train', 'val') if self.is_train else ('test', 'val')):
                self.fault(where, f'unknown phase; {"train, val and val_*" if self.is_train else "test and test_*"} '
                                  'are known')
            elif not isinstance(dataset, dict):
                self.fault(where, f'a section of keys is wanted, got {dataset!r}')
            else:
                self.dataset(where, kind, dataset)

    def dataset(self, where: str, phase: str, dataset: Options) -> None:
        found = len(self.report.faults)
        cls = self.choose(f'{where}.type', dataset.get('type'), dict(iter(DATASET_REGISTRY)))
        self.require(where, dataset, 'name')
        if cls is None:
            return
        own = DATASETS.get(dataset['type']) or {
            key: SHARE if key in AUGMENTATIONS else ANY for key in getattr(cls, 'OPTION_KEYS', ())}
        if not own:
            self.warn(where, f'the keys of {dataset["type"]} are not checked')
            return
        self.keys(where, dataset, LOADER | own)
        self.keys(f'{where}.io_backend', subsection(dataset, 'io_backend'), KNOWN['io_backend'])
        self.require(where, dataset, 'io_backend', *(key for key in own if key in ('dataroot_gt', 'dataroot_lq')))
        if subsection(dataset, 'io_backend').get('type') not in ('disk', 'lmdb', 'memcached'):
            self.fault(f'{where}.io_backend.type', 'disk, lmdb or memcached is wanted')
        if dataset.get('prefetch_mode') not in (None, 'cpu', 'cuda'):
            self.fault(f'{where}.prefetch_mode', f'~, cpu or cuda is wanted, got {dataset["prefetch_mode"]!r}')
        if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
            self.fault(f'{where}.prefetch_mode', 'cuda needs pin_memory: true')
        if dataset.get('persistent_workers') and not (phase == 'train' and dataset.get('num_worker_per_gpu')):
            self.fault(f'{where}.persistent_workers', 'there are no workers to keep')
        if phase == 'train':
            self.patches(where, dataset)
            self.batches(where, dataset)
        self.memory(where, phase, dataset)
        for key in (key for key in AUGMENTATIONS if dataset.get(key)):
            if phase != 'train':
                self.fault(f'{where}.{key}', 'is for training')
        if dataset.get('dataroot_teacher') is not None:
            if subsection(dataset, 'io_backend').get('type') != 'lmdb':
                self.fault(f'{where}.dataroot_teacher', 'needs io_backend: type: lmdb')
            if not (phase == 'train' and self.train.get('teacher')):
                self.fault(f'{where}.dataroot_teacher', 'is for training with a section train.teacher')
        if self.files and self.scale and len(self.report.faults) == found:
            count, faults = check_dataset(dataset, self.scale, phase)
            self.report.faults.extend(f'{where}.{fault}' for fault in faults)
            if phase == 'train' and not faults:
                self.epoch(where, dataset, count)

    def patches(self, where: str, dataset: Options) -> None:
        self.require(where, dataset, *PATCHES, 'num_worker_per_gpu')
        size = dataset.get('gt_size')
        if COUNT.accepts(size) and self.scale and size % self.scale:
            self.fault(f'{where}.gt_size', f'{size} is no multiple of the scale, {self.scale}')

    def memory(self, where: str, phase: str, dataset: Options) -> None:
        wanted = dataset.get('in_memory')
        if wanted is None:
            return
        if wanted not in ('host', 'gpu'):
            self.fault(f'{where}.in_memory', f'~, host or gpu is wanted, got {wanted!r}')
        if phase != 'train':
            self.fault(f'{where}.in_memory', 'is for training')
        for key in (key for key in ('color', 'mean', 'std') if dataset.get(key) is not None):
            self.fault(f'{where}.{key}', 'does not go with in_memory, whose pictures are RGB in [0, 1]')

    @property
    def loaders(self) -> int:
        """Shares that a total batch is cut into: one a process, or one a GPU when one process drives them all."""
        gpus, wanted = torch.cuda.device_count(), self.opt.get('num_gpu')
        return self.processes if self.distributed else max(1, min(gpus, wanted) if NATURAL.accepts(wanted) else gpus)

    def batches(self, where: str, dataset: Options) -> None:
        total, each, shares = dataset.get('total_batch_size'), dataset.get('batch_size_per_gpu'), self.loaders
        if total is None:
            self.require(where, dataset, 'batch_size_per_gpu')
        elif COUNT.accepts(total) and total % shares:
            near = [n for n in (total - total % shares, total + -total % shares) if n]
            self.fault(f'{where}.total_batch_size', f'{total} is no multiple of {shares} processes or GPUs '
                                                    f'(nearest: {", ".join(map(str, near))})')
        elif each is not None and COUNT.accepts(total) and each * shares != total:
            self.warn(f'{where}.total_batch_size', f'{total} wins over batch_size_per_gpu {each} '
                                                   f'(times {shares}): {total // shares} each')

    def epoch(self, where: str, dataset: Options, count: int) -> None:
        """An epoch has to fill one batch at least: what does not fill one is left out."""
        batch = dataset.get('total_batch_size') or dataset['batch_size_per_gpu'] * self.loaders
        ratio = dataset.get('dataset_enlarge_ratio') or 1
        if count * ratio < batch:
            self.fault(f'{where}.dataset_enlarge_ratio', f'{ratio}: {count} pictures do not fill a batch of {batch}; '
                                                         f'{math.ceil(batch / count)} will do')

    def machine(self) -> None:
        """What this machine lacks, and files that BasicSR opens late."""
        gpus, wanted = torch.cuda.device_count(), self.opt.get('num_gpu')
        # without any CUDA device a run goes to the CPU
        if NATURAL.accepts(wanted) and wanted > gpus > 0:
            self.fault('num_gpu', f'{wanted}, but this machine has {gpus} CUDA devices (auto takes them all)')
        if self.is_train and isinstance(state := self.path.get('resume_state'), str):
            try:
                load_state(state, f'{self.root_path}/experiments/{self.opt.get("name")}/models',
                           networks_to_resume(self.opt))
            except UserError as error:
                self.fault('path.resume_state', str(error))
