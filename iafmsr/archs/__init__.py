"""Architectures, known to BasicSR's registry once this package is imported."""

from iafmsr.archs.iafmnet_arch import IAFMNet

__all__ = ['IAFMNet']
