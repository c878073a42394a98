"""How often the pictures of a train set are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from iafmsr.data.in_memory import PairSource
from iafmsr.data.parallel import in_order
from iafmsr.data.shared_memory import from_everyone
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.files.picture import UnreadableError

__all__ = ['BY_GRADIENT', 'density_weights', 'gradient_weights', 'read_weights']

BY_GRADIENT = 'gradient'


def read_weights(file: Path, names: Sequence[str]) -> Tensor:
    """The weights that a file with lines ``NAME WEIGHT`` gives to pictures.

    Args:
        file: text; a name is that of an HR picture's file, or its key in an LMDB.
        names: paths or keys of the HR pictures.

    Returns:
        float64 (pictures,).

    Raises:
        UserError: the file cannot be read, a line has another form, a weight is negative or not finite, a picture has
            none, or all are 0.
    """
    found: dict[str, float] = {}
    try:
        lines = file.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f'{printable(file)}: cannot be read') from None
    for number, line in enumerate(lines, 1):
        name, _, weight = line.strip().rpartition(' ')
        try:
            found[name.strip()] = float(weight)
        except ValueError:
            found[name.strip()] = math.nan
        if not name or not 0 <= found[name.strip()] < math.inf:
            raise UserError(f'{printable(file)}, line {number}: must be a name and a weight from 0')
    missing = [name for name in (Path(name).name for name in names) if name not in found]
    if missing:
        raise UserError(f'{printable(file)}: no weight for {missing[0]} and {len(missing) - 1} other pictures')
    weights = torch.tensor([found[Path(name).name] for name in names], dtype=torch.float64)
    if not weights.any():
        raise UserError(f'{printable(file)}: all weights are 0')
    return weights


def gradient_weights(source: PairSource) -> Tensor:
    """For each picture, the mean difference of neighbouring LR pixels, vertical plus horizontal, in levels of 255.

    At least 1, also where the picture cannot be read. The processes of a run share the work.

    Returns:
        float64 (pictures,).
    """

    def weight(lq: Tensor) -> float:
        gray = lq.double().mean(-1)
        return max(1.0, sum(gray.diff(dim=axis).abs().mean().item() for axis in (0, 1)))

    return _of_all(source, weight)


def density_weights(source: PairSource, density: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of each picture's information density map.

    A picture that cannot be read gets the smallest mean of the others. The processes of a run share the work.

    Args:
        source: of the pictures.
        density: LR (1, 3, H, W) in [0, 1] -> map (1, 1, H, W), not negative.

    Returns:
        float64 (pictures,).
    """

    def weight(lq: Tensor) -> float:
        return density(lq.permute(2, 0, 1)[None].float() / 255).mean().item()

    weights = _of_all(source, weight, math.nan)
    return weights.nan_to_num(weights[~weights.isnan()].min().item())


def _of_all(source: PairSource, weight: Callable[[Tensor], float], unreadable: float = 1.0) -> Tensor:
    """A value of each LR picture, (h, w, 3) in [0, 255]."""

    def value(index: int) -> float:
        try:
            return weight(source.read_pictures(index)['lq'])
        except UnreadableError:
            return unreadable  # named when it is drawn

    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = range(rank, len(source), processes)
    with source.reading():
        shares = from_everyone(list(in_order(value, mine)))
    weights = torch.empty(len(source), dtype=torch.float64)
    for first, share in enumerate(shares):
        weights[first::processes] = torch.tensor(share, dtype=torch.float64)
    return weights
