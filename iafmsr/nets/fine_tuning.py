"""Loading the weights of a file into a network for further training: all of them, or those that fit."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.nets.building import fitting, misfit
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.state_dicts import KEYS, check_values, weights_in

__all__ = ['weights_for']


def weights_for(
    net: nn.Module,
    file: str | Path,
    strict: bool = True,
    param_key: str | None = None,
    instead: str | None = None,
    resumed: bool = False,
) -> dict[str, Tensor]:
    """The tensors of a file that a network takes.

    Args:
        net: network as the options describe it; its shapes alone are looked at.
        file: weights of any trainer, see :mod:`iafmsr.nets.state_dicts`.
        strict: all names and shapes must agree; else what does not fit is left out.
        param_key: which state dict. For one that a trainer may have left out (``params_ema``) the file's own stands in;
            a key that is no trainer's has to be there.
        instead: which state dict stands in first.
        resumed: the file is a checkpoint of the run itself, whose keys are BasicSR's, whatever ``param_key`` was right
            for the weights that it has started from.

    Raises:
        UserError: no file, no weights or no such key in it, what does not fit, or nothing that fits.
    """
    asked = None if resumed or param_key in KEYS else param_key
    preferred = [key for key in (param_key, instead, 'params') if key]
    weights = fitting(net, weights_in(file, load_checkpoint(file), asked, preferred))
    fault = misfit(net, weights)
    if fault and strict:
        raise UserError(f'{file} does not fit {type(net).__name__}: {fault}')
    wanted = net.state_dict()
    taken = {name: value for name, value in weights.items() if name in wanted and wanted[name].shape == value.shape}
    if not taken:
        raise UserError(f'{file}: none of its {len(weights)} tensors fits {type(net).__name__}: {fault}')
    check_values(file, taken)
    return taken
