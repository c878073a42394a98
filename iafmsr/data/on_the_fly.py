"""Training pairs from HR pictures only: LR is made when a patch is drawn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from iafmsr.bridge.basicsr_api import DATASET_REGISTRY
from iafmsr.data.augmentation import Augmentation
from iafmsr.data.hr_sources import folder_sources, lmdb_sources, warn
from iafmsr.data.parallel import in_order
from iafmsr.data.reading import read_or_replace, roots
from iafmsr.data.sampling import Patch, gt_size_of, random_patch, sample_random
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.files.picture import UnreadableError
from iafmsr.ops.resize import at_scale, imresize, mod_crop

__all__ = ['OnTheFlyDataset', 'lr_patch']

_REACH = 2  # LR pixels beyond a patch on which its values depend: the cubic kernel is four wide


@DATASET_REGISTRY.register()
class OnTheFlyDataset(Dataset[dict[str, Any]]):
    """Pairs for training (random patches) or validation (whole pictures) from a folder or an LMDB of HR pictures.

    LR is what preparation would have stored: the patch of the *whole* picture's standard LR, bit for bit. Only the
    patch and the two LR pixels around it are resized, since no more of the picture takes part in it. Patches lie on the
    scale's grid; which one and how it is turned is a function of seed, epoch and index (:mod:`iafmsr.data.sampling`).

    Decoding is what takes time. At the start as many pictures as fit into ``cache_mib`` are decoded once and for all
    (uint8), for all data workers of a process together; others are decoded whenever they are drawn.

    Pictures that are too small and files that are no pictures are left out, by name in the log; in place of one that
    proves broken when it is decoded, another is taken.

    Args:
        opt (dict): options of the dataset. ``scale`` and ``phase`` come from BasicSR.

            * dataroot_gt (str | list[str]): folder of pictures, or LMDB whose name ends in ``.lmdb``; or several.
            * io_backend (dict): ``type: disk`` or ``lmdb``.
            * gt_size (int), use_hflip (bool), use_rot (bool): HR patch and how it is turned, for training.
            * cache_mib (int): memory for decoded pictures, in each process of a run; 4096 by default.
            * in_memory (str): the whole set in memory instead, see :mod:`iafmsr.data.in_memory`.
            * bit_depth (int): 8, or 16: all bits of 16-bit pictures; LR is then rounded to 16 bits.
            * colour_augment, synthetic (float): for training, see :class:`~iafmsr.data.augmentation.Augmentation`.
            * max_unreadable (float): share of pictures that may be unreadable before the run stops (0.01).

    Raises:
        UserError: no pictures, none that is large enough, or a patch that is no multiple of the scale.
    """

    sides = ('lq', 'gt')

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__()
        self.opt, self.scale, self.training = opt, opt['scale'], opt['phase'] == 'train'
        list_sources = lmdb_sources if opt['io_backend']['type'] == 'lmdb' else folder_sources
        folders, deep = roots(opt, 'dataroot_gt'), opt.get('bit_depth') == 16
        sources = [source for folder in folders for source in list_sources(Path(folder), deep)]
        least = opt['gt_size'] if self.training else self.scale
        if self.training and least % self.scale:
            raise UserError(f'gt_size: {least} is no multiple of the scale, {self.scale}')
        self.sources = [s for s in sources if min(s.size) // self.scale * self.scale >= least]
        for source in sources:
            if min(source.size) // self.scale * self.scale < least:
                warn(f'{source.name}: left out, {source.size[1]}x{source.size[0]} is too small for {least} pixels')
        if not self.sources:
            raise UserError(f'{printable(Path(folders[0]))}: no picture is large enough for patches of {least}')
        self.augmentation = Augmentation.of(opt)
        self.cached: dict[int, Tensor] = {}
        if self.training and not opt.get('in_memory'):
            self._fill_cache(opt.get('cache_mib', 4096) * 2**20 // (4 if deep else 1))  # float32 takes four bytes

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``lq`` (3, h, w) and ``gt`` (3, s h, s w), float32 RGB in [0, 1], with ``lq_path`` and ``gt_path``; in
        training ``unreadable`` too (:func:`~iafmsr.data.reading.read_or_replace`).

        Raises:
            UserError: the picture of a validation, or many in a row of a training, cannot be read.
        """
        if self.training:
            return read_or_replace(index, len(self), self.draw)
        source = self.sources[index]
        try:
            hr = mod_crop(source.read(), self.scale)
        except UnreadableError as error:
            raise UserError(str(error)) from None
        return _pair(as_stored(at_scale(hr, self.scale)), hr, source.name)

    def draw(self, index: int) -> dict[str, Any]:
        """The pair of patches of one draw.

        Raises:
            UnreadableError: the picture cannot be read.
        """
        source = self.sources[index]
        hr = self.cached[index] if index in self.cached else mod_crop(source.read(), self.scale)
        patch = self.patch(index, *(side // self.scale for side in hr.shape[-2:]))
        lq = lr_patch(hr, self.scale, patch.top, patch.left, patch.size)
        patches = {
            'lq': replace(patch, top=0, left=0).cut(lq.permute(1, 2, 0)).permute(2, 0, 1),
            'gt': patch.cut(hr.permute(1, 2, 0), self.scale).permute(2, 0, 1),
        }
        return _pair(name=source.name, **(patches | self.augmentation.changed(index, patches)))

    def patch(self, index: int, height: int, width: int) -> Patch:
        """Where the patch of a draw lies in an LR picture of this size."""
        return random_patch(
            sample_random(index),
            height,
            width,
            gt_size_of(index, self.opt['gt_size']) // self.scale,
            self.opt['use_hflip'],
            self.opt['use_rot'],
        )

    def lr_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each LR picture."""
        return [(height // self.scale, width // self.scale) for height, width in (s.size for s in self.sources)]

    def read_pictures(self, index: int) -> dict[str, Tensor]:
        """The whole LR and HR picture, ``lq`` and ``gt``, uint8 (h, w, 3) and (s h, s w, 3).

        Raises:
            UnreadableError: the picture cannot be read.
        """
        hr = mod_crop(self.sources[index].read(), self.scale)
        return {'lq': at_scale(hr, self.scale).permute(1, 2, 0), 'gt': hr.permute(1, 2, 0)}

    def reading(self) -> AbstractContextManager[None]:
        """Nothing has to be opened for :meth:`read_pictures`."""
        return nullcontext()

    def names(self, index: int) -> dict[str, str]:
        """``lq_path`` and ``gt_path`` of a picture."""
        return dict.fromkeys(('lq_path', 'gt_path'), self.sources[index].name)

    def _fill_cache(self, size: int) -> None:
        """Decode pictures in their order until the memory is full."""
        chosen, total = [], 0
        for number, source in enumerate(self.sources):
            total += 3 * source.size[0] * source.size[1]
            if total > size:
                break
            chosen.append(number)

        def read(number: int) -> Tensor | None:
            try:
                return mod_crop(self.sources[number].read(), self.scale).contiguous()
            except UnreadableError:
                return None  # named when it is drawn

        pictures = tqdm(in_order(read, chosen), 'pictures into memory', len(chosen), disable=None, leave=False)
        self.cached = {number: picture for number, picture in zip(chosen, pictures, strict=True) if picture is not None}


def _pair(lq: Tensor, gt: Tensor, name: str) -> dict[str, Any]:
    return {'lq': lq.contiguous().float() / 255, 'gt': gt.contiguous().float() / 255, 'lq_path': name, 'gt_path': name}


def lr_patch(hr: Tensor, scale: int, top: int, left: int, size: int) -> Tensor:
    """A patch of the standard LR of a whole picture.

    Args:
        hr: (3, H, W), H and W multiples of the scale; uint8, or float32 in [0, 255].
        scale: of super-resolution.
        top, left, size: of the patch, in LR pixels.

    Returns:
        (3, size, size) of the same type, equal to that part of ``imresize(hr, Fraction(1, scale))``.
    """
    rows, columns = (
        (max(0, start - _REACH), min(side // scale, start + size + _REACH))
        for start, side in ((top, hr.shape[-2]), (left, hr.shape[-1]))
    )
    region = hr[:, rows[0] * scale : rows[1] * scale, columns[0] * scale : columns[1] * scale]
    lr = as_stored(imresize(region, Fraction(1, scale)))
    return lr[:, top - rows[0] : top - rows[0] + size, left - columns[0] : left - columns[0] + size]


def as_stored(lr: Tensor) -> Tensor:
    """LR as a file keeps it: uint8 as it is; float32 in levels of 8 bits rounded to 16 bits, within [0, 255]."""
    return lr if lr.dtype == torch.uint8 else (257 * lr).round().clamp(0, 65535) / 257
