"""The architectures of spandrel (https://github.com/chaiNNer-org/spandrel) among those of BasicSR's options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from iafmsr.archs.published import PublishedNet
from iafmsr.bridge.importing import declare_torchvision_operators
from iafmsr.errors import UserError

if TYPE_CHECKING:
    from spandrel import ArchRegistry, ImageModelDescriptor


def _registry() -> ArchRegistry:
    if find_spec('spandrel') is None:
        raise UserError("type Spandrel needs an extra: pip install -e '.[spandrel]'")
    declare_torchvision_operators()
    from spandrel import MAIN_REGISTRY

    if find_spec('spandrel_extra_arches') is not None:  # networks whose licences are not all free, SRFormer among them
        import_module('spandrel_extra_arches').install(ignore_duplicates=True)
    return MAIN_REGISTRY


class Spandrel(PublishedNet):
    """A network of spandrel: SwinIR, Swin2SR, HAT, OmniSR, IPT, SeemoRe, SPAN, PLKSR, DITN, RCAN ...

    ``type: Spandrel``, ``id: SwinIR`` and the network's own keywords (``upscale: 4`` ...). Loads its authors' weights.
    The package ``spandrel_extra_arches`` adds its networks, such as SRFormer, where it is installed.
    Pictures are padded to the size that the network wants, by their border pixels, and cut again.

    Args:
        id (str): spandrel's name of the architecture.
        **hyper: keywords of the network's constructor.

    Raises:
        UserError: when spandrel is not installed or does not know the id.
    """

    published_names: ClassVar = {r'^(?!net\.)': 'net.'}

    def __init__(self, *, id: str, **hyper: Any) -> None:
        super().__init__()
        known = {support.architecture.id: support.architecture for support in _registry()}
        if id not in known:
            more = '' if find_spec('spandrel_extra_arches') else ' (pip install spandrel_extra_arches adds more)'
            raise UserError(f'spandrel does not know the id {id!r}{more}, only {", ".join(sorted(known))}')
        self.net = getattr(import_module(type(known[id]).__module__), id)(**hyper)
        # spandrel reads off a network's weights what it is
        self._describe(known[id].load(dict(self.net.state_dict())))

    @classmethod
    def from_weights(cls, weights: Mapping[str, Any]) -> Spandrel:
        """The network that a state dict belongs to, id and keywords found by spandrel, with these weights.

        Raises:
            UserError: when spandrel is not installed or does not know the network.
        """
        net = cls.__new__(cls)
        PublishedNet.__init__(net)
        try:
            described = _registry().load(dict(weights))
        except Exception as error:  # whatever an unknown state dict makes of spandrel
            raise UserError(f'spandrel does not know these weights ({type(error).__name__})') from None
        net.net = described.model
        net._describe(described)
        return net

    def _describe(self, described: ImageModelDescriptor) -> None:
        self.scale, self.channels, self.wanted = (
            described.scale,
            described.input_channels,
            described.size_requirements,
        )

    def forward(self, lq: Tensor) -> Tensor:
        """(B, channels, H, W) in [0, 1] -> (B, channels, sH, sW); channels is 3 or what the network takes."""
        h, w = lq.shape[-2:]
        right, bottom = self.wanted.get_padding(w, h)
        # some write into their input (RCAN): it is theirs
        sr = self.net(F.pad(lq, (0, right, 0, bottom), mode='replicate') if right or bottom else lq.clone())
        return sr[..., : self.scale * h, : self.scale * w]
