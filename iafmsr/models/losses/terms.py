"""The losses of a run as one list, from all sections of the option file."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iafmsr.bridge.basicsr_api import LOSS_REGISTRY, build_loss
from iafmsr.layers.density import Density

__all__ = ['Entry', 'Losses', 'Seen', 'entries', 'needs', 'trains_density']

# sections with one loss each, by the name in the log; their losses are summed in this order
_SECTIONS = {'ie_opt': 'ie', 'pixel_opt': 'pix', 'fft_opt': 'fft', 'ldl_opt': 'ldl', 'perceptual_opt': 'percep'}
_SECOND = {'ie': 'bpp', 'percep': 'l_style'}  # name of the second value of losses that return two


class Entry(NamedTuple):
    """A loss of the option file: where it stands, its name in the log, its section, and its first iteration."""

    where: str
    name: str
    section: dict[str, Any]
    start_iter: int


class Seen(NamedTuple):
    """The values that a loss can use besides its target. A loss gets those that the parameters of ``forward`` name.

    Attributes:
        output: result of the network, (B, C, sH, sW).
        lq: its input, (B, C, H, W).
        density: the density that ``net(lq, return_density=True)`` returns, if a loss uses it.
        average: result of the averaged network, without gradient, if a loss uses it.
    """

    output: Tensor
    lq: Tensor
    density: Density | None = None
    average: Tensor | None = None


def entries(train: Mapping[str, Any]) -> list[Entry]:
    """All losses of a section ``train``: those with their own section, then those of ``losses``."""
    found = [
        Entry(f'train.{key}', name, _ldl(train[key]) if key == 'ldl_opt' else dict(train[key]), 0)
        for key, name in _SECTIONS.items()
        if isinstance(train.get(key), dict)
    ]
    names = Counter(entry.name for entry in found)
    listed = train.get('losses')
    for number, section in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(section, dict):
            continue
        section = dict(section)
        start = int(section.pop('start_iter', None) or 0)
        name = str(section.get('type')).removesuffix('Loss').lower()
        names[name] += 1
        name += str(names[name]) if names[name] > 1 else ''
        found.append(Entry(f'train.losses.{number}', name, section, start))
    return found


def _ldl(section: dict[str, Any]) -> dict[str, Any]:
    """BasicSR's ``ldl_opt``, an L1 loss of pictures that its model multiplies by the artifact map, as one loss."""
    if section.get('type') != 'L1Loss':
        return dict(section)
    return {'type': 'LDLLoss', **{key: value for key, value in section.items() if key == 'loss_weight'}}


def needs(entry: Entry, name: str) -> bool:
    """Whether a loss uses a value of :class:`Seen`. A loss with ``weights`` computes the density from them."""
    cls = dict(iter(LOSS_REGISTRY)).get(str(entry.section.get('type')))
    named = cls is not None and name in inspect.signature(cls.forward).parameters
    return named and not (name == 'density' and bool(entry.section.get('weights')))


def trains_density(train: Mapping[str, Any]) -> list[Entry]:
    """The losses that train a network's density; UncertaintyLoss uses it without training it."""
    return [e for e in entries(train) if needs(e, 'density') and e.section['type'] != 'UncertaintyLoss']


class Losses:
    """The losses of a section ``train``, built, and their values.

    Args:
        train: the section.
        device: of the network.
    """

    def __init__(self, train: Mapping[str, Any], device: torch.device) -> None:
        self.entries = entries(train)
        self.losses = [build_loss(entry.section).to(device) for entry in self.entries]
        self.asked = [_asked(loss) for loss in self.losses]

    def need(self, name: str) -> list[str]:
        """The option keys of the losses that use a value of :class:`Seen`."""
        return [entry.where for entry in self.entries if needs(entry, name)]

    def __call__(
        self, seen: Seen, target: Callable[[str], Tensor], iteration: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weighted losses of an iteration, whose sum is minimised, and the values that are only logged.

        Args:
            seen: the values that the losses use, see :class:`Seen`.
            target: gives the target picture of the loss with a name, (B, C, sH, sW).
            iteration: counted from 1.
        """
        losses: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        for entry, loss, asked in zip(self.entries, self.losses, self.asked, strict=True):
            if iteration < entry.start_iter:
                continue
            values = seen._asdict() | {'target': target(entry.name)}
            for key, value in _named(entry.name, loss(*[values[name] for name in asked])):
                (losses if value.requires_grad else measures)[key] = value
        return losses, measures


def _asked(loss: Any) -> list[str]:
    """The arguments of a loss: the values that its parameters name; output and target for others without default."""
    rest, asked = ['output', 'target'], list[str]()
    for parameter in inspect.signature(loss.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return asked + rest
        if parameter.name in ('lq', 'density', 'average'):
            asked.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            asked.append(rest.pop(0))
        else:
            break
    return asked


def _named(name: str, result: Any) -> Iterator[tuple[str, Tensor]]:
    """The values of a loss by their names in the log; of a pair, a value without gradient is only logged."""
    values = result if isinstance(result, tuple) else (result,)
    keys = (f'l_{name}', _SECOND.get(name, f'l_{name}_2'))
    yield from ((key, value) for key, value in zip(keys, values, strict=False) if value is not None)
