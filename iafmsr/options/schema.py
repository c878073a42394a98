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
    milestones: Numbers | None = key('iterations at which the rate is multiplied by gamma', None)
    restarts: Numbers | None = key('iterations at which the schedule starts again', None)
    restart_weights: Numbers | None = key('weight of the rate in each period', None)


class Loss(Registered):
    pass


class ListedLoss(Loss):
    start_iter: Natural = key('first iteration of the loss', 0)


class Teacher(Section):
    weight: Positive = key("weight of the distance from the teacher's picture")
    until: Iterations | None = key('iteration at which the weight has fallen to 0', None)
    weights: Text | None = key("weights of the teacher's network; else datasets.train.dataroot_teacher is needed", None)


class Curriculum(Section):
    gt_size: Annotated[dict[Iterations, Count], Steps] | None = key('size of a patch of ground truth', None)
    k: Annotated[dict[Iterations, Annotated[float, Field(gt=0, le=1)]], Steps] | None = key(
        'share of active sites, in (0, 1]', None, OURS
    )


class Train(Section):
    total_iter: Iterations = key('iterations of the whole run')
    warmup_iter: Whole = key('iterations in which the rate rises from 0; -1 for none', -1)
    ema_decay: Share = key('decay of the moving average of the weights; 0 for no average', 0)
    optim_g: Optimizer = key(
        'optimizer of network_g: Adam; under IAFMNetModel also Muon, AdamW and others of torch.optim'
    )
    optim_d: Optimizer | None = key('optimizer of network_d', None, GAN)
    scheduler: Scheduler = key('learning rate over the iterations')
    pixel_opt: Loss | None = key('loss of the pixels; this, perceptual_opt or losses is needed', None)
    perceptual_opt: Loss | None = key("loss of a VGG's features", None)
    ie_opt: Loss | None = key('information entropy loss', None, OURS)
    fft_opt: Loss | None = key('loss of the spectra', None, OURS)
    losses: Annotated[list[ListedLoss], ListKind('a list of losses')] | None = key('further losses', None, OURS)
    teacher: Teacher | None = key('distillation', None, OURS)
    curriculum: Curriculum | None = key('what changes as the training goes on', None)
    gan_opt: Loss | None = key('adversarial loss', None, GAN)
    ldl_opt: Loss | None = key('locally discriminative loss', None, GAN)
    relativistic: Flag = key('network_d compares with the mean of the other kind', False, OURS_GAN)
    net_d_iters: Count = key('iterations of network_d for one of network_g', 1, GAN)
    net_d_init_iters: Natural = key('iterations of network_d before the first of network_g', 0, GAN)
    grad_clip: Positive | None = key('largest norm of the gradients; larger ones are made smaller', None, OURS)
    accumulate: Count = key('parts in which a batch goes through the network, to save memory', 1, OURS)
    autocast: Annotated[Literal['bf16', 'fp16'], Kind('bf16 or fp16')] | None = key(
        'precision of the forward pass; float32 where it is left out', None, OURS
    )
    channels_last: Flag = key('layout of weights and pictures in memory', False, OURS)
    compile: (
        Annotated[
            Literal['default', 'reduce-overhead', 'max-autotune'], Kind('default or reduce-overhead or max-autotune')
        ]
        | None
    ) = key('mode of torch.compile; not compiled where it is left out', None, OURS)
    timeout: Seconds = key('seconds that a process waits for another one before the run ends', 1800)
    max_bad_steps: Count = key(
        'steps in a row with a loss or gradient that is not finite, after which the run ends', 10, OURS
    )


# -- the other sections -----------------------------------------------------------------------------------------------
class Paths(Section):
    root: Text | None = key('folder with experiments/ and results/ of runs; relative paths count from it', None)
    pretrain_network_g: Text | None = key('weights to start from', None)
    param_key_g: Text = key('which weights of the file', 'params')
    strict_load_g: Flag = key('all names and shapes must agree', True)
    pretrain_network_d: Text | None = key('weights to start from', None, GAN)
    param_key_d: Text = key('which weights of the file', 'params', GAN)
    strict_load_d: Flag = key('all names and shapes must agree', True, GAN)
    resume_state: Text | None = key('state from which the run goes on', None)
    ignore_resume_networks: Texts | None = key('networks that keep their own weights on resuming', None)


class Metric(Registered):
    crop_border: Natural | None = key('pixels that are left out at each edge', None)
    test_y_channel: Flag | None = key('luma alone', None)
    better: Annotated[Literal['higher', 'lower'], Kind('higher or lower')] | None = key(
        'which value is better; higher where it is left out', None
    )


class Val(Section):
    val_freq: Iterations | None = key('iterations from one validation to the next; needed in training', None)
    save_img: Flag = key('keep the pictures')
    suffix: Text = key('ending of the names of kept pictures; the name of the run where it is empty', '')
    pbar: Flag = key('show a bar', False)
    tile: Count | None = key(
        'side of the tiles of large pictures, in LR pixels; whole where it is left out', None, OURS
    )
    metrics: Annotated[dict[str, Metric], ByName] | None = key(
        'metrics under names of your own; the first tells the best weights', None
    )


class Wandb(Section):
    project: Text | None = key('name of the project; no logging there where it is left out', None)
    resume_id: Text | None = key('run to go on with', None)


class Logger(Section):
    print_freq: Iterations = key('iterations from one report to the next')
    save_checkpoint_freq: Iterations = key('iterations from one checkpoint to the next')
    keep_last: Count | None = key('checkpoints that are kept; all where it is left out', None)
    keep_best: Flag = key('keep the weights with the best first metric', False)
    use_tb_logger: Flag = key('log to TensorBoard')
    wandb: Wandb | None = key('log to Weights & Biases', None)


class Distribution(Section):
    backend: Text | None = key("backend of torch.distributed, under Slurm's launcher", None)
    port: Count | None = key("port of the first process, under Slurm's launcher", None)


class _Options(Degradation):
    name: Text = key('name of the run and of its folder')
    model_type: Text = key('model class: IAFMNetModel, or one of BasicSR')
    scale: Count = key('HR is this many times LR')
    num_gpu: GPUs = key('GPUs of one process; 0 for the CPU')
    device: Annotated[Literal['mps'], Kind('~ or mps')] | None = key('mps: the GPU of a Mac, with num_gpu: 0', None)
    manual_seed: Seed | None = key('seed of all that is random; needed in training', None)
    find_unused_parameters: Flag | None = key('DistributedDataParallel looks for weights that no loss trains', None)
    datasets: Annotated[dict[str, AnyDataset], ByName] = key(
        'a section for each: train, val and val_* in training, test and test_* in a test'
    )
    network_g: Registered = key('network: keywords of its constructor')
    network_d: Registered | None = key('discriminator: keywords of its constructor', None, GAN)
    path: Paths = key('weights and states')
    train: Train | None = key('needed in training', None)
    val: Val | None = key('needed in a test', None)
    logger: Logger | None = key('needed in training', None)
    dist_params: Distribution | None = key('distributed training', None)


# `import` is no name that a class body can have
_imported: dict[str, Any] = {
    'import': (Texts | None, key('packages of your own, whose archs, losses, datasets and models are used', None))
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
