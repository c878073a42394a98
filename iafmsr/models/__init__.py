"""Model classes, known to BasicSR's registry once this package is imported, and what all of them have from here."""

from iafmsr.models.base_model import install
from iafmsr.models.iafmnet_model import IAFMNetModel

__all__ = ['IAFMNetModel']

install()
