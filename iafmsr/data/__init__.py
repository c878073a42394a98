"""Data: pictures, their preparation for training, where they are kept; datasets in BasicSR's registry."""

from iafmsr.data.on_the_fly import OnTheFlyDataset
from iafmsr.data.paired_dataset import PairedSRDataset

__all__ = ['OnTheFlyDataset', 'PairedSRDataset']
