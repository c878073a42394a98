"""What the page's server computes."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.figures import PALETTE, colour_levels, image_panel
from iafmsr.files.picture import Picture, UnreadableError, as_rgb8, as_tensor
from iafmsr.files.reading import picture_size, read
from iafmsr.files.writing import write
from iafmsr.layers.density import num_active, top_k_mask
from iafmsr.layers.idm import Maps
from iafmsr.nets.trained import TrainedNet
from iafmsr.ops.resize import imresize

__all__ = ['Enlarged', 'enlarge', 'idm_view', 'read_upload', 'save', 'sites_view', 'summary']

_LONGEST = 16384  # of a side: browsers show no longer pictures, and a strip of a million blocks the page
_MOST_PIXELS = 178_956_970  # Pillow's limit for files of strangers, whatever the command was told
_SHOWN = 960  # pixels: the longer side of the picture under a map
_BUDGET = Lock()  # of the net that all visitors share
_SHARE = 0.995  # of the map's values, over which its colours are spread


@dataclass(frozen=True)
class Enlarged:
    """A picture before and after.

    Attributes:
        name: without ending.
        source: the picture that was sent, as 8-bit RGB.
        sr: uint8 ``(3, s h, s w)``, RGB.
        idm: ``(1, 1, h, w)``, the information density map.
        k: share of the active sites.
        seconds: that the net took.
    """

    name: str
    source: Picture
    sr: Tensor
    idm: Tensor
    k: float
    seconds: float

    @property
    def scale(self) -> int:
        return self.sr.shape[1] // self.lr.shape[1]

    @property
    def lr(self) -> Tensor:
        """uint8 ``(3, h, w)``, RGB."""
        return as_tensor(self.source)

    @property
    def bicubic(self) -> Tensor:
        """uint8 ``(3, s h, s w)``, RGB."""
        return imresize(self.lr, self.scale)


def read_upload(path: Path, most_pixels: int) -> Picture:
    """A picture as 8-bit RGB, with its profile and resolution; its size is looked at before it is decoded.

    Raises:
        UserError: it is none, or has too many pixels.
    """
    most_pixels = min(most_pixels, _MOST_PIXELS)
    try:
        height, width = picture_size(path)
        if max(height, width) > _LONGEST:
            raise UserError(f'{path.name}: {width}x{height} pixels, sides of at most {_LONGEST} are taken here')
        if height * width > most_pixels:
            raise UserError(
                f'{path.name}: {width}x{height} pixels, at most {most_pixels / 1e6:g} MP are taken '
                'here; iafmsr upscale takes any size'
            )
        return as_rgb8(read(path))
    except UnreadableError as error:
        raise UserError(f'{path.name}: {error}') from None


def save(found: Enlarged, picture: Tensor, path: Path) -> None:
    """Write a picture, uint8 ``(3, H, W)`` RGB, with what was kept of the one that was sent.

    Raises:
        UserError: it cannot be written.
    """
    write(replace(found.source, colour=picture.permute(1, 2, 0).numpy()), path)


@torch.inference_mode()
def enlarge(trained: TrainedNet, name: str, source: Picture, k: float, budget: float = 1) -> Enlarged:
    """Enlarge a picture with the share k of its sites active, whatever share the net was trained with.

    The routed blocks, if the net has some, work at the share ``budget`` of the positions.

    Raises:
        UserError: the net fails, by memory mostly.
    """
    net: Any = trained.net
    lq = as_tensor(source)[None].float() / 255
    start = time.perf_counter()
    try:
        with _BUDGET:
            if getattr(net, 'num_routed', 0):
                net.budget = budget
            idm = net.density.maps(net.local_map(lq), lq).idm
            sr = net(lq, maps=Maps(idm, top_k_mask(idm, k)))
    except RuntimeError as error:
        raise UserError(f'{name}: {str(error).splitlines()[0]}') from None
    seconds = time.perf_counter() - start
    return Enlarged(name, source, (sr[0].clamp(0, 1) * 255).round().to(torch.uint8), idm, k, seconds)


def summary(found: Enlarged) -> str:
    """Sizes, time and sites in a line."""
    (height, width), (sr_height, sr_width) = found.lr.shape[1:], found.sr.shape[1:]
    active, threads = num_active(height, width, found.k), torch.get_num_threads()
    return (
        f'{width}x{height} → {sr_width}x{sr_height} in {found.seconds:.2f} s ({threads} '
        f'thread{"s" * (threads > 1)}) · {active:,} of {height * width:,} sites active'
    )


def idm_view(found: Enlarged) -> str:
    """HTML: the picture, the map over it, and the map's bar."""
    levels = colour_levels(found.idm[0, 0], _SHARE)
    low, high = levels.labels
    return _layers(found, Image.fromarray(PALETTE[levels.levels])) + (
        f'<div class="bar"><span>{low}</span><img src="{_source(Image.fromarray(PALETTE[None]))}" alt="">'
        f'<span>{high.replace(">", "&gt;")}</span></div>'
    )


def sites_view(found: Enlarged, k: float) -> str:
    """HTML: the picture, darkened where no site is active at the share k."""
    mask = top_k_mask(found.idm, k)[0, 0].numpy()
    shade = np.zeros((*mask.shape, 4), np.uint8)
    shade[~mask, 3] = 255
    return _layers(found, Image.fromarray(shade))


def _layers(found: Enlarged, over: Image.Image) -> str:
    picture = image_panel('', found.sr).image
    picture.thumbnail((_SHOWN, _SHOWN))
    return (
        f'<div class="layers"><img src="{_source(picture, "JPEG")}" alt="">'
        f'<img class="over" src="{_source(over)}" alt=""></div>'
    )


def _source(image: Image.Image, kind: str = 'PNG') -> str:
    content = io.BytesIO()
    image.save(content, kind)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}'
