"""What the page's server computes."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from iafmsr.nets.trained import TrainedNet, to_gray
from iafmsr.ops.resize import imresize

__all__ = [
    'Enlarged',
    'Superseded',
    'Upload',
    'enlarge',
    'idm_view',
    'pixels_within',
    'read_upload',
    'reduced',
    'save',
    'sites_view',
    'summary',
]

_LONGEST = 16384  # of a side of the result: browsers show no longer pictures
_MOST_PIXELS = 178_956_970  # Pillow's limit for files of strangers, whatever the command was told
_TRIAL = 128  # pixels: side of the picture by which the net's speed is measured
_SHOWN = 960  # pixels: the longer side of the picture under a map
_BUDGET = Lock()  # of the net that all visitors share
_SHARE = 0.995  # of the map's values, over which its colours are spread


class Superseded(Exception):
    """A newer wish has come while a picture was computed."""


@dataclass(frozen=True)
class Upload:
    """A picture that was sent.

    Attributes:
        name: without ending.
        picture: 8-bit RGB, as it is enlarged.
        size: width and height of the file; larger than the picture's where that was made smaller.
    """

    name: str
    picture: Picture
    size: tuple[int, int]


@dataclass(frozen=True)
class Enlarged:
    """A picture before and after.

    Attributes:
        upload: what was sent.
        sr: uint8 ``(3, s h, s w)``, RGB.
        idm: ``(1, 1, h, w)``, the information density map.
        k: share of the active sites.
        seconds: that the net took.
    """

    upload: Upload
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
        return as_tensor(self.upload.picture)

    @property
    def bicubic(self) -> Tensor:
        """uint8 ``(3, s h, s w)``, RGB."""
        return imresize(self.lr, self.scale)


@torch.inference_mode()
def pixels_within(trained: TrainedNet, seconds: float) -> int:
    """How many pixels the net enlarges in a time on this machine, by the time that 128x128 take."""
    net: Any = trained.net
    lq = torch.rand(1, trained.channels, _TRIAL, _TRIAL, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(2):  # the first one also warms up
        start = time.perf_counter()
        net(lq)
        times.append(time.perf_counter() - start)
    return max(_TRIAL**2, round(_TRIAL**2 * seconds / min(times)))


def read_upload(path: Path, most_pixels: int, scale: int) -> Upload:
    """A picture as 8-bit RGB, with its profile and resolution.

    Its size is looked at before it is decoded. A picture of too many pixels for the page, or whose result would have
    too long a side for a browser, is made smaller.

    Raises:
        UserError: it is no picture, or has more pixels than any photograph.
    """
    try:
        height, width = picture_size(path)
        if height * width > _MOST_PIXELS:
            raise UserError(
                f'{path.name}: {width}x{height} pixels, but this page accepts at most {_MOST_PIXELS // 10**6} '
                'megapixels; iafmsr upscale accepts any size'
            )
        picture = as_rgb8(read(path))
    except UnreadableError as error:
        raise UserError(f'{path.name}: {error}') from None
    height, width = picture.colour.shape[:2]
    upload = Upload(path.stem, picture, (width, height))
    return reduced(upload, max(1, math.sqrt(height * width / most_pixels), scale * max(height, width) / _LONGEST))


def reduced(upload: Upload, factor: float) -> Upload:
    """A picture that many times as narrow and as low, by bicubic reduction."""
    if factor == 1:
        return upload
    height, width = upload.picture.colour.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = Image.fromarray(upload.picture.colour).resize(size, Image.Resampling.BICUBIC)
    return replace(upload, picture=replace(upload.picture, colour=np.array(small)))


def save(found: Enlarged, picture: Tensor, path: Path) -> None:
    """Write a picture, uint8 ``(3, H, W)`` RGB, with what was kept of the one that was sent; UserError if it cannot."""
    write(replace(found.upload.picture, colour=picture.permute(1, 2, 0).numpy()), path)


@torch.inference_mode()
def enlarge(
    trained: TrainedNet, upload: Upload, k: float, budget: float = 1, wanted: Callable[[], bool] = lambda: True
) -> Enlarged:
    """Enlarge a picture with the share k of its sites active, whatever share the net was trained with.

    The routed blocks, if the net has some, work at the share ``budget`` of the positions. ``wanted`` is asked before
    each block whether the result still is.

    Raises:
        Superseded: it is not.
        UserError: the net fails, by memory mostly.
    """
    net: Any = trained.net
    lq = as_tensor(upload.picture)[None].float() / 255
    lq = to_gray(lq) if trained.channels == 1 else lq
    try:
        with _BUDGET, _asking(net, wanted):
            start = time.perf_counter()
            if getattr(net, 'num_routed', 0):
                net.budget = budget
            idm, _ = net.maps(net.local_map(lq), lq)
            sr = net(lq, maps=(idm, top_k_mask(idm, k))).expand(-1, 3, -1, -1)
    except RuntimeError as error:
        raise UserError(f'{upload.name}: {str(error).splitlines()[0]}') from None
    seconds = time.perf_counter() - start
    return Enlarged(upload, (sr[0].clamp(0, 1) * 255).round().to(torch.uint8), idm, k, seconds)


@contextmanager
def _asking(net: Any, wanted: Callable[[], bool]) -> Iterator[None]:
    """A context in which each block of the net asks first, and raises :class:`Superseded` where the answer is no."""

    def ask(*_: Any) -> None:
        if not wanted():
            raise Superseded

    ask()
    handles = [block.register_forward_pre_hook(ask) for block in net.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def summary(found: Enlarged) -> str:
    """Sizes, time and sites in a line, and a note where the picture was made smaller first."""
    (height, width), (sr_height, sr_width) = found.lr.shape[1:], found.sr.shape[1:]
    active, threads = num_active(height, width, found.k), torch.get_num_threads()
    was = 'x'.join(map(str, found.upload.size))
    note = f' Reduced from {was} first, to save time; `iafmsr upscale` enlarges it in full size.'
    return (
        f'{width}x{height} → {sr_width}x{sr_height} in {found.seconds:.2f} s ({threads} '
        f'thread{"s" * (threads > 1)}) · {active:,} of {height * width:,} sites active.'
        + note
        * (found.upload.size != (width, height))
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
