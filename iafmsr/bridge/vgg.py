"""The weights of a VGG, which BasicSR's perceptual loss downloads when a run has begun."""

from __future__ import annotations

from pathlib import Path

import torch

from iafmsr.bridge.basicsr_api import get_model_weights, vgg_arch
from iafmsr.errors import UserError

__all__ = ['check_vgg']


def check_vgg(vgg_type: str, layers: list[str], download: bool) -> None:
    """Finds out that BasicSR's feature extractor can be built.

    Args:
        vgg_type: as its keyword.
        layers: of which features are wanted.
        download: fetch the weights to torch's folder if this machine does not have them.

    Raises:
        UserError: an unknown VGG or layer, or weights that cannot be fetched.
    """
    names = vgg_arch.NAMES.get(vgg_type.removesuffix('_bn'))
    if names is None:
        raise UserError(f'vgg_type: {vgg_type!r} must be one of {", ".join(vgg_arch.NAMES)}')
    if vgg_type.endswith('_bn'):
        names = vgg_arch.insert_bn(names)
    unknown = [layer for layer in layers if layer not in names]
    if unknown:
        raise UserError(f'layer_weights: {unknown[0]!r} is not a layer of {vgg_type}')
    url = get_model_weights(vgg_type)['IMAGENET1K_V1'].url
    file = Path(torch.hub.get_dir(), 'checkpoints', url.rpartition('/')[2])
    if not download or file.is_file() or (vgg_type == 'vgg19' and Path(vgg_arch.VGG_PRETRAIN_PATH).is_file()):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), file.stem.rpartition('-')[2])
    except (OSError, RuntimeError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'the weights {url} cannot be downloaded ({reason}); put the file at {file}') from None
