"""Architectures, known to BasicSR's registry once this package is imported."""

from iafmsr.archs.edsr_idm_arch import EDSRIDM
from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.archs.imdn_arch import IMDN
from iafmsr.archs.rdesa_arch import RDESA
from iafmsr.archs.safmn_arch import SAFMN
from iafmsr.archs.smfanet_arch import SMFANet
from iafmsr.archs.spandrel_arch import Spandrel

__all__ = ['EDSRIDM', 'IAFMNet', 'IMDN', 'RDESA', 'SAFMN', 'SMFANet', 'Spandrel']
