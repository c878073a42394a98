"""Losses, in plain PyTorch."""

from iafmsr.models.losses.entropy_loss import InformationEntropyLoss
from iafmsr.models.losses.fft_loss import FFTLoss
from iafmsr.models.losses.uncertainty_loss import UncertaintyLoss

__all__ = ['FFTLoss', 'InformationEntropyLoss', 'UncertaintyLoss']
