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
    readonly: Flag | None = key('of an LMDB: open it for reading alone', None)
    lock: Flag | None = key('of an LMDB: lock it', None)
    readahead: Flag | None = key("of an LMDB: the system's read-ahead", None)
    server_list_cfg: Text | None = key('of memcached', None)
    client_cfg: Text | None = key('of memcached', None)
    sys_path: Text | None = key('of memcached', None)


class OtherDataset(Section):
    """A dataset of somebody else's: what BasicSR's loader reads of any."""

    model_config = ConfigDict(extra='allow')
    name: Text = key('name in logs and in folders of pictures')
    type: Annotated[Any, Field(json_schema_extra={'type': 'string'})] = key('class of the dataset')
    io_backend: Storage | None = key('where the pictures are', None)
    num_worker_per_gpu: Workers | None = key('workers that read for each GPU; needed for training', None)
    batch_size_per_gpu: Count | None = key('pictures in a batch of each GPU', None)
    total_batch_size: Count | None = key('pictures in a batch of all GPUs; wins over batch_size_per_gpu', None)
    dataset_enlarge_ratio: Count = key('an epoch has each picture so many times', 1)
    use_shuffle: Flag | None = key('taken and not read: training is always in random order', None)
    prefetch_mode: Annotated[Literal['cpu', 'cuda'], Kind('~, cpu or cuda')] | None = key('read a batch ahead', None)
    num_prefetch_queue: Count = key('batches that prefetch_mode: cpu reads ahead', 1)
    pin_memory: Flag = key('batches in page-locked memory', False)
    persistent_workers: Flag = key('workers stay from one epoch to the next', False)
    timeout: Seconds = key('seconds that a batch of the workers is waited for before the run ends', 1800)
    mean: Numbers | None = key('of each channel, subtracted', None)
    std: Numbers | None = key('of each channel, divided by', None)


class _Known(OtherDataset):
    model_config = ConfigDict(extra='forbid')
    io_backend: Storage = key('where the pictures are')


class _Patches(_Known):
    gt_size: Count | None = key('size of a patch of ground truth, in pixels; needed for training', None)
    use_hflip: Flag | None = key('flip at random; needed for training', None)
    use_rot: Flag | None = key('turn at random; needed for training', None)
    dataroot_gt: Folders = key('pictures of ground truth; a list in training by PairedSRDataset or OnTheFlyDataset')


class _Pairs(_Patches):
    dataroot_lq: Folders = key('pictures to be enlarged; as many as of dataroot_gt')
    filename_tmpl: Text = key("name of the LR picture, {} being the HR picture's", '{}')


class PairedImageDataset(_Pairs):
    """BasicSR's pairs, in training and validation."""

    meta_info_file: Text | None = key('list of names; all pictures of the folder where it is left out', None)
    color: Annotated[Literal['y'], Kind('~ or y')] | None = key('luma alone', None)


class _Ours(Section):
    max_unreadable: Share = key('share of unreadable pictures above which the run ends', 0.01)
    in_memory: Memory | None = key('keep the whole set in memory', None)
    colour_augment: Share = key('probability that a patch gets other colours', 0)
    synthetic: Share = key('probability that a synthetic patch takes the place of one', 0)
    mixup: Share = key('probability that a patch is the mean with another one, at random weights', 0)
    cutmix: Share = key('probability that a rectangle of a patch is from another one', 0)
    picture_weights: Text | None = key(
        'how often a picture is drawn: `gradient`, by its mean gradient; weights of a network (`.pth`), by its mean '
        'density; or a file with a line `NAME WEIGHT` for each',
        None,
    )
    bit_depth: Annotated[Literal[8, 16], Kind('8 or 16')] = key('bits of each channel that are used', 8)


class PairedSRDataset(_Ours, PairedImageDataset):
    """Pairs for training: an order that depends on the seed alone, and unreadable pictures are replaced."""

    dataroot_teacher: Folders | None = key("LMDBs of a teacher's pictures, for train.teacher", None)


class OnTheFlyDataset(_Ours, _Patches):
    """HR pictures alone; LR patches are made as they are drawn."""

    cache_mib: Natural = key('memory for decoded pictures in each process, in MiB', 4096)


