"""Architectures, known to BasicSR's registry (`iafmsr.basicsr_api`); all but EDSRIDM work without BasicSR."""

from iafmsr.lazy import lazy_names

_MODULES = {'EDSRIDM': 'edsr_idm_arch', 'IAFMNet': 'iafmnet_arch', 'IMDN': 'imdn_arch', 'RDESA': 'rdesa_arch',
            'SAFMN': 'safmn_arch', 'SMFANet': 'smfanet_arch', 'Spandrel': 'spandrel_arch'}
__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
