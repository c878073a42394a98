"""What changes from one iteration to the next: the size of the patches, the share of active sites, which are mixed.

All of it is a function of the options and the iteration (mixing also of the process), so that a resume is exact.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from iafmsr.data.augmentation import MIXINGS, mix

Options = dict[str, Any]


class Curriculum:
    """The section ``train.curriculum`` of a run, and the mixing of its batches.

    Args:
        opt: of the run.
    """

    def __init__(self, opt: Options) -> None:
        data, steps = opt['datasets']['train'], opt['train'].get('curriculum') or {}
        self.sizes, self.shares = steps.get('gt_size') or {}, steps.get('k') or {}
        self.gt_size = data.get('gt_size')
        self.mixings = {key: value for key in MIXINGS if (value := data.get(key))}
        self.place = f'{opt["manual_seed"]},{opt["rank"]}'

    @property
    def largest(self) -> int | None:
        """Side of the largest HR patch of the run."""
        return max(self.gt_size, *self.sizes.values()) if self.sizes else self.gt_size

    def gt_size_at(self, iteration: int) -> int:
        """Side of the HR patches of an iteration, counted from 1."""
        return value_at(self.sizes, iteration, self.gt_size)

    def begin(self, iteration: int, batch: Options, model: Any) -> None:
        """Make ready for an iteration: mix the batch, in place, and set the model's share of active sites."""
        if self.mixings:
            mix(batch, random.Random(f'{self.place},{iteration},mix'), **self.mixings)
        if (share := value_at(self.shares, iteration, None)) is not None:
            model.set_share(share)


def value_at(steps: Mapping[float, Any], iteration: int, start: Any) -> Any:
    """The value of the last step that has begun; ``start`` where none has."""
    begun = [first for first in steps if first <= iteration]
    return steps[max(begun)] if begun else start
