"""Losses, in plain PyTorch."""

from iafmsr.models.losses.entropy_loss import InformationEntropyLoss
from iafmsr.models.losses.fft_loss import FFTLoss

__all__ = ['FFTLoss', 'InformationEntropyLoss']
