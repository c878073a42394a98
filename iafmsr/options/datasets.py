"""The keys of a dataset's section, for each class of dataset."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from iafmsr.options.kinds import (
    Count,
    Flag,
    Folder,
    Folders,
    Kind,
    Natural,
    Number,
    Numbers,
    Seconds,
    Section,
    Share,
    Text,
    Texts,
    Workers,
    key,
)

Memory = Annotated[Literal['host', 'gpu'], Kind('~, host or gpu')]

REAL = ('RealESRNetModel', 'RealESRGANModel')  # the models that degrade on the fly


class Storage(Section):
    type: Annotated[Literal['disk', 'lmdb', 'memcached'], Kind('disk, lmdb or memcached')] = key(
        'a folder of pictures, an LMDB, or a memcached server'
    )
    readonly: Flag | None = key('for an LMDB: open it read-only', None)
    lock: Flag | None = key('for an LMDB: lock it', None)
    readahead: Flag | None = key('for an LMDB: let the system read ahead', None)
    server_list_cfg: Text | None = key('for memcached: file with the list of servers', None)
    client_cfg: Text | None = key('for memcached: configuration file of the client', None)
    sys_path: Text | None = key("for memcached: folder that is added to Python's path", None)


class OtherDataset(Section):
    """A dataset of another package: the keys that BasicSR's loader reads for every dataset."""

    model_config = ConfigDict(extra='allow')
    name: Text = key('name in logs, and of the folders of saved pictures')
    type: Annotated[Any, Field(json_schema_extra={'type': 'string'})] = key('class of the dataset')
    io_backend: Storage | None = key('where the pictures are', None)
    num_worker_per_gpu: Workers | None = key('number of data workers for each GPU; needed for training', None)
    batch_size_per_gpu: Count | None = key('number of pictures in the batch of each GPU', None)
    total_batch_size: Count | None = key('number of pictures in a batch of all GPUs; replaces batch_size_per_gpu', None)
    dataset_enlarge_ratio: Count = key('how many times an epoch uses each picture', 1)
    use_shuffle: Flag | None = key('accepted, but not used: training is always in random order', None)
    prefetch_mode: Annotated[Literal['cpu', 'cuda'], Kind('~, cpu or cuda')] | None = key(
        'read batches in advance', None
    )
    num_prefetch_queue: Count = key('number of batches that prefetch_mode: cpu reads in advance', 1)
    pin_memory: Flag = key('put batches into page-locked memory', False)
    persistent_workers: Flag = key('keep the data workers from one epoch to the next', False)
    timeout: Seconds = key('seconds to wait for a batch of the data workers before the run stops', 1800)
    mean: Numbers | None = key('value that is subtracted from each channel', None)
    std: Numbers | None = key('value by which each channel is divided', None)


class _Known(OtherDataset):
    model_config = ConfigDict(extra='forbid')
    io_backend: Storage = key('where the pictures are')


class _Patches(_Known):
    gt_size: Count | None = key('side of a ground-truth patch, in pixels; needed for training', None)
    use_hflip: Flag | None = key('flip patches at random; needed for training', None)
    use_rot: Flag | None = key('rotate patches at random; needed for training', None)
    dataroot_gt: Folders = key('ground-truth pictures; PairedSRDataset and OnTheFlyDataset take a list in training')


class _Pairs(_Patches):
    dataroot_lq: Folders = key('pictures to be enlarged, one for each picture of dataroot_gt')
    filename_tmpl: Text = key('name of an LR picture; {} stands for the name of its HR picture', '{}')


class PairedImageDataset(_Pairs):
    """BasicSR's pairs, in training and validation."""

    meta_info_file: Text | None = key('file with the names to use; all pictures of the folder if not given', None)
    color: Annotated[Literal['y'], Kind('~ or y')] | None = key('y: use only the brightness', None)


class _Ours(Section):
    max_unreadable: Share = key('share of unreadable pictures above which the run stops', 0.01)
    in_memory: Memory | None = key('keep the whole dataset in the memory of the host or the GPU', None)
    colour_augment: Share = key('probability that the colours of a patch are changed', 0)
    synthetic: Share = key('probability that a patch is replaced by a synthetic patch', 0)
    mixup: Share = key('probability that a patch is averaged with another patch, with random weights', 0)
    cutmix: Share = key('probability that a rectangle of a patch is replaced by one of another patch', 0)
    picture_weights: Text | None = key(
        'how often each picture is used: `gradient` (in proportion to its mean gradient), weights of a network '
        '(`.pth`, in proportion to its mean density), or a file with a line `NAME WEIGHT` for each picture',
        None,
    )
    bit_depth: Annotated[Literal[8, 16], Kind('8 or 16')] = key('number of bits of each channel that are used', 8)


class PairedSRDataset(_Ours, PairedImageDataset):
    """Pairs for training: their order depends only on the seed, and unreadable pictures are replaced."""

    dataroot_teacher: Folders | None = key("LMDBs of a teacher's pictures, for train.teacher", None)


class OnTheFlyDataset(_Ours, _Patches):
    """Only HR pictures; LR patches are made when they are needed."""

    cache_mib: Natural = key('memory for decoded pictures in each process, in MiB', 4096)


class RealESRGANPairedDataset(_Pairs):
    """BasicSR's pairs of pictures for Real-ESRGAN."""

    meta_info: Text | None = key('file with the names of HR and LR pictures', None)


