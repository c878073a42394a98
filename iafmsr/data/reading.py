"""What happens when a picture cannot be read: another picture replaces it, and the run is informed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iafmsr.data.sampling import Draw
from iafmsr.errors import UserError
from iafmsr.files.picture import UnreadableError

ATTEMPTS = 10


def roots(opt: dict[str, Any], key: str) -> list[str]:
    """The folders or LMDBs of a key of a dataset's options, which names one or lists several."""
    return opt[key] if isinstance(opt[key], list) else [opt[key]]


def read_or_replace(index: int, count: int, read: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """One sample of a training set. If its picture cannot be read, the sample of the next readable picture.

    The replacement depends only on the index, so that a resumed run makes the same.

    Args:
        index: wanted picture, a :class:`~iafmsr.data.sampling.Draw` or a plain int.
        count: number of pictures.
        read: gives the sample of an index, or raises :class:`~iafmsr.files.picture.UnreadableError`, which names the
            picture.

    Returns:
        The sample, and under ``unreadable`` a line for each picture passed over (mostly the empty string): the main
        process reports them, since a data worker knows neither the log nor the other workers.

    Raises:
        UserError: :data:`ATTEMPTS` pictures in a row cannot be read.
    """
    faults = []
    for step in range(min(ATTEMPTS, count)):
        number = (index + step) % count
        try:
            sample = read(Draw(number, index.key, index.gt_size) if isinstance(index, Draw) else number)
        except UnreadableError as error:
            faults.append(str(error))
        else:
            return {**sample, 'unreadable': '\n'.join(faults)}
    raise UserError(f'{len(faults)} pictures in a row cannot be read, the first: {faults[0]}')
