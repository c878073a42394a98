"""BasicSR's validation, in training and test."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

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


def show(model: Any, loader: Any, iteration: int, board: Any) -> None:
    """Put the first picture of a set on TensorBoard: the result, and the map and mask of a network that has them.

    In tiles (``val.tile``) there is the result alone: the density is of a whole picture.
    """
    model.is_train = False  # the models of Real-ESRGAN degrade what they train on
    model.feed_data(next(iter(loader)))
    model.is_train = True
    model.test()
    result = model.get_current_visuals()['result'][0].clamp(0, 1)
    name = loader.dataset.opt['name']
    board.add_image(f'{name}/result', result, iteration)
    net = getattr(model, 'net_g_ema', model.get_bare_model(model.net_g))
    if 'return_density' in inspect.signature(net.forward).parameters and not model.opt['val'].get('tile'):
        was_training = net.training
        with torch.no_grad():
            density = net.eval()(model.lq, return_density=True)[1]
        net.train(was_training)
        board.add_image(f'{name}/idm', (density.idm / density.idm.amax().clamp(min=1e-9))[0].cpu(), iteration)
        board.add_image(f'{name}/mask', density.mask[0].float().cpu(), iteration)


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
