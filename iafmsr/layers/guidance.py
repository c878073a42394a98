"""How the map enters: at the final product and in the attention of IGRA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FORMS = ('product', 'neutral', 'concat')


class Guidance(nn.Module):
    """The factor or summand that the map contributes, in one of three forms.

    ``product``: the map itself, as drawn in figure 3. ``neutral``: 1 + a (map - 1) with a learned strength a for each
    channel that starts at 0, so that training starts from the net without a map. ``concat``: the map is appended to
    the features and a 1x1 convolution mixes it in.

    Args:
        num_feat (int): channels C.
        form (str): see above.

    Raises:
        ValueError: when the form is unknown.
    """

    def __init__(self, num_feat: int, form: str = 'product') -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f'guidance must be one of {", ".join(FORMS)}, got {form!r}')
        self.form = form
        if form == 'neutral':
            self.strength = nn.Parameter(torch.zeros(num_feat, 1, 1))
        elif form == 'concat':
            self.mix = nn.Conv2d(num_feat + 1, num_feat, 1)

    def multiply(self, x: Tensor, idm: Tensor) -> Tensor:
        """x (.) map: (B, C, H, W), map (B, 1, H, W) -> (B, C, H, W)."""
        return self.mix(torch.cat([x, idm.to(x.dtype)], dim=1)) if self.form == 'concat' else x * self._term(idm)

    def add(self, x: Tensor, idm: Tensor) -> Tensor:
        """x (+) map: (B, C, H, W), map (B, 1, H, W) -> (B, C, H, W)."""
        return self.mix(torch.cat([x, idm.to(x.dtype)], dim=1)) if self.form == 'concat' else x + self._term(idm)

    def _term(self, idm: Tensor) -> Tensor:
        return 1 + self.strength * (idm - 1) if self.form == 'neutral' else idm
