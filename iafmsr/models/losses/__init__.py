"""Losses, known to BasicSR's registry once this package is imported."""

from iafmsr.models.losses.entropy_loss import InformationEntropyLoss
from iafmsr.models.losses.fft_loss import FFTLoss

__all__ = ['FFTLoss', 'InformationEntropyLoss']
