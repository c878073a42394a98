"""The test of a network on the sets of an option file."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from iafmsr.bridge.basicsr_api import build_model, make_exp_dirs
from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.training.logs import start_log
from iafmsr.training.loop import faults_of_the_machine
from iafmsr.training.options import parse_options
from iafmsr.training.validation import val_loader, validate


def test(args: argparse.Namespace, root: str) -> None:
    """Test by the option file of the command line; pictures and log go to ``results/NAME``.

    Args:
        args: of :mod:`iafmsr.tools.training`.
        root: folder in which ``results/`` lies, and from which relative paths count.

    Raises:
        UserError: the options or the disk do not let it.
    """
    with faults_of_the_machine():
        opt = parse_options(args, root, is_train=False)
        torch.backends.cudnn.benchmark = True
        with folder_lock(Path(opt['path']['results_root'])) if opt['rank'] == 0 else nullcontext():
            measure(opt)


def measure(opt: dict[str, Any]) -> None:
    """Validate the network of parsed options on all of their sets, in a new folder.

    Raises:
        UserError: pictures could not be written.
    """
    make_exp_dirs(opt)
    logger = start_log(opt, 'test')
    loaders = [val_loader(opt, section) for _, section in sorted(opt['datasets'].items())]
    for loader in loaders:
        logger.info(f'Number of test images in {loader.dataset.opt["name"]}: {len(loader.dataset)}')
    model, incomplete = build_model(opt), []
    for loader in loaders:
        name = loader.dataset.opt['name']
        logger.info(f'Testing {name}...')
        if not validate(model, loader, opt['name'], None, opt['val']['save_img']):
            incomplete.append(name)
    if incomplete:
        raise UserError(f'{opt["path"]["visualization"]}: the pictures of {", ".join(incomplete)} are incomplete')
