"""Losses, known to BasicSR's registry once this package is imported."""

from iafmsr.losses.entropy_loss import InformationEntropyLoss

__all__ = ['InformationEntropyLoss']
