"""Data: preparation for training, where pictures are kept, datasets in BasicSR's registry."""

from typing import Any

__all__ = ['OnTheFlyDataset', 'PairedSRDataset']


def __getattr__(name: str) -> Any:
    """The datasets are imported when they are asked for: they take the seconds of BasicSR's import."""
    if name == 'OnTheFlyDataset':
        from iafmsr.data.on_the_fly import OnTheFlyDataset as found
    elif name == 'PairedSRDataset':
        from iafmsr.data.paired_dataset import PairedSRDataset as found
    else:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return found
