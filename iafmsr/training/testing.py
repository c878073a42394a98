"""The test of a network on the sets of an option file."""

from __future__ import annotations

import torch

from iafmsr.basicsr_api import build_model, make_exp_dirs
from iafmsr.training.logs import start_log
from iafmsr.training.loop import faults_of_the_machine, val_loader, validate
from iafmsr.utils.options import parse_options


def test(root: str) -> None:
    """Test by the option file of the command line; pictures and log go to ``results/NAME``.

    Args:
        root: folder in which ``results/`` lies, and from which relative paths count.

    Raises:
        UserError: the options or the disk do not let it.
    """
    with faults_of_the_machine():
        opt, _ = parse_options(root, is_train=False)
        torch.backends.cudnn.benchmark = True
        make_exp_dirs(opt)
        logger = start_log(opt, 'test')
        loaders = [val_loader(opt, section) for _, section in sorted(opt['datasets'].items())]
        for loader in loaders:
            logger.info(f'Number of test images in {loader.dataset.opt["name"]}: {len(loader.dataset)}')
        model = build_model(opt)
        for loader in loaders:
            logger.info(f'Testing {loader.dataset.opt["name"]}...')
            validate(model, loader, opt['name'], None, opt['val']['save_img'])
