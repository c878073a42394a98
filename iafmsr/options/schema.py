"""All sections of an option file and their keys, BasicSR's for single-image super-resolution and ours.

This is the one place that names a key. It is checked by :mod:`iafmsr.training.checks.check`, its default is filled in,
and docs/options.md and docs/options.schema.json are made from it by ``python -m iafmsr.options.page``. A new key of
``train`` is a line of :class:`Train` and the code that reads it. One whose type is :class:`Loss`, :class:`Optimizer` or
:class:`Scheduler` is held against the constructor of its class as well. A section with keys of its own is a class, as
:class:`Wandb` is for :class:`Logger`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, create_model

from iafmsr.options.datasets import DATASETS, AnyDataset, Degradation, OtherDataset
from iafmsr.options.kinds import (
    ByName,
    Count,
    Flag,
    GPUs,
    Iterations,
    Kind,
    ListKind,
    Natural,
    Number,
    Numbers,
    Positive,
    Registered,
    Seconds,
    Section,
    Seed,
    Share,
    Steps,
    Text,
    Texts,
    Whole,
    key,
)

OURS = ('IAFMNetModel',)
GAN = ('SRGANModel',)
OURS_GAN = ('IAFMNetGANModel',)


# -- train ------------------------------------------------------------------------------------------------------------
class Optimizer(Registered):
    lr: Number = key('learning rate')


class Scheduler(Registered):
    periods: Numbers | None = key('lengths of the cosine periods, in iterations', None)
    milestones: Numbers | None = key('iterations at which the learning rate is multiplied by gamma', None)
    restarts: Numbers | None = key('iterations at which the schedule starts again', None)
    restart_weights: Numbers | None = key('factor of the learning rate in each period', None)


class Loss(Registered):
    pass


class ListedLoss(Loss):
    start_iter: Natural = key('first iteration in which the loss is used', 0)


class Teacher(Section):
    weight: Positive = key("weight of the mean absolute difference from the teacher's picture")
    until: Iterations | None = key('iteration at which the weight reaches 0; constant weight if not given', None)
    weights: Text | None = key('weights of the teacher; without them, datasets.train.dataroot_teacher is needed', None)


class Curriculum(Section):
    gt_size: Annotated[dict[Iterations, Count], Steps] | None = key('side of a ground-truth patch, in pixels', None)
    k: Annotated[dict[Iterations, Annotated[float, Field(gt=0, le=1)]], Steps] | None = key(
        'share of active sites, in (0, 1]', None, OURS
    )


class Train(Section):
    total_iter: Iterations = key('iterations of the whole run')
    warmup_iter: Whole = key('iterations over which the learning rate rises from 0; -1: no warm-up', -1)
    ema_decay: Share = key('decay of the moving average of the weights; 0: no average', 0)
    optim_g: Optimizer = key(
        'optimizer of network_g: Adam; with IAFMNetModel also Muon, AdamW and others of torch.optim'
    )
    optim_d: Optimizer | None = key('optimizer of network_d', None, GAN)
    scheduler: Scheduler = key('schedule of the learning rate')
    pixel_opt: Loss | None = key('pixel loss; one of pixel_opt, perceptual_opt and losses is needed', None)
    perceptual_opt: Loss | None = key('perceptual loss, which compares features of a VGG network', None)
    ie_opt: Loss | None = key('information entropy loss', None, OURS)
    fft_opt: Loss | None = key('frequency loss, which compares the spectra', None, OURS)
    losses: Annotated[list[ListedLoss], ListKind('a list of losses')] | None = key('additional losses', None, OURS)
    teacher: Teacher | None = key('distillation from a teacher network', None, OURS)
    curriculum: Curriculum | None = key('values that change during the training', None)
    gan_opt: Loss | None = key('adversarial loss', None, GAN)
    ldl_opt: Loss | None = key('locally discriminative loss', None, GAN)
    relativistic: Flag = key(
        'network_d compares real pictures with the mean of results, and vice versa', False, OURS_GAN
    )
    net_d_iters: Count = key('iterations of network_d for each iteration of network_g', 1, GAN)
    net_d_init_iters: Natural = key('iterations of network_d before network_g is trained', 0, GAN)
    grad_clip: Positive | None = key('maximum norm of the gradients; larger gradients are scaled down', None, OURS)
    accumulate: Count = key('number of parts into which a batch is split, to save memory', 1, OURS)
    autocast: Annotated[Literal['bf16', 'fp16'], Kind('bf16 or fp16')] | None = key(
        'precision of the forward pass; float32 if not given', None, OURS
    )
    channels_last: Flag = key('use the memory format channels_last for weights and pictures', False, OURS)
    compile: (
        Annotated[
            Literal['default', 'reduce-overhead', 'max-autotune'], Kind('default or reduce-overhead or max-autotune')
        ]
        | None
    ) = key('mode of torch.compile; not compiled if not given', None, OURS)
    timeout: Seconds = key('seconds that a process waits for another process before the run stops', 1800)
    max_bad_steps: Count = key(
        'the run stops after this many steps in a row with a loss or gradient that is not finite', 10, OURS
    )


# -- the other sections -----------------------------------------------------------------------------------------------
class Paths(Section):
    root: Text | None = key('folder for experiments/ and results/; relative paths start from it', None)
    pretrain_network_g: Text | None = key('file of weights to start from', None)
    param_key_g: Text = key('key of the weights in the file', 'params')
    strict_load_g: Flag = key('all names and shapes in the file must match those of the network', True)
    pretrain_network_d: Text | None = key('file of weights to start from', None, GAN)
    param_key_d: Text = key('key of the weights in the file', 'params', GAN)
    strict_load_d: Flag = key('all names and shapes in the file must match those of the network', True, GAN)
    resume_state: Text | None = key('file of a saved state from which the run continues', None)
    ignore_resume_networks: Texts | None = key('networks whose weights are not loaded when the run is resumed', None)


class Metric(Registered):
    crop_border: Natural | None = key('number of pixels that are left out at each edge', None)
    test_y_channel: Flag | None = key('measure only the brightness (Y)', None)
    better: Annotated[Literal['higher', 'lower'], Kind('higher or lower')] | None = key(
        'whether higher or lower values are better; higher if not given', None
    )


class Val(Section):
    val_freq: Iterations | None = key('number of iterations between two validations; needed in training', None)
    save_img: Flag = key('save the resulting pictures')
    suffix: Text = key('suffix of the names of saved pictures; the name of the run if empty', '')
    pbar: Flag = key('show a progress bar', False)
    tile: Count | None = key(
        'side of the tiles into which pictures are split, in LR pixels; not split if not given', None, OURS
    )
    metrics: Annotated[dict[str, Metric], ByName] | None = key(
        'metrics, each under a name of your choice; the first decides which weights are best', None
    )


class Wandb(Section):
    project: Text | None = key('name of the project; nothing is logged there if not given', None)
    resume_id: Text | None = key('id of the run to continue', None)


class Logger(Section):
    print_freq: Iterations = key('number of iterations between two reports in the log')
    save_checkpoint_freq: Iterations = key('number of iterations between two checkpoints')
    keep_last: Count | None = key('number of checkpoints to keep; all if not given', None)
    keep_best: Flag = key('also save the weights with the best value of the first metric', False)
    use_tb_logger: Flag = key('log to TensorBoard')
    wandb: Wandb | None = key('log to Weights & Biases', None)


class Distribution(Section):
    backend: Text | None = key('backend of torch.distributed, with --launcher slurm', None)
    port: Count | None = key('port of the first process, with --launcher slurm', None)


class _Options(Degradation):
    name: Text = key('name of the run and of its folder')
    model_type: Text = key('model class: IAFMNetModel, or one of BasicSR')
    scale: Count = key('upscaling factor')
    num_gpu: GPUs = key('number of GPUs of one process; 0: the CPU')
    device: Annotated[Literal['mps'], Kind('~ or mps')] | None = key(
        'mps: use the GPU of a Mac; needs num_gpu: 0', None
    )
    manual_seed: Seed | None = key('random seed; needed in training', None)
    find_unused_parameters: Flag | None = key('let DistributedDataParallel look for weights that no loss trains', None)
    datasets: Annotated[dict[str, AnyDataset], ByName] = key(
        'a section for each dataset: train, val and val_* in training, test and test_* in a test'
    )
    network_g: Registered = key('the network: its type and the keywords of its constructor')
    network_d: Registered | None = key('the discriminator: its type and the keywords of its constructor', None, GAN)
    path: Paths = key('folders, and files of weights and states')
    train: Train | None = key('settings of the training; needed in training', None)
    val: Val | None = key('settings of the validation; needed in a test', None)
    logger: Logger | None = key('settings of log and checkpoints; needed in training', None)
    dist_params: Distribution | None = key('settings of distributed training', None)


# `import` is no name that a class body can have
_imported: dict[str, Any] = {
    'import': (Texts | None, key('your own packages, which register archs, losses, datasets or models', None))
}
Options: Any = create_model('Options', __base__=_Options, **_imported)


def section_class(name: str, cls: type[Section]) -> type[Section] | None:
    """The class of a key's section, or of each section in it; None for a key that is a value."""

    def classes(annotation: Any) -> Iterator[type[Section]]:
        # list[int] is a type as well, in Python 3.10
        if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        for part in get_args(annotation):
            yield from classes(part)

    return next(classes(cls.model_fields[name].annotation), None) if name in cls.model_fields else None


def sections(
    opt: dict[str, Any], cls: type[Section] = Options, where: str = ''
) -> Iterator[tuple[str, dict[str, Any], type[Section]]]:
    """Every section that an option file has: its path, its keys and its class."""
    yield where, opt, cls
    for name, value in opt.items():
        inner, path = section_class(name, cls), f'{where}.{name}'.lstrip('.')
        if inner is not None and isinstance(value, list):
            for number, entry in enumerate(entry for entry in value if isinstance(entry, dict)):
                yield from sections(entry, inner, f'{path}.{number}')
        if inner is None or not isinstance(value, dict):
            continue
        if path in ('datasets', 'val.metrics'):
            for entry in (entry for entry in value if isinstance(value[entry], dict)):
                kind = DATASETS.get(str(value[entry].get('type')), OtherDataset) if path == 'datasets' else inner
                yield from sections(value[entry], kind, f'{path}.{entry}')
        else:
            yield from sections(value, inner, path)


def readers(name: str, cls: type[Section]) -> list[str]:
    """Names of the model classes that read a key; none: all of them."""
    extra: Any = cls.model_fields[name].json_schema_extra if name in cls.model_fields else None
    return extra.get('read by', []) if extra else []
