"""BasicSR, cured and with what is here in its registries: the one module through which the project takes it.

BasicSR 1.4.2 and torchvision cannot be imported beside a current stack before they are cured (`iafmsr.bridge.importing`
and `iafmsr.bridge.compat`). So every module takes from here what it uses of them, and whichever of them is imported
first finds it cured. What this project puts into BasicSR is put there at the end, when all names are there: its modules
import this one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from iafmsr import bridge
from iafmsr.bridge import compat, importing, launching
from iafmsr.errors import UserError

_WAY = "pip install 'iafmsr[train]', then pip install --no-build-isolation --no-deps basicsr"
if find_spec('basicsr') is None:
    raise UserError(f'BasicSR is not installed, and training needs it: {_WAY}')


@contextmanager
def _missing_named() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f'BasicSR needs {error.name}, which is not installed: {_WAY}') from error


with _missing_named():
    importing.prepare_import()
    import basicsr  # noqa: F401

from basicsr.archs import build_network, vgg_arch  # noqa: E402
from basicsr.archs.edsr_arch import EDSR  # noqa: E402
from basicsr.archs.vgg_arch import VGGFeatureExtractor  # noqa: E402
from basicsr.data import build_dataloader, build_dataset  # noqa: E402
from basicsr.data.data_sampler import EnlargedSampler  # noqa: E402
from basicsr.data.paired_image_dataset import PairedImageDataset  # noqa: E402
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher  # noqa: E402
from basicsr.losses import build_loss  # noqa: E402
from basicsr.losses.loss_util import get_refined_artifact_map  # noqa: E402
from basicsr.metrics.psnr_ssim import _ssim_pth as ssim  # noqa: E402
from basicsr.models import build_model  # noqa: E402
from basicsr.models.base_model import BaseModel  # noqa: E402
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR  # noqa: E402
from basicsr.models.realesrgan_model import RealESRGANModel  # noqa: E402
from basicsr.models.realesrnet_model import RealESRNetModel  # noqa: E402
from basicsr.models.sr_model import SRModel  # noqa: E402
from basicsr.models.srgan_model import SRGANModel  # noqa: E402
from basicsr.utils import (  # noqa: E402
    AvgTimer,
    FileClient,
    MessageLogger,
    bgr2ycbcr,
    check_resume,
    get_env_info,
    get_root_logger,
    get_time_str,
    init_tb_logger,
    init_wandb_logger,
    make_exp_dirs,
    mkdir_and_rename,
    options,
)
from basicsr.utils.dist_util import master_only  # noqa: E402
from basicsr.utils.registry import (  # noqa: E402
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from torchvision.models import get_model_weights  # noqa: E402
from torchvision.transforms.functional import normalize  # noqa: E402

__all__ = [
    'ARCH_REGISTRY',
    'DATASET_REGISTRY',
    'EDSR',
    'LOSS_REGISTRY',
    'METRIC_REGISTRY',
    'MODEL_REGISTRY',
    'AvgTimer',
    'BaseModel',
    'CPUPrefetcher',
    'CUDAPrefetcher',
    'CosineAnnealingRestartLR',
    'EnlargedSampler',
    'FileClient',
    'MessageLogger',
    'MultiStepRestartLR',
    'PairedImageDataset',
    'RealESRGANModel',
    'RealESRNetModel',
    'SRGANModel',
    'SRModel',
    'VGGFeatureExtractor',
    'bgr2ycbcr',
    'build_dataloader',
    'build_dataset',
    'build_loss',
    'build_model',
    'build_network',
    'check_resume',
    'get_env_info',
    'get_model_weights',
    'get_refined_artifact_map',
    'get_root_logger',
    'get_time_str',
    'init_tb_logger',
    'init_wandb_logger',
    'make_exp_dirs',
    'master_only',
    'mkdir_and_rename',
    'normalize',
    'options',
    'ssim',
    'vgg_arch',
]

compat.apply()
launching.apply()
with _missing_named():
    bridge.wire()