class SingleImageDataset(_Known):
    """BasicSR's LR pictures without ground truth, in a test."""

    dataroot_lq: Folder = key('pictures to be enlarged')
    meta_info_file: Text | None = key('file with the names to use; all pictures of the folder if not given', None)
    color: Annotated[Literal['y'], Kind('~ or y')] | None = key('y: use only the brightness', None)


class RealESRGANDataset(_Patches):
    """BasicSR's HR pictures with blur kernels, for the models of Real-ESRGAN."""

    meta_info: Text | None = key('file with the names of the pictures', None)
    blur_kernel_size: Count | None = key('size of the kernel of the first blur', None)
    kernel_list: Texts | None = key('kinds of kernels of the first blur', None)
    kernel_prob: Numbers | None = key('probability of each kind in kernel_list', None)
    blur_sigma: Numbers | None = key('range of the standard deviation of the first blur', None)
    betag_range: Numbers | None = key('range of the shape parameter of generalised Gaussian kernels', None)
    betap_range: Numbers | None = key('range of the shape parameter of plateau kernels', None)
    sinc_prob: Number | None = key('probability of a sinc kernel in the first blur', None)
    blur_kernel_size2: Count | None = key('like blur_kernel_size, for the second blur', None)
    kernel_list2: Texts | None = key('like kernel_list, for the second blur', None)
    kernel_prob2: Numbers | None = key('like kernel_prob, for the second blur', None)
    blur_sigma2: Numbers | None = key('like blur_sigma, for the second blur', None)
    betag_range2: Numbers | None = key('like betag_range, for the second blur', None)
    betap_range2: Numbers | None = key('like betap_range, for the second blur', None)
    sinc_prob2: Number | None = key('like sinc_prob, for the second blur', None)
    final_sinc_prob: Number | None = key('probability of a sinc kernel at the end', None)


class Degradation(Section):
    """The second-order degradation of Real-ESRGAN. Its keys are at the top level of the option file."""

    high_order_degradation: Flag | None = key(
        'make LR pictures during the training, by degrading HR pictures', None, REAL
    )
    gt_usm: Flag | None = key('sharpen the ground truth', None, REAL[:1])
    l1_gt_usm: Flag | None = key('sharpen the ground truth of the pixel loss', None, REAL[1:])
    percep_gt_usm: Flag | None = key('sharpen the ground truth of the perceptual loss', None, REAL[1:])
    gan_gt_usm: Flag | None = key('sharpen the ground truth of the adversarial loss', None, REAL[1:])
    queue_size: Count | None = key('number of pictures in the pool from which batches are drawn', None, REAL)
    gt_size: Count | None = key('side of a ground-truth patch, in pixels', None, REAL)
    resize_prob: Numbers | None = key('probabilities of enlarging, reducing and keeping the size', None, REAL)
    resize_range: Numbers | None = key('smallest and largest factor of the resizing', None, REAL)
    gaussian_noise_prob: Number | None = key('probability of Gaussian rather than Poisson noise', None, REAL)
    noise_range: Numbers | None = key('range of the standard deviation of Gaussian noise', None, REAL)
    poisson_scale_range: Numbers | None = key('range of the scale of Poisson noise', None, REAL)
    gray_noise_prob: Number | None = key('probability of gray noise', None, REAL)
    jpeg_range: Numbers | None = key('range of the JPEG quality', None, REAL)
    second_blur_prob: Number | None = key('probability of a second blur', None, REAL)
    resize_prob2: Numbers | None = key('like resize_prob, for the second degradation', None, REAL)
    resize_range2: Numbers | None = key('like resize_range, for the second degradation', None, REAL)
    gaussian_noise_prob2: Number | None = key('like gaussian_noise_prob, for the second degradation', None, REAL)
    noise_range2: Numbers | None = key('like noise_range, for the second degradation', None, REAL)
    poisson_scale_range2: Numbers | None = key('like poisson_scale_range, for the second degradation', None, REAL)
    gray_noise_prob2: Number | None = key('like gray_noise_prob, for the second degradation', None, REAL)
    jpeg_range2: Numbers | None = key('like jpeg_range, for the second degradation', None, REAL)


DATASETS: dict[str, type[OtherDataset]] = {
    cls.__name__: cls
    for cls in (
        PairedSRDataset,
        OnTheFlyDataset,
        PairedImageDataset,
        SingleImageDataset,
        RealESRGANPairedDataset,
        RealESRGANDataset,
    )
}


def _tag(dataset: Any) -> str:
    name = dataset.get('type') if isinstance(dataset, dict) else getattr(dataset, 'type', None)
    return name if isinstance(name, str) and name in DATASETS else 'other'


AnyDataset = Annotated[
    Annotated[PairedSRDataset, Tag('PairedSRDataset')]
    | Annotated[OnTheFlyDataset, Tag('OnTheFlyDataset')]
    | Annotated[PairedImageDataset, Tag('PairedImageDataset')]
    | Annotated[SingleImageDataset, Tag('SingleImageDataset')]
    | Annotated[RealESRGANPairedDataset, Tag('RealESRGANPairedDataset')]
    | Annotated[RealESRGANDataset, Tag('RealESRGANDataset')]
    | Annotated[OtherDataset, Tag('other')],
    Discriminator(_tag),
]
