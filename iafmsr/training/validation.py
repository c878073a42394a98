"""Validation: its loaders, and what happens when its pictures cannot be written."""

from __future__ import annotations

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
