"""BasicSR's validation, in training and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iafmsr.bridge.basicsr_api import build_dataloader, build_dataset, get_root_logger

Options = dict[str, Any]


def val_loader(opt: Options, section: Options) -> Any:
    """BasicSR's loader of a set for validation."""
    dataset = build_dataset(section)
    return build_dataloader(dataset, section, opt['num_gpu'], opt['dist'], None, opt['manual_seed'])


def validate(model: Any, loader: Any, iteration: int | str, board: Any, save_img: bool) -> bool:
    """A model's validation, without its pictures where they cannot be written; returns whether nothing was left out."""
    try:
        model.validation(loader, iteration, board, save_img)
        return True
    except OSError as error:
        if not save_img:
            raise
        get_root_logger().error(f'The pictures of the validation could not be written: {error.strerror or error}')
        model.validation(loader, iteration, board, False)
        return False


@contextmanager
def pictures_apart(opt: Options, loader: Any, loaders: Sequence[Any]) -> Iterator[None]:
    """In training BasicSR names the pictures of a validation by the picture alone; of several sets, each gets a folder
    while the context lasts."""
    path = opt['path']
    folder = path['visualization']
    if len(loaders) > 1:
        path['visualization'] = str(Path(folder, loader.dataset.opt['name']))
    try:
        yield
    finally:
        path['visualization'] = folder
