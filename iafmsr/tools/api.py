"""The Python interface: :func:`load`, :func:`upscale` and :func:`density`, also available as ``iafmsr.NAME``."""

from __future__ import annotations

import argparse
import copy
import os
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from iafmsr.cli.arguments import exact_scale
from iafmsr.errors import UserError
from iafmsr.files.picture import Picture, UnreadableError, fill_hidden
from iafmsr.files.pillow import as_image, from_image
from iafmsr.files.reading import read
from iafmsr.nets.arithmetic import DTYPES
from iafmsr.nets.files import find_weights
from iafmsr.nets.in_engine import in_engine
from iafmsr.nets.loading import load_net
from iafmsr.nets.tiles import DEFAULT_TILE, Enlarger, is_exact
from iafmsr.nets.trained import TrainedNet, set_budget, trained
from iafmsr.tools.inference.upscale import Upscaler, resized

__all__ = ['density', 'load', 'upscale']

Weights = Union[str, 'os.PathLike[str]', nn.Module]
P = TypeVar('P', str, 'os.PathLike[str]', Image.Image, np.ndarray, Tensor)

DEFAULT = 'IAFMNet_x4'
_KINDS = ('uint8', 'uint16', 'float16', 'float32', 'float64')


def load(
    weights: str | os.PathLike[str] = DEFAULT, device: str | torch.device | None = None, *, engine: str = 'torch'
) -> nn.Module:
    """A network with its weights, in evaluation mode.

    Args:
        weights: a known name (``iafmsr weights`` lists them), a file of weights, an option file that names weights,
            the folder of a run, or a file written by ``iafmsr export``.
        device: device of the network; the CPU by default.
        engine: ``torch`` (a plain module, which can be trained), or ``openvino``, ``onnxruntime`` or ``auto`` as in
            :func:`upscale`: faster on a CPU, but only for inference.

    Returns:
        ``net(lq)``: (B, C, H, W) in [0, 1] -> (B, C, sH, sW).

    Raises:
        UserError: there are no such weights, their network is not known, or the engine cannot run it.

    Examples:
        >>> net = iafmsr.load('IAFMNet_x2')
        >>> net(torch.rand(1, 3, 8, 8)).shape
        torch.Size([1, 3, 16, 16])
    """
    found = _trained(weights)
    if engine != 'torch':
        found = in_engine(found, engine, _device(device or 'cpu'), say=_say)
    return found.net.requires_grad_().to(_device(device or 'cpu'))


def upscale(
    picture: P,
    weights: Weights = DEFAULT,
    *,
    device: str | torch.device | None = None,
    tile: int = DEFAULT_TILE,
    precision: str = 'fp32',
    budget: float | None = None,
    ensemble: bool = False,
    outscale: float | str | Fraction | None = None,
    engine: str | None = None,
) -> Any:
    """Enlarge a picture. The result has the type of the input; for a file it is a Pillow image.

    Args:
        picture: a file name or a Pillow image (colours have 8 bits in the result, and alpha is enlarged too); or an
            array (H, W[, 1 or 3]) or a tensor (C, H, W) or (B, C, H, W) of uint8, uint16, or floats in [0, 1].
        weights: as in :func:`load`, or a network, which is not changed.
        device: device to compute on. Default: that of ``weights`` if it is a network, else CUDA if available, else CPU.
        tile: side of the tiles in pixels; 0: the whole picture at once. The result is the same for an IAFMNet.
        precision: number format to compute in, ``fp32``, ``bf16`` or ``fp16``.
        budget: share of the positions at which the last blocks work, for a network trained with ``num_routed``.
        ensemble: take the mean over the eight flips and rotations.
        outscale: scale of the result, such as 2.5 or '7/3', to which the network's result is resized (bicubic).
        engine: see :func:`iafmsr.nets.in_engine.in_engine`. By default, a network that is given keeps its engine.

    Raises:
        UserError: the weights, the picture or a keyword is wrong, or there is not enough memory.

    Examples:
        >>> iafmsr.upscale(np.zeros((6, 9, 3), np.uint8)).shape
        (24, 36, 3)
        >>> iafmsr.upscale(Image.new('L', (9, 6)), iafmsr.load('IAFMNet_x3'), outscale=2.5).size
        (23, 15)
    """
    wanted, enlarger = _exact(outscale), _enlarger(weights, device, precision, budget, engine)
    if isinstance(picture, (np.ndarray, Tensor)):
        made, scale = _each(picture, lambda pixels: enlarger(pixels, tile, ensemble)), enlarger.trained.scale
        return made if wanted in (None, scale) else _each(made, lambda p: resized(p, Fraction(wanted or scale, scale)))
    return as_image(Upscaler(enlarger, tile, ensemble, say=lambda line: None, scale=wanted)(_picture(picture)))


