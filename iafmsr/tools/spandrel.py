"""IAFMNet for programs that load networks with spandrel (chaiNNer and others): ``iafmsr.spandrel.register()``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.bridge.importing import declare_torchvision_operators
from iafmsr.errors import UserError
from iafmsr.nets.building import build
from iafmsr.nets.files import FOLDER, known_names
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.recognition import recognise

__all__ = ['register']

if find_spec('spandrel') is None:
    raise UserError("spandrel is not installed; install the extra 'spandrel'")
declare_torchvision_operators()

from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor  # noqa: E402


def register(**forms: Any) -> None:
    """Add IAFMNet to spandrel's registry, once per process; ``spandrel.ModelLoader`` then loads its weights.

    spandrel gives only the state dict, which shows the sizes of a network but not all of its options. The weights of
    this project are recognised by their values. For other weights, the defaults of the constructor are used.

    Args:
        forms: keywords of :class:`~iafmsr.archs.iafmnet_arch.IAFMNet` that cannot be seen in weights (``k``, ``guide``
            and others), if those of your weights are not the defaults.

    Examples:
        >>> import iafmsr
        >>> iafmsr.spandrel.register()
        >>> from spandrel import ModelLoader
        >>> descriptor = ModelLoader().load_from_state_dict(iafmsr.IAFMNet(scale=2).state_dict())
        >>> descriptor.architecture.id, descriptor.scale
        ('IAFMNet', 2)
    """
    MAIN_REGISTRY.add(ArchSupport.from_architecture(_IAFMNetArch(forms)), ignore_duplicates=True)


class _IAFMNetArch(Architecture[nn.Module]):
    def __init__(self, forms: Mapping[str, Any]) -> None:
        super().__init__(id='IAFMNet', detect=lambda state_dict: _sizes(state_dict) is not None)
        self.forms = forms

    def load(self, state_dict: Mapping[str, Any]) -> ImageModelDescriptor[nn.Module]:
        network = _of_this_project(state_dict) or {**(_sizes(state_dict) or {}), **self.forms}
        net: Any = build('network', {'type': 'IAFMNet', **network})
        return ImageModelDescriptor(
            net,
            dict(state_dict),
            architecture=self,
            purpose='SR',
            tags=[f'{net.tail.in_channels}nf', f'{net.num_block}nb'],
            supports_half=False,  # the density needs float32
            supports_bfloat16=False,
            scale=net.scale,
            input_channels=network['num_in_ch'],
            output_channels=network['num_out_ch'],
        )


def _sizes(state_dict: Mapping[str, Any]) -> dict[str, Any] | None:
    """Keywords of the IAFMNet that weights belong to, as far as they tell; None for another network's."""
    found = recognise({name: tuple(value.shape) for name, value in state_dict.items() if isinstance(value, Tensor)})
    if found is None or found.network['type'] != 'IAFMNet':
        return None
    # how many blocks are routed leaves no trace, and makes no difference at the budget of 1
    return found.network | ({'num_routed': 1} if 'router.thresholds' in state_dict else {})


def _of_this_project(state_dict: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file of ``weights/`` with these very values says of its network."""
    for name in known_names():
        content = load_checkpoint(FOLDER / f'{name}.pth')
        known = content['params']
        if known.keys() == state_dict.keys() and all(torch.equal(known[key], state_dict[key].cpu()) for key in known):
            return content['network_g']
    return None
