"""What must hold for an option file before a run can start.

BasicSR reads its options where it needs them, some after the previous run's folder has been renamed and some after
days. Here they are checked first, all faults at once, each naming its key and, when misspelt, the nearest known one.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from pydantic import ValidationError

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY, MODEL_REGISTRY, SRGANModel
from iafmsr.errors import UserError
from iafmsr.nets.checkpoints import load_state, networks_to_resume
from iafmsr.nets.fine_tuning import weights_for
from iafmsr.options.schema import Options as Schema
from iafmsr.options.schema import readers, sections
from iafmsr.training.checks.channels import ChannelCheck
from iafmsr.training.checks.degradation import DegradationCheck
from iafmsr.training.checks.findings import (
    Options,
    Report,
    is_folder_name,
    is_foreign,
    is_ours,
    shown,
    whole,
)
from iafmsr.training.checks.training import TrainingCheck
from iafmsr.training.checks.validation import ValidationCheck

_LARGEST = 10_000  # of a whole number that describes a network: widths and depths are far below


def check_options(
    opt: Options, is_train: bool, root_path: str, processes: int = 1, distributed: bool = False, files: bool = True
) -> Report:
    """Check options as read from a file, with absolute paths.

    Args:
        opt: the options; left as they are.
        is_train: options for training, or for a test.
        root_path: repository root, where experiments/ lies.
        processes, distributed: of training; the processes are a distributed run, or one has all of ``num_gpu``.
        files: look at this machine as well: data, checkpoints, CUDA. False checks the text alone.

    Returns: faults and warnings, none when the run can start.
    """
    return _Check(opt, is_train, root_path, processes, distributed, files).run()


def fill_defaults(opt: Options, read: Options, is_train: bool) -> None:
    """Give sound options the schema's defaults, in place.

    Args:
        opt: the options, with what BasicSR adds to them.
        read: as they were read from the file.
        is_train: options for training, or for a test.
    """
    read = _of_the_kind(read, is_train)
    defaults = Schema.model_validate(read).model_dump(exclude_none=True)
    model = dict(iter(MODEL_REGISTRY)).get(opt['model_type'])
    for _, section, cls in list(sections(defaults)):
        for key in [key for key in section if model and _unread(key, cls, model)]:
            del section[key]
    _fill(opt, defaults, read)


def _fill(opt: Options, defaults: Options, read: Options) -> None:
    for key, default in defaults.items():
        given = read.get(key)
        if opt.get(key) is None:
            if given is None:  # else it was taken out on purpose, for this machine
                opt[key] = default
        elif isinstance(default, dict) and isinstance(opt[key], dict):
            _fill(opt[key], default, given if isinstance(given, dict) else {})


def _of_the_kind(opt: Options, is_train: bool) -> Options:
    """What the schema is asked about: a test makes no use of the sections of training."""
    return {
        key: value
        for key, value in opt.items()
        if (is_train or key not in ('train', 'logger')) and not _is_network(key)
    }


def _is_network(key: Any) -> bool:
    """Another network than the schema's: a model of somebody else's may have it."""
    return bool(re.fullmatch(r'network_\w+', str(key))) and key not in Schema.model_fields


def _unread(key: Any, cls: type, model: type) -> list[str]:
    """The models that read a key, when this one does not."""
    names = readers(str(key), cls)
    return [] if is_foreign(model) or {base.__name__ for base in model.__mro__} & set(names) else names


class _Check(TrainingCheck, DegradationCheck, ChannelCheck, ValidationCheck):
    """One check of one option file; each method looks at one part and adds what it finds to the report."""

    def run(self) -> Report:
        self.keys()
        self.values()
        if not is_folder_name(name := str(self.opt.get('name', '-'))):
            self.fault('name', f'must be a plain folder name, got {shown(name)}')
        if self.is_train:
            # without a seed of its own a run could not be resumed to the bit, nor its ranks agree on an order
            self.require('', self.opt, 'manual_seed', 'train', 'logger')
        self.model()
        for key in (key for key in self.opt if re.fullmatch(r'network_\w+', str(key))):
            if isinstance(self.opt[key], dict):
                self.network(key, self.opt[key])
            elif self.opt[key] is not None:
                self.fault(key, f'must be a section of keys, got {shown(self.opt[key])}')
        if self.is_train:
            self.training()
            self.logger()
        self.validation()
        self.datasets()
        if (model := dict(iter(MODEL_REGISTRY)).get(str(self.opt.get('model_type')))) is not None:
            self.channels(model)
        if self.files:
            self.machine()
        return self.report

    def keys(self) -> None:
        """Keys that no section has."""
        for where, section, cls in sections(_of_the_kind(self.opt, self.is_train)):
            if cls.model_config['extra'] == 'forbid':
                for key in (key for key in section if key not in cls.model_fields):
                    self.unknown(f'{where}.{key}'.lstrip('.'), key, cls.model_fields)

    def values(self) -> None:
        """Values of a wrong type, and keys that are missing."""
        try:
            Schema.model_validate(_of_the_kind(self.opt, self.is_train))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                location = [str(part) for part in fault['loc']]
                if location[0] == 'datasets':
                    del location[2:3]  # the class of the dataset
                if fault['type'] == 'missing':
                    self.fault('.'.join(location), 'missing')
                elif fault['type'] == 'wanted':
                    self.fault('.'.join(location), f'must be {fault["ctx"]["name"]}, got {shown(fault["input"])}')

    def model(self) -> None:
        model = self.choose('model_type', self.opt.get('model_type'), dict(iter(MODEL_REGISTRY)))
        if not self.is_train or model is None:
            return
        if issubclass(model, SRGANModel):
            self.require('', self.opt, 'network_d')
            self.require('train', self.train, 'optim_d', 'gan_opt')
        elif not any(self.train.get(key) for key in ('pixel_opt', 'perceptual_opt', 'losses')):
            self.fault('train', 'a loss is missing: pixel_opt, perceptual_opt or losses')
        for where, section, cls in sections(self.opt):
            for key in (key for key, value in section.items() if value not in (None, False)):
                if names := _unread(key, cls, model):
                    self.fault(
                        f'{where}.{key}'.lstrip('.'), f'{model.__name__} does not use it, {" or ".join(names)} does'
                    )
        self.match(model)
        self.degradation(model)

    def network(self, where: str, section: Options) -> None:
        found = len(self.report.faults)
        cls = self.constructor(where, section, dict(iter(ARCH_REGISTRY)))
        if cls is None:
            return
        if where == 'network_g':
            self.scales(where, cls, section)
        for key in (key for key, value in section.items() if (whole(value) or 0) > _LARGEST and not is_foreign(cls)):
            self.fault(f'{where}.{key}', f'{section[key]} is more than {_LARGEST:,}')
        pretrained = self.files and isinstance(self.path.get(f'pretrain_{where}'), str)
        if len(self.report.faults) == found and (is_ours(cls) or pretrained):
            with torch.device('meta'):  # shapes alone: a width of a million is not tried out in memory
                net = self.build(where, cls, section)
            if net is not None and pretrained:
                self.checkpoint(where, net)

    def scales(self, where: str, cls: Any, section: Options) -> None:
        if is_ours(cls) and self.scale not in (None, 1, 2, 3, 4, 8):
            self.fault('scale', f'must be 1, 2, 3, 4 or 8, got {self.scale}')
        parameters = inspect.signature(cls).parameters
        for word in ('scale', 'upscale'):
            if word in parameters and self.scale:
                scale = section.get(word, parameters[word].default)
                if scale != self.scale:
                    self.fault(f'{where}.{word}', f'{shown(scale)}, but the scale of the option file is {self.scale}')

    def checkpoint(self, where: str, net: torch.nn.Module) -> None:
        suffix = where.removeprefix('network_')
        try:
            weights_for(
                net,
                self.path[f'pretrain_{where}'],
                self.path.get(f'strict_load_{suffix}', True),
                self.path.get(f'param_key_{suffix}', 'params'),
            )
        except UserError as error:
            self.fault(f'path.pretrain_{where}', str(error))

    def machine(self) -> None:
        """What this machine lacks, and files that BasicSR opens late."""
        gpus, wanted = torch.cuda.device_count(), whole(self.opt.get('num_gpu'), 0)
        if wanted and wanted > gpus > 0:  # without any CUDA device a run goes to the CPU
            self.fault('num_gpu', f'{wanted}, but this machine has {gpus} CUDA devices (auto uses all of them)')
        if self.opt.get('device') == 'mps' and not torch.backends.mps.is_available():
            self.fault('device', 'mps: this machine has no such GPU')
        if self.is_train and isinstance(state := self.path.get('resume_state'), str):
            try:
                load_state(
                    state, f'{self.root_path}/experiments/{self.opt.get("name")}/models', networks_to_resume(self.opt)
                )
            except UserError as error:
                self.fault('path.resume_state', str(error))
        self.weights_of_losses()
        self.weights_of_metrics()
