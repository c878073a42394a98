"""Cures for what BasicSR 1.4.2 breaks on with a current stack; nothing else in the project patches BasicSR.

`iafmsr.basicsr_api` runs them around BasicSR's own import, in spawned data workers too, which come to it by the module
of their dataset. Each cure looks for its fault and leaves alone what works; no file of BasicSR is edited. Ten names in
it are replaced: four of its options module, four methods of BaseModel and two of SRModel.
"""

import atexit
import functools
import importlib.machinery
import importlib.util
import os
import sys
import time
from types import ModuleType
from typing import Any

import torch
import yaml

from iafmsr.errors import UserError
from iafmsr.options.files import OptionLoader, parse_value
from iafmsr.training import base_model
from iafmsr.training.signals import end_with_parent
from iafmsr.training.slurm import meet_by_slurm

Options = dict[str, Any]


def prepare_import() -> None:
    """Lets BasicSR be imported."""
    declare_torchvision_operators()
    provide_functional_tensor()
    provide_distutils()


@functools.cache
def apply() -> None:
    """Applies the cures of an imported BasicSR, once per process."""
    read_options_safely()
    fit_options_to_machine()
    launch_without_cuda()
    save_whole_checkpoints()
    load_what_fits()
    validate_the_bare_network()
    validate_without_gt()


_kept_alive: list[torch.library.Library] = []  # a Library's declarations go when it is collected


def declare_torchvision_operators() -> None:
    """Lets torchvision be imported beside a torch of another build.

    A CUDA build of torchvision cannot load its native library beside a CPU build of torch; `import torchvision` then
    dies of `operator torchvision::nms does not exist` while it describes its operators. BasicSR's image nets use none
    of them, so their declaration alone is enough. Where the library loads, it declares them itself.
    """
    package = importlib.util.find_spec('torchvision')
    native = package and importlib.machinery.PathFinder.find_spec('_C', package.submodule_search_locations)
    if native is not None:
        try:
            torch.ops.load_library(native.origin)
        except OSError:
            pass
    schemas = {
        'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
        'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    }
    missing = [schema for name, schema in schemas.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for schema in missing:
            library.define(schema)
        _kept_alive.append(library)


def provide_functional_tensor() -> None:
    """Brings back `torchvision.transforms.functional_tensor`, gone since torchvision 0.17.

    BasicSR's degradations import `rgb_to_grayscale` from it; `torchvision.transforms.functional` has the same function.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, 'Stands in for the module of this name in torchvision before 0.17.')
    vars(module)['rgb_to_grayscale'] = rgb_to_grayscale
    sys.modules[name] = module


def provide_distutils() -> None:
    """Brings back `distutils`, gone with Python 3.12, whose `LooseVersion` BasicSR's arch_util imports.

    setuptools has a copy. Its start-up file puts it in place where packages are installed as usual; where their folder
    is merely on PYTHONPATH, importing setuptools does.
    """
    if importlib.util.find_spec('distutils') is None:
        import setuptools  # noqa: F401


def read_options_safely() -> None:
    """Makes numbers numbers, in option files and in `--force_yml` alike, and keeps code out of both.

    The stock parser of `--force_yml` leaves `1e-4` and `-1` strings, on which the optimizer dies, and passes lists to
    `eval`; the stock loader of files leaves `1e-4` a string as well and builds any Python object a file names.
    """
    from basicsr.utils import options

    options._postprocess_yml_value = parse_value
    options.ordered_yaml = lambda: (OptionLoader, yaml.SafeDumper)


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
        return opt, args

    options.parse_options = parse_options


def launch_without_cuda() -> None:
    """Lets torchrun start processes without CUDA (gloo), and gives each process the GPU that LOCAL_RANK says.

    The stock start divides the rank by the number of GPUs, zero on a CPU, and never reads LOCAL_RANK, which is wrong
    where the ranks of a machine do not begin at a multiple of its GPUs. The stock wrapper then hands
    DistributedDataParallel a GPU's number where there is none, and does not tell it of parameters that no loss trains,
    on which it dies at the second iteration. Slurm's launcher divides by that number too, and gives the list of nodes
    to a shell (CVE-2024-27763).

    A thread of gloo that wants the interpreter, to let go of the last tensor it has sent, takes the process down with
    SIGABRT when it finds the interpreter ending. So at exit the threads get a moment; to destroy the group would not
    end them while a network still holds it.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import options
    from torch.nn.parallel import DistributedDataParallel

    stock_init, stock_wrap = options.init_dist, BaseModel.model_to_device

    @functools.wraps(stock_init)
    def init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
        if launcher == 'slurm':
            meet_by_slurm(kwargs.pop('port', None))
        if 'LOCAL_RANK' not in os.environ:
            raise UserError('--launcher pytorch needs torchrun: torchrun --nproc_per_node=N iafmsr/train.py ...')
        if launcher == 'pytorch':
            end_with_parent()  # torchrun that is killed leaves no rank behind
        if torch.multiprocessing.get_start_method(allow_none=True) is None:
            torch.multiprocessing.set_start_method('spawn')
        if torch.cuda.is_available():
            local_rank, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
            if local_rank >= count:
                raise UserError(f'more processes on this machine than CUDA devices ({count})')
            torch.cuda.set_device(local_rank)
        else:
            backend = 'gloo'
        torch.distributed.init_process_group(backend, **kwargs)
        atexit.register(time.sleep, 0.1)

    @functools.wraps(stock_wrap)
    def model_to_device(self: BaseModel, net: torch.nn.Module) -> torch.nn.Module:
        if self.opt['dist'] and self.is_train and net is getattr(self, 'net_g', None):
            from iafmsr.models.usage import announce_unused_parameters

            announce_unused_parameters(self.opt, net.to(self.device))
        if not self.opt['dist'] or self.device.type == 'cuda':
            return stock_wrap(self, net)
        return DistributedDataParallel(
            net.to(self.device), find_unused_parameters=self.opt.get('find_unused_parameters', False)
        )

    options.init_dist = init_dist
    BaseModel.model_to_device = model_to_device


def save_whole_checkpoints() -> None:
    """Lets a checkpoint be whole or not there, and hold all that an exact resume needs.

    The stock functions write in place (a process killed meanwhile leaves a file that does not load), say of a full
    disk that it is ignored, and save neither the best metrics nor a scaler. What a state says of learning rates and
    schedules replaces, in some schedulers, what the option file says, and in others not.
    """
    from basicsr.models.base_model import BaseModel

    BaseModel.save_network = base_model.save_network
    BaseModel.save_training_state = base_model.save_training_state
    BaseModel.resume_training = base_model.resume_training


def load_what_fits() -> None:
    """Lets a training start from weights of any trainer.

    The stock function wants the state dict under the key that is asked for (and dies of a KeyError under `ema_decay`
    where it lies bare), dies of a tensor of another shape in spite of `strict_load_g: false`, and with weights of
    another network trains from nothing without an error.
    """
    from basicsr.models.base_model import BaseModel

    from iafmsr.nets.fine_tuning import load_network

    BaseModel.load_network = load_network


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
