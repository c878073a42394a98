"""Published figures, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import yaml

from iafmsr.errors import UserError, did_you_mean
from iafmsr.measure.quality import Quality

__all__ = ['Published', 'published']


@dataclass(frozen=True)
class Published:
    """What a paper reports of a net at one scale; None or absent where it does not.

    params in thousands, gmacs in 1e9 and activations in 1e6, at 1280x720 output; memory in MiB and ms of 320x180.
    """

    net: str
    scale: int
    source: str
    params: float | None = None
    gmacs: float | None = None
    activations: float | None = None
    quality: dict[str, Quality] = field(default_factory=dict)
    memory: float | None = None
    ms: float | None = None


def published(net: str, scale: int) -> Published | None:
    """The figures of a net, by its name in any case of letters."""
    return _figures().get((net.lower(), scale))


def published_names(names: list[str]) -> None:
    """Raises:
    UserError: a name of which nothing is known.
    """
    known = {figures.net for figures in _figures().values()}
    for name in names:
        if name.lower() not in {net.lower() for net in known}:
            raise UserError(f'--published: no figures of {name!r}{did_you_mean(name, known)}')


@cache
def _figures() -> dict[tuple[str, int], Published]:
    data = yaml.safe_load(files('iafmsr.benchmark').joinpath('published.yml').read_text(encoding='utf-8'))
    speed = {(row['net'].lower(), row['scale']): row for row in data['speed']}
    figures = {}
    for row in data['quality']:
        key = row['net'].lower(), row['scale']
        plain = {name: value for name, value in row.items() if not isinstance(value, list)}
        quality = {name: Quality(*value) for name, value in row.items() if isinstance(value, list)}
        timed = speed.get(key, {})
        figures[key] = Published(
            **plain | {'source': data['sources'][row['source']]},
            quality=quality,
            memory=timed.get('memory'),
            ms=timed.get('ms'),
        )
    return figures
