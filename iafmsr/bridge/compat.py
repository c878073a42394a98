"""Cures for what BasicSR 1.4.2 breaks on with a current stack.

`iafmsr.bridge.basicsr_api` applies them when it has imported BasicSR (what the import itself needs is in
`iafmsr.bridge.importing`, what the start of a distributed run needs in `iafmsr.bridge.launching`), in spawned data
workers too, which come to it by the module of their dataset. Each cure looks for its fault and leaves alone what works;
no file of BasicSR is edited. Replaced here are three names of its options module, methods of BaseModel, SRModel and the
models of Real-ESRGAN, what those degrade with, and NIQE. Besides, `iafmsr.bridge.launching` replaces how processes
start, and `iafmsr.models.base_model` how BaseModel saves, resumes and loads; nothing else in the project patches
BasicSR.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import yaml

Options = dict[str, Any]


@functools.cache
def apply() -> None:
    """Applies the cures of an imported BasicSR, once per process."""
    fit_options_to_machine()
    wrap_without_cuda()
    take_other_devices()
    validate_the_bare_network()
    validate_without_gt()
    degrade_on_any_device()
    measure_flat_pictures()


def read_options_by(loader: type[yaml.SafeLoader], parse_value: Callable[[str], Any]) -> None:
    """Makes numbers numbers, in option files and in `--force_yml` alike, and keeps code out of both.

    Args:
        loader: Reads option files.
        parse_value: Reads the value of a `--force_yml key=value`.

    The stock parser of `--force_yml` leaves `1e-4` and `-1` strings, on which the optimizer dies, and passes lists to
    `eval`; the stock loader of files leaves `1e-4` a string as well and builds any Python object a file names.
    """
    from basicsr.utils import options

    options._postprocess_yml_value = parse_value
    options.ordered_yaml = lambda: (loader, yaml.SafeDumper)


def without_cuda(opt: Options) -> list[str]:
    """Rewrites in place the options that need CUDA.

    Args:
        opt: Parsed options.

    Returns:
        What was changed, each as `key: new (was old)`.
    """
    changes = []

    def change(section: Options, key: str, value: Any, name: str) -> None:
        changes.append(f'{name}: {value} (was {section[key]})')
        section[key] = value

    if opt.get('num_gpu', 0) != 0:
        change(opt, 'num_gpu', 0, 'num_gpu')
    train = opt['datasets'].get('train', {})
    if train.get('prefetch_mode') == 'cuda':
        change(train, 'prefetch_mode', None, 'datasets: train: prefetch_mode')
    return changes


def share_batch(opt: Options) -> None:
    """Gives BasicSR, in place, the batch of each process where an option file says the whole (total_batch_size)."""
    train = opt['datasets'].get('train') or {}
    if train.get('total_batch_size'):
        loaders = opt['world_size'] if opt['dist'] else max(1, opt['num_gpu'])
        train['batch_size_per_gpu'] = train['total_batch_size'] // loaders


def fit_options_to_machine() -> None:
    """Lets an option file written for GPUs run without one, and says so in a line.

    `num_gpu: 1` and `prefetch_mode: cuda` make BasicSR touch CUDA at once, and die where there is none.
    """
    from basicsr.utils import options

    stock = options.parse_options

    @functools.wraps(stock)
    def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, Any]:
        opt, args = stock(root_path, is_train)
        if not torch.cuda.is_available():
            changes = without_cuda(opt)
            if changes and opt['rank'] == 0:
                print('No CUDA device: ' + ', '.join(changes), flush=True)
        share_batch(opt)
        return opt, args

    options.parse_options = parse_options
    for name in ('basicsr.train', 'basicsr.test'):  # BasicSR imports its own pipelines, and they the stock name, first
        if name in sys.modules:
            vars(sys.modules[name])['parse_options'] = parse_options


def wrap_without_cuda() -> None:
    """Lets a network of a distributed run be on a CPU: the stock wrapper hands DistributedDataParallel a GPU's number
    where there is none."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    stock = BaseModel.model_to_device

    @functools.wraps(stock)
    def model_to_device(self: BaseModel, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt['dist'] or self.device.type == 'cuda':
            return stock(self, net)
        return DistributedDataParallel(
            net.to(self.device), find_unused_parameters=self.opt.get('find_unused_parameters', False)
        )

    BaseModel.model_to_device = model_to_device


def take_other_devices() -> None:
    """Lets a model be on a device that is neither CUDA nor the CPU: `device` of the options names it."""
    from basicsr.models.base_model import BaseModel

    stock = BaseModel.__init__

    @functools.wraps(stock)
    def init(self: BaseModel, opt: Options) -> None:
        stock(self, opt)
        self.device = torch.device(opt.get('device') or self.device)

    BaseModel.__init__ = init


def validate_the_bare_network() -> None:
    """Lets rank 0 validate alone without EMA: through DistributedDataParallel, a network with buffers waits for the
    other ranks to take them, and the run dies."""
    from basicsr.models.sr_model import SRModel

    stock = SRModel.test

    @functools.wraps(stock)
    def test(self: SRModel) -> None:
        wrapped = self.net_g
        self.net_g = self.get_bare_model(wrapped)
        try:
            stock(self)
        finally:
            self.net_g = wrapped

    SRModel.test = test


def validate_without_gt() -> None:
    """Lets a test set without ground truth stand beside others while metrics are on.

    The stock validation computes every metric on every set and dies of a TypeError where the ground truth is missing;
    for such a set the metrics are now off.
    """
    from basicsr.models.sr_model import SRModel

    stock = SRModel.nondist_validation

    @functools.wraps(stock)
    def nondist_validation(self: SRModel, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        val = self.opt['val']
        if dataloader.dataset.opt.get('dataroot_gt') is None:
            self.opt['val'] = {**val, 'metrics': None}
        try:
            stock(self, dataloader, current_iter, tb_logger, save_img)
        finally:
            self.opt['val'] = val

    SRModel.nondist_validation = nondist_validation


def degrade_on_any_device() -> None:
    """Lets the models of Real-ESRGAN run on a CPU, and blur what is not contiguous.

    The stock models call `.cuda()` for JPEG, sharpening and their pool of pairs whatever `num_gpu` says; and their blur
    takes a view of a picture whose channels JPEG has left last, which dies where padding keeps that layout.
    """
    from basicsr.models import realesrgan_model, realesrnet_model
    from basicsr.utils import img_process_util

    stock_filter = img_process_util.filter2D

    @functools.wraps(stock_filter)
    def filter2D(img: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return stock_filter(img.contiguous(), kernel)

    img_process_util.filter2D = filter2D
    for module, cls in (
        (realesrnet_model, realesrnet_model.RealESRNetModel),
        (realesrgan_model, realesrgan_model.RealESRGANModel),
    ):
        module.filter2D = filter2D
        for name in ('DiffJPEG', 'USMSharp'):
            setattr(module, name, _without_device(getattr(module, name)))
        _on_its_device(cls)


def _without_device(cls: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """The same module, which stays where it is when `cuda` is called."""
    return type(cls.__name__, (cls,), {'cuda': lambda self, device=None: self, '__doc__': cls.__doc__})


def _on_its_device(cls: Any) -> None:
    """Puts what a model degrades with, and its pool of pairs, on the model's own device."""
    stock_init, stock_pool = cls.__init__, cls._dequeue_and_enqueue

    @functools.wraps(stock_init)
    def init(self: Any, opt: Options) -> None:
        stock_init(self, opt)
        self.jpeger, self.usm_sharpener = self.jpeger.to(self.device), self.usm_sharpener.to(self.device)

    @functools.wraps(stock_pool)
    def pool(self: Any) -> None:
        if not hasattr(self, 'queue_lr') and self.queue_size % len(self.lq) == 0:  # else it says so
            self.queue_lr, self.queue_gt = (x.new_zeros(self.queue_size, *x.shape[1:]) for x in (self.lq, self.gt))
            self.queue_ptr = 0
        stock_pool(self)

    cls.__init__, cls._dequeue_and_enqueue = init, pool


def measure_flat_pictures() -> None:
    """Makes NIQE of a picture without two blocks of texture not a number: the stock function inverts a matrix of such
    numbers there, and ends the run by a LinAlgError."""
    from basicsr.metrics import niqe as module

    stock = module.niqe

    @functools.wraps(stock)
    def niqe(*args: Any, **keywords: Any) -> float:
        try:
            return stock(*args, **keywords)
        except np.linalg.LinAlgError:
            return math.nan

    module.niqe = niqe