class RealESRGANPairedDataset(_Pairs):
    """BasicSR's pairs for Real-ESRGAN."""

    meta_info: Text | None = key('list of HR and LR names', None)


class SingleImageDataset(_Known):
    """BasicSR's LR pictures without ground truth, in a test."""

    dataroot_lq: Folder = key('pictures to be enlarged')
    meta_info_file: Text | None = key('list of names; all pictures of the folder where it is left out', None)
    color: Annotated[Literal['y'], Kind('~ or y')] | None = key('luma alone', None)


class RealESRGANDataset(_Patches):
    """BasicSR's HR pictures with kernels of blur, for the models of Real-ESRGAN."""

    meta_info: Text | None = key('list of names', None)
    blur_kernel_size: Count | None = key('size of the first kernel', None)
    kernel_list: Texts | None = key('kinds of kernels', None)
    kernel_prob: Numbers | None = key('their probabilities', None)
    blur_sigma: Numbers | None = key('standard deviation of the first blur', None)
    betag_range: Numbers | None = key('shape of generalised Gaussian kernels', None)
    betap_range: Numbers | None = key('shape of plateau kernels', None)
    sinc_prob: Number | None = key('probability of a sinc kernel', None)
    blur_kernel_size2: Count | None = key('as blur_kernel_size, second round', None)
    kernel_list2: Texts | None = key('as kernel_list, second round', None)
    kernel_prob2: Numbers | None = key('as kernel_prob, second round', None)
    blur_sigma2: Numbers | None = key('as blur_sigma, second round', None)
    betag_range2: Numbers | None = key('as betag_range, second round', None)
    betap_range2: Numbers | None = key('as betap_range, second round', None)
    sinc_prob2: Number | None = key('as sinc_prob, second round', None)
    final_sinc_prob: Number | None = key('probability of a sinc kernel at the end', None)


class Degradation(Section):
    """The second-order degradation of Real-ESRGAN, whose keys stand at the top level."""

    high_order_degradation: Flag | None = key('degrade on the fly', None, REAL)
    gt_usm: Flag | None = key('sharpen the ground truth', None, REAL[:1])
    l1_gt_usm: Flag | None = key('sharpen the ground truth of the pixel loss', None, REAL[1:])
    percep_gt_usm: Flag | None = key('sharpen the ground truth of the perceptual loss', None, REAL[1:])
    gan_gt_usm: Flag | None = key('sharpen the ground truth of the adversarial loss', None, REAL[1:])
    queue_size: Count | None = key('pictures in the pool that batches are drawn from', None, REAL)
    gt_size: Count | None = key('size of a patch of ground truth', None, REAL)
    resize_prob: Numbers | None = key('probabilities of enlarging, reducing, keeping', None, REAL)
    resize_range: Numbers | None = key('least and greatest factor', None, REAL)
    gaussian_noise_prob: Number | None = key('probability of Gaussian rather than Poisson noise', None, REAL)
    noise_range: Numbers | None = key('standard deviation of Gaussian noise', None, REAL)
    poisson_scale_range: Numbers | None = key('scale of Poisson noise', None, REAL)
    gray_noise_prob: Number | None = key('probability of gray noise', None, REAL)
    jpeg_range: Numbers | None = key('quality of JPEG', None, REAL)
    second_blur_prob: Number | None = key('probability of a second blur', None, REAL)
    resize_prob2: Numbers | None = key('as resize_prob, second round', None, REAL)
    resize_range2: Numbers | None = key('as resize_range, second round', None, REAL)
    gaussian_noise_prob2: Number | None = key('as gaussian_noise_prob, second round', None, REAL)
    noise_range2: Numbers | None = key('as noise_range, second round', None, REAL)
    poisson_scale_range2: Numbers | None = key('as poisson_scale_range, second round', None, REAL)
    gray_noise_prob2: Number | None = key('as gray_noise_prob, second round', None, REAL)
    jpeg_range2: Numbers | None = key('as jpeg_range, second round', None, REAL)


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
