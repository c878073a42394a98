"""Model classes, known to BasicSR's registry once this package is imported."""

from iafmsr.models.iafmnet_model import IAFMNetModel

__all__ = ['IAFMNetModel']
