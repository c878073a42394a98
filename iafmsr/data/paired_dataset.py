"""Pairs of pictures for training, from LMDBs or folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

from iafmsr.bridge.basicsr_api import DATASET_REGISTRY, FileClient, PairedImageDataset, bgr2ycbcr, normalize
from iafmsr.data.augmentation import Augmentation
from iafmsr.data.reading import read_or_replace, roots
from iafmsr.data.sampling import Patch, gt_size_of, random_patch, sample_random
from iafmsr.errors import UserError
from iafmsr.files.lmdb_index import META_LINE
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size, read_levels, read_rgb8


@DATASET_REGISTRY.register()
class PairedSRDataset(PairedImageDataset):
    """BasicSR's PairedImageDataset, for training, with the same options and three differences.

    Crops and flips depend on the draw (:mod:`iafmsr.data.sampling`). Pictures are sorted by name, not as in the file
    system. Unreadable pictures are replaced (:func:`~iafmsr.data.reading.read_or_replace`).

    Args:
        opt (dict): as for PairedImageDataset, and ``max_unreadable``: the share of pictures that may be unreadable
            before the run stops (0.01); ``in_memory``: the whole set in memory, see :mod:`iafmsr.data.in_memory`;
            ``dataroot_teacher``: LMDB of a teacher's pictures under HR's keys: ``teacher`` is cut as ``gt`` is;
            ``dataroot_*`` may be lists of as many folders or LMDBs; ``bit_depth``: 8, or 16 for all bits of 16-bit
            pictures; ``colour_augment`` and ``synthetic``: see :class:`~iafmsr.data.augmentation.Augmentation`.
    """

    paths: list[dict[str, str]]

    def __init__(self, opt: dict[str, Any]) -> None:
        keys = {side: f'dataroot_{side}' for side in ('lq', 'gt', 'teacher') if opt.get(f'dataroot_{side}')}
        self.folders = {side: roots(opt, key) for side, key in keys.items()}
        paths: list[dict[str, str]] = []
        self.root_of: list[int] = []  # of each pair
        for number, (lq, gt) in enumerate(zip(self.folders['lq'], self.folders['gt'], strict=True)):
            super().__init__({**opt, 'dataroot_lq': lq, 'dataroot_gt': gt})
            paths += sorted(self.paths, key=lambda pair: pair['gt_path'])
            self.root_of += [number] * len(self.paths)
        self.opt, self.paths, self.augmentation = opt, paths, Augmentation.of(opt)
        self.read_pixels = read_levels if opt.get('bit_depth') == 16 else read_rgb8
        if self.io_backend_opt['type'] == 'lmdb':
            # each is opened once and goes by its path: two may have the same keys
            lmdbs = list(dict.fromkeys(root for listed in self.folders.values() for root in listed))
            self.io_backend_opt |= {'db_paths': lmdbs, 'client_keys': lmdbs}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``lq`` (C, h, w) and ``gt`` (C, H, W), float32 RGB in [0, 1], with ``lq_path``, ``gt_path``, ``unreadable``;
        where there is a teacher, ``teacher`` (C, H, W) too.

        Raises:
            UserError: many pictures in a row cannot be read.
        """
        return read_or_replace(index, len(self), self.sample)

    def sample(self, index: int) -> dict[str, Any]:
        """The patch of one draw, as above.

        Raises:
            UnreadableError: one of the pictures cannot be read, or they do not fit together.
        """
        pictures = self.read_pictures(index)
        patch = self.patch(index, *pictures['lq'].shape[:2])
        patches = {
            key: patch.cut(picture, 1 if key == 'lq' else self.opt['scale']).permute(2, 0, 1)
            for key, picture in pictures.items()
        }
        patches |= self.augmentation.changed(index, patches)
        return {key: self.to_tensor(pixels) for key, pixels in patches.items()} | self.paths[index]

    @property
    def sides(self) -> tuple[str, ...]:
        """The pictures of a sample: ``lq``, ``gt`` and, where there is a teacher, ``teacher``."""
        return tuple(self.folders)

    def read_pictures(self, index: int) -> dict[str, torch.Tensor]:
        """The whole pictures of all sides, RGB: LR (h, w, 3), the others (s h, s w, 3); uint8, or float32 in [0, 255]
        under ``bit_depth: 16``.

        Raises:
            UnreadableError: as above.
        """
        scale = self.opt['scale']
        pictures = {side: self.read(index, side) for side in self.sides}
        height, width = pictures['lq'].shape[:2]
        for side, picture in pictures.items():
            if side != 'lq' and picture.shape[:2] != (scale * height, scale * width):
                raise UnreadableError(
                    f'{self.where(index, side)}: is {picture.shape[1]}x{picture.shape[0]}, '
                    f'not {scale} times the LR picture, {width}x{height}'
                )
        return {side: torch.from_numpy(picture) for side, picture in pictures.items()}

    def patch(self, index: int, height: int, width: int) -> Patch:
        """Where the patch of a draw lies in an LR picture of this size.

        Raises:
            UnreadableError: it does not fit.
        """
        try:
            return random_patch(
                sample_random(index),
                height,
                width,
                gt_size_of(index, self.opt['gt_size']) // self.opt['scale'],
                self.opt['use_hflip'],
                self.opt['use_rot'],
            )
        except ValueError as error:
            raise UnreadableError(f'{self.where(index, "lq")}: {error}') from error

    def lr_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each LR picture, by its listing or header; (0, 0) where that cannot be read."""
        if self.io_backend_opt['type'] == 'lmdb':
            texts = [Path(root, 'meta_info.txt').read_text(encoding='utf-8') for root in self.folders['lq']]
            listed = [{key: (int(high), int(wide)) for key, high, wide in META_LINE.findall(text)} for text in texts]
            return [
                listed[root].get(pair['lq_path'], (0, 0)) for root, pair in zip(self.root_of, self.paths, strict=True)
            ]
        return [_size(pair['lq_path']) for pair in self.paths]

    def names(self, index: int) -> dict[str, str]:
        """``lq_path`` and ``gt_path`` of a picture."""
        return self.paths[index]

    def to_tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """RGB (3, H, W) in [0, 255] -> RGB float32 (3, H, W) in [0, 1], or luma alone, normalised when asked for."""
        tensor = pixels.contiguous().float() / 255
        if self.opt.get('color') == 'y':
            tensor = torch.from_numpy(bgr2ycbcr(tensor.flip(0).permute(1, 2, 0).numpy(), y_only=True))[None]
        if self.mean is not None or self.std is not None:
            normalize(tensor, self.mean, self.std, inplace=True)
        return tensor

    def read(self, index: int, side: str) -> np.ndarray:
        """One side of a pair, RGB (H, W, 3) in [0, 255]."""
        try:
            return self.read_pixels(self.fetch(self.path(index, side), self.folders[side][self.root_of[index]]))
        except (OSError, lmdb.Error, UnreadableError) as error:
            raise UnreadableError(f'{self.where(index, side)}: {str(error).splitlines()[0]}') from error

    def path(self, index: int, side: str) -> str:
        """Of a file, or the key in the LMDB of a side."""
        return self.paths[index]['lq_path' if side == 'lq' else 'gt_path']

    def fetch(self, path: str, root: str) -> bytes:
        if self.file_client is None:  # here and not before: a database must not be opened before a worker is forked
            self.open()
        if self.io_backend_opt['type'] == 'lmdb':
            env = self.file_client.client._client[root]
            # reading a page that a shortened file no longer has would kill the process
            needed = (env.info()['last_pgno'] + 1) * env.stat()['psize']
            if os.path.getsize(os.path.join(env.path(), 'data.mdb')) < needed:
                raise OSError('data.mdb has become shorter')
        content = self.file_client.get(path, root)
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

    def where(self, index: int, side: str) -> str:
        """How a message names a picture: its path, or the LMDB with the key."""
        path, root = self.path(index, side), self.folders[side][self.root_of[index]]
        return f'{root}, key {path}' if self.io_backend_opt['type'] == 'lmdb' else path


def _size(path: str) -> tuple[int, int]:
    try:
        return picture_size(Path(path))
    except UnreadableError:
        return 0, 0
