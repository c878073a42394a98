"""How the guide enters the network: at the final product and in the attention of IGRA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FORMS = ('product', 'neutral', 'concat')


class Guidance(nn.Module):
    """The factor (:meth:`multiply`) or summand (:meth:`add`) that the guide contributes, in one of three forms.

    ``product``: the guide itself, as drawn in figure 3. ``neutral``: 1 + a (guide - 1) with a learned strength a for
    each channel that starts at 0, so that training starts from the net without a guide. ``concat``: the guide is
    appended to the features and a 1x1 convolution mixes it in.

    Args:
        num_feat (int): channels C.
        form (str): see above.
        num_guide (int): channels of the guide, C or 1.

    Raises:
        ValueError: when the form is unknown.

    Examples:
        >>> x = torch.rand(1, 8, 6, 6)
        >>> torch.equal(Guidance(8, 'neutral').multiply(x, torch.rand(1, 1, 6, 6)), x)  # before training
        True
    """

    def __init__(self, num_feat: int, form: str = 'product', num_guide: int = 1) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f'guidance must be one of {", ".join(FORMS)}, got {form!r}')
        self.form = form
        if form == 'neutral':
            self.strength = nn.Parameter(torch.zeros(num_feat, 1, 1))
        elif form == 'concat':
            self.mix = nn.Conv2d(num_feat + num_guide, num_feat, 1)

    def multiply(self, x: Tensor, guide: Tensor) -> Tensor:
        """x (.) guide: (B, C, H, W), guide (B, C or 1, H, W) -> (B, C, H, W)."""
        if self.form == 'concat':
            return self.mix(torch.cat([x, guide.to(x.dtype)], dim=1))
        return x * self._factor(guide)

    def add(self, x: Tensor, guide: Tensor) -> Tensor:
        """x (+) guide: (B, C, H, W), guide (B, C or 1, H, W) -> (B, C, H, W)."""
        if self.form == 'concat':
            return self.mix(torch.cat([x, guide.to(x.dtype)], dim=1))
        return x + self._factor(guide)

    def _factor(self, guide: Tensor) -> Tensor:
        return 1 + self.strength * (guide - 1) if self.form == 'neutral' else guide
