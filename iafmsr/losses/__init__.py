"""Losses, known to BasicSR's registry (`iafmsr.register`); they work without BasicSR."""

from iafmsr.losses.entropy_loss import InformationEntropyLoss
from iafmsr.losses.fft_loss import FFTLoss

__all__ = ['FFTLoss', 'InformationEntropyLoss']
