"""Data: pictures, their preparation for training, where they are kept; datasets in BasicSR's registry."""

from iafmsr.lazy import lazy_names

_MODULES = {'OnTheFlyDataset': 'on_the_fly', 'PairedSRDataset': 'paired_dataset'}
__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