def density(picture: P, weights: Weights = DEFAULT, *, device: str | torch.device | None = None) -> Any:
    """The information density map of a picture: how many bits a network expects each position to cost.

    Args:
        picture: as in :func:`upscale`.
        weights: as in :func:`upscale`.
        device: as in :func:`upscale`.

    Returns:
        An array (H, W); for a tensor (C, H, W) or (B, C, H, W), a tensor (1, H, W) or (B, 1, H, W). Both float32.

    Raises:
        UserError: the network has no such map; or see :func:`upscale`.

    Examples:
        >>> iafmsr.density(np.zeros((6, 9, 3), np.uint8)).shape
        (6, 9)
    """
    enlarger = _enlarger(weights, device, 'fp32', None, 'own')
    if not is_exact(enlarger.trained):
        raise UserError(f'{enlarger.trained.arch}: this network has no information density map')

    def map_of(pixels: np.ndarray) -> np.ndarray:
        return enlarger.maps(pixels)[0][0, 0, :, :, None].cpu().numpy()

    if isinstance(picture, Tensor):
        return _each(picture, map_of)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, map_of).reshape(picture.shape[:2])
    return map_of(fill_hidden(_picture(picture)).colour)[..., 0]


def _exact(scale: float | str | Fraction | None) -> Fraction | None:
    try:
        return None if scale is None else exact_scale(str(scale))
    except argparse.ArgumentTypeError as error:
        raise UserError(f'outscale {error}') from None


def _trained(weights: Weights) -> TrainedNet:
    """Of a network a copy: budget, device and mode of the user's own stay as they are."""
    if not isinstance(weights, nn.Module):
        return load_net(*find_weights(os.fspath(weights), option=''))
    own = next(weights.parameters(), None)
    net = weights if own is None else copy.deepcopy(weights).cpu()  # without parameters: onnxruntime's session
    return trained('weights', net, {'type': type(weights).__name__})


def _enlarger(
    weights: Weights, device: str | torch.device | None, precision: str, budget: float | None, engine: str | None
) -> Enlarger:
    if device is None and isinstance(weights, nn.Module):
        device = next((parameter.device for parameter in weights.parameters()), torch.device('cpu'))
    if precision not in DTYPES:
        raise UserError(f'precision {precision!r}: must be one of {", ".join(DTYPES)}')
    device = _device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    found = _trained(weights)
    set_budget(found.net, budget)
    if engine == 'own' or engine is None and isinstance(weights, nn.Module):
        engine = getattr(found.net, 'engine', 'torch')
    found = in_engine(found, engine, device, precision, _say)
    found.net.to(device)
    return Enlarger(found, device, DTYPES[precision])


def _say(line: str) -> None:
    warnings.warn(line, stacklevel=4)


def _device(device: str | torch.device) -> torch.device:
    there: dict[str, Callable[[], bool]]
    there = {'cpu': lambda: True, 'cuda': torch.cuda.is_available, 'mps': torch.backends.mps.is_available}
    try:
        device = torch.device(device)
    except RuntimeError:
        raise UserError(f'device {device!r}: must be one of {", ".join(there)}') from None
    if device.type in there and not there[device.type]():
        raise UserError(f'device {device}: this machine has no such GPU')
    return device


def _picture(picture: str | os.PathLike[str] | Image.Image) -> Picture:
    try:
        return from_image(picture) if isinstance(picture, Image.Image) else read(Path(picture))
    except UnreadableError as error:
        name = '' if isinstance(picture, Image.Image) else f'{os.fspath(picture)}: '
        raise UserError(f'{name}{error}') from None
    except TypeError:
        raise UserError(f'{type(picture).__name__}: must be a file, a Pillow image, an array or a tensor') from None


def _each(picture: Any, function: Any) -> Any:
    """A function of arrays (H, W, C) applied to an array, or to each picture of a tensor; the result on its device."""
    if isinstance(picture, np.ndarray):
        return _of_array(picture, function)
    if picture.dim() not in (3, 4):
        raise UserError(f'a tensor of shape {tuple(picture.shape)}: must be (C, H, W) or (B, C, H, W)')
    batch = picture.detach().cpu().reshape(-1, *picture.shape[-3:]).permute(0, 2, 3, 1)
    made = [torch.from_numpy(_of_array(np.ascontiguousarray(pixels.numpy()), function)) for pixels in batch]
    stacked = torch.stack([pixels.permute(2, 0, 1) for pixels in made]).to(picture.device)
    return stacked if picture.dim() == 4 else stacked[0]


def _of_array(pixels: np.ndarray, function: Any) -> np.ndarray:
    if pixels.dtype.name not in _KINDS:
        raise UserError(f'pixels of type {pixels.dtype}: must be one of {", ".join(_KINDS)}')
    if not (pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] in (1, 3)) or 0 in pixels.shape:
        raise UserError(f'pixels of shape {pixels.shape}: must be (H, W), (H, W, 1) or (H, W, 3)')
    made = function(pixels[..., None] if pixels.ndim == 2 else pixels)
    return made[..., 0] if pixels.ndim == 2 else made
