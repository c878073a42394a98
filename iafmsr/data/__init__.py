"""Data for training: datasets in BasicSR's registry, sampling, augmentation, and pictures in memory."""

from typing import Any

__all__ = ['OnTheFlyDataset', 'PairedSRDataset']


def __getattr__(name: str) -> Any:
    """Import the datasets only when they are used, because importing BasicSR takes seconds."""
    if name == 'OnTheFlyDataset':
        from iafmsr.data.on_the_fly import OnTheFlyDataset as found
    elif name == 'PairedSRDataset':
        from iafmsr.data.paired_dataset import PairedSRDataset as found
    else:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return found
