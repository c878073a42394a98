"""Recognising the network of a state dict by its names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iafmsr import archs
from iafmsr.archs.published import PublishedNet

__all__ = ['ARCHS', 'Recognised', 'recognise']

Shapes = Mapping[str, tuple[int, ...]]


class Recognised(NamedTuple):
    """A network that shapes tell.

    Attributes:
        network: ``type`` and keywords.
        untold: keywords that leave no trace in the shapes; () where the shapes tell the whole network.
    """

    network: dict[str, Any]
    untold: tuple[str, ...] = ()


def recognise(shapes: Shapes) -> Recognised | None:
    """The network of one of the archs here that a state dict of these shapes belongs to, None for any other."""
    for name, (mark, told) in ARCHS.items():
        arch = getattr(archs, name)
        ours = arch.renamed(shapes) if issubclass(arch, PublishedNet) else shapes
        if mark not in ours:
            continue
        try:
            keywords = {'scale': _scale(ours), **told(ours)}
        except (KeyError, IndexError, ValueError, StopIteration):
            return None
        return Recognised({'type': name, **keywords}, _UNTOLD.get(name, ()))
    return None


def _scale(shapes: Shapes) -> int:
    """Nets of this project end in a convolution to (channels of the picture) scale^2 channels."""
    outputs, channels = shapes['tail.weight'][0], _head(shapes)[1]
    channels = 3 if channels == 12 else channels  # BSRN takes the picture four times
    return next(scale for scale in (1, 2, 3, 4, 8, outputs) if outputs == channels * scale**2)


def _head(shapes: Shapes) -> tuple[int, ...]:
    return next(shapes[name] for name in ('head.differences', 'head.pw.weight', 'head.weight') if name in shapes)


def _blocks(shapes: Shapes) -> int:
    return 1 + max(int(name.split('.')[1]) for name in shapes if name.startswith('blocks.'))


def _iafmnet(shapes: Shapes) -> dict[str, Any]:
    """The sizes of an IAFMNet. Its forms are left to the options: most of them leave no trace."""
    num_feat, channels = _head(shapes)[:2]
    kernels = sum(name.startswith('ssconvs.') for name in shapes)
    return {
        'num_feat': num_feat,
        'num_block': _blocks(shapes),
        'num_in_ch': channels,
        'num_out_ch': channels,
        'ffn_scale': shapes['blocks.0.cgfn.project.weight'][1] / num_feat,
        'residual': 'head.differences' in shapes,
        'ssconv': 'none' if kernels == 0 else 'shared' if kernels == 1 else 'own',
    }


def _of_blocks(ffn: str) -> Callable[[Shapes], dict[str, Any]]:
    def keywords(shapes: Shapes) -> dict[str, Any]:
        dim = shapes['head.weight'][0]
        # int(dim * ffn_scale) is rounded down: the half keeps it from the wrong side of a whole number
        return {'dim': dim, 'n_blocks': _blocks(shapes), 'ffn_scale': (shapes[ffn][0] + 0.5) / dim}

    return keywords


def _plain(shapes: Shapes) -> dict[str, Any]:
    return {'num_feat': _head(shapes)[0], 'num_block': _blocks(shapes)}


def _rlfn(shapes: Shapes) -> dict[str, Any]:
    return {**_plain(shapes), 'num_squeezed': shapes['blocks.0.esa.squeeze.weight'][0]}


def _elan(shapes: Shapes) -> dict[str, Any]:
    ratio = shapes['blocks.0.local.0.0.conv1x1.weight'][0] // _head(shapes)[0]
    return {**_plain(shapes), 'ratio': ratio}


def _etds(shapes: Shapes) -> dict[str, Any]:
    width, num_copy = shapes['head.weight'][0], shapes['head_r.weight'][0]
    return {'num_feat': width + num_copy, 'num_copy': num_copy, 'num_block': _blocks(shapes)}


# arch -> a name that no other has, and its keywords
ARCHS: dict[str, tuple[str, Callable[[Shapes], dict[str, Any]]]] = {
    'IAFMNet': ('blocks.0.ifem.expand.weight', _iafmnet),
    'SMFANet': ('blocks.0.smfa.alpha', _of_blocks('blocks.0.pcfn.expand.weight')),
    'SAFMN': ('blocks.0.safm.aggregate.weight', _of_blocks('blocks.0.ccm.0.weight')),
    'IMDN': ('blocks.0.refine.3.weight', _plain),
    'RDESA': ('esa.squeeze.weight', _plain),
    'RLFN': ('blocks.0.esa.far.weight', _rlfn),
    'BSRN': ('blocks.0.esa.far.0.pw.weight', _plain),
    'ELAN': ('blocks.0.gmsa.0.project_out.weight', _elan),
    'ETDS': ('head_r.weight', _etds),
}
_UNTOLD = {
    'IAFMNet': ('k', 'gain', 'guide', 'mask', 'norm', 'attention', 'num_routed', 'upsampler'),
    'ELAN': ('windows',),
}
