"""The building blocks of the networks, in plain PyTorch. Each can be used in other networks."""

from iafmsr.layers.arm import ARM
from iafmsr.layers.cgfn import CGFN, FFNS
from iafmsr.layers.density import Density
from iafmsr.layers.difference import DifferenceConv2d
from iafmsr.layers.gdn import GDN
from iafmsr.layers.guidance import Guidance
from iafmsr.layers.guide import GUIDES
from iafmsr.layers.idm import InformationDensity
from iafmsr.layers.igra import ATTENTIONS, IGRA
from iafmsr.layers.routing import Router
from iafmsr.layers.upsampler import UPSAMPLERS

__all__ = [
    'ARM',
    'ATTENTIONS',
    'CGFN',
    'FFNS',
    'GDN',
    'GUIDES',
    'IGRA',
    'UPSAMPLERS',
    'Density',
    'DifferenceConv2d',
    'Guidance',
    'InformationDensity',
    'Router',
]
