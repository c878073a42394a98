"""Pairs of pictures for training, from LMDBs or folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch

from iafmsr.basicsr_api import DATASET_REGISTRY, FileClient, PairedImageDataset, bgr2ycbcr, normalize
from iafmsr.data.augmentation import Augmentation
from iafmsr.data.pictures import UnreadableError, picture_size
from iafmsr.data.reading import read_or_replace
from iafmsr.data.sampling import Patch, random_patch, sample_random
from iafmsr.data.stores import META_LINE
from iafmsr.errors import UserError


@DATASET_REGISTRY.register()
class PairedSRDataset(PairedImageDataset):
    """BasicSR's PairedImageDataset, for training, with the same options and three differences.

    Crops and flips are functions of the draw (:mod:`iafmsr.data.sampling`); pictures are in the order of their names
    rather than of the file system; one that cannot be read is replaced (:func:`~iafmsr.data.reading.read_or_replace`).

    Args:
        opt (dict): as for PairedImageDataset, and ``max_unreadable``: the share of pictures that may be unreadable
            before the run stops (0.01); ``in_memory``: the whole set in memory, see :mod:`iafmsr.data.in_memory`;
            ``colour_augment`` and ``synthetic``: see :class:`~iafmsr.data.augmentation.Augmentation`.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.paths.sort(key=lambda pair: pair['gt_path'])
        self.augmentation = Augmentation.of(opt)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``lq`` (C, h, w) and ``gt`` (C, H, W), float32 RGB in [0, 1], with ``lq_path``, ``gt_path``, ``unreadable``.

        Raises:
            UserError: many pictures in a row cannot be read.
        """
        return read_or_replace(index, len(self), self.sample)

    def sample(self, index: int) -> dict[str, Any]:
        """The patch of one draw, as above.

        Raises:
            UnreadableError: one of the two pictures cannot be read, or they do not fit together.
        """
        lq, gt = self.read_pair(index)
        patch = self.patch(index, *lq.shape[:2])
        patches = {key: patch.cut(picture, scale).permute(2, 0, 1)
                   for key, picture, scale in (('lq', lq, 1), ('gt', gt, self.opt['scale']))}
        patches |= self.augmentation.changed(index, patches)
        return {key: self.to_tensor(pixels) for key, pixels in patches.items()} | self.paths[index]

    def read_pair(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole LR and HR picture, RGB uint8 (h, w, 3) and (s h, s w, 3).

        Raises:
            UnreadableError: as above.
        """
        scale, pair = self.opt['scale'], self.paths[index]
        lq, gt = self.read(pair['lq_path'], 'lq'), self.read(pair['gt_path'], 'gt')
        if gt.shape[:2] != (scale * lq.shape[0], scale * lq.shape[1]):
            raise UnreadableError(f'{self.where(pair["gt_path"], "gt")}: is {gt.shape[1]}x{gt.shape[0]}, not {scale} '
                                  f'times the LR picture, {lq.shape[1]}x{lq.shape[0]}')
        return torch.from_numpy(lq), torch.from_numpy(gt)

    def patch(self, index: int, height: int, width: int) -> Patch:
        """Where the patch of a draw lies in an LR picture of this size.

        Raises:
            UnreadableError: it does not fit.
        """
        try:
            return random_patch(sample_random(index), height, width, self.opt['gt_size'] // self.opt['scale'],
                                self.opt['use_hflip'], self.opt['use_rot'])
        except ValueError as error:
            raise UnreadableError(f'{self.where(self.paths[index]["lq_path"], "lq")}: {error}') from error

    def lr_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each LR picture, by its listing or header; (0, 0) where that cannot be read."""
        if self.io_backend_opt['type'] == 'lmdb':
            text = Path(self.lq_folder, 'meta_info.txt').read_text(encoding='utf-8')
            listed = {key: (int(height), int(width)) for key, height, width in META_LINE.findall(text)}
            return [listed.get(pair['lq_path'], (0, 0)) for pair in self.paths]
        return [_size(pair['lq_path']) for pair in self.paths]

    def names(self, index: int) -> dict[str, str]:
        """``lq_path`` and ``gt_path`` of a picture."""
        return self.paths[index]

    def to_tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """RGB uint8 (3, H, W) -> RGB float32 (3, H, W) in [0, 1], or luma alone, normalised when asked for."""
        tensor = pixels.contiguous().float() / 255
        if self.opt.get('color') == 'y':
            tensor = torch.from_numpy(bgr2ycbcr(tensor.flip(0).permute(1, 2, 0).numpy(), y_only=True))[None]
        if self.mean is not None or self.std is not None:
            normalize(tensor, self.mean, self.std, inplace=True)
        return tensor

    def read(self, path: str, side: str) -> np.ndarray:
        """The picture of a path or LMDB key, RGB uint8 (H, W, 3)."""
        try:
            picture = cv2.imdecode(np.frombuffer(self.fetch(path, side), np.uint8), cv2.IMREAD_COLOR_RGB)
        except (OSError, lmdb.Error, cv2.error) as error:
            raise UnreadableError(f'{self.where(path, side)}: {str(error).splitlines()[0]}') from error
        if picture is None:
            raise UnreadableError(f'{self.where(path, side)}: not a picture that can be decoded')
        return picture

    def fetch(self, path: str, side: str) -> bytes:
        if self.file_client is None:  # here and not before: a database must not be opened before a worker is forked
            self.open()
        if self.io_backend_opt['type'] == 'lmdb':
            env = self.file_client.client._client[side]
            # reading a page that a shortened file no longer has would kill the process
            needed = (env.info()['last_pgno'] + 1) * env.stat()['psize']
            if os.path.getsize(os.path.join(env.path(), 'data.mdb')) < needed:
                raise OSError('data.mdb has become shorter')
        content = self.file_client.get(path, side)
        if not content:
            raise OSError('no such key' if content is None else 'empty')
        return content

    def open(self) -> None:
        backend = dict(self.io_backend_opt)
        self.file_client = FileClient(backend.pop('type'), **backend)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What more than one thread reads is open while the context lasts.

        Raises:
            UserError: it cannot be opened.
        """
        try:
            self.open()
        except (OSError, lmdb.Error) as error:
            raise UserError(str(error)) from None
        try:
            yield
        finally:
            if self.io_backend_opt['type'] == 'lmdb':
                for environment in self.file_client.client._client.values():
                    environment.close()
            self.file_client = None

    def where(self, path: str, side: str) -> str:
        """How a message names a picture: its path, or the LMDB with the key."""
        root = self.lq_folder if side == 'lq' else self.gt_folder
        return f'{root}, key {path}' if self.io_backend_opt['type'] == 'lmdb' else path


def _size(path: str) -> tuple[int, int]:
    try:
        return picture_size(Path(path))
    except UnreadableError:
        return 0, 0
