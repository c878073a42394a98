"""The information entropy loss."""

from __future__ import annotations

from torch import Tensor, nn

from iafmsr.layers.density import Density, information

_REDUCTIONS = ('sum', 'pixel', 'mean')


class InformationEntropyLoss(nn.Module):
    """L_IE: the bits that the quantised features cost under the predicted Gaussian (IAFMNet, section 3.1).

    R_i = -log2 p(F^_i); every value costs between 0 and 29.9 bits. Value and gradient are finite for any finite input,
    and float32 is used inside under autocast.

    Args:
        loss_weight (float): lambda of L = L1 + lambda L_IE.
        reduction (str): how the R_i are reduced to one number. All three are means over the pictures of a batch and
            do not depend on the number of GPUs:
            ``sum``: over C, H and W, as the paper writes it, in bits per picture;
            ``pixel``: over C, in bits per LR pixel;
            ``mean``: none, in bits per value.

    Raises:
        ValueError: when ``reduction`` is unknown.

    Examples:
        >>> net, loss = iafmsr.IAFMNet(num_feat=8, num_block=1), iafmsr.InformationEntropyLoss()
        >>> sr, density = net(torch.rand(1, 3, 8, 8), return_density=True)
        >>> weighted, bits = loss(density)
        >>> weighted.backward()  # trains the estimator
    """

    def __init__(self, loss_weight: float = 1e-4, reduction: str = 'pixel') -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(f'reduction must be one of {", ".join(_REDUCTIONS)}, got {reduction!r}')
        self.loss_weight, self.reduction = loss_weight, reduction

    def forward(self, density: Density) -> tuple[Tensor, Tensor]:
        """The density of a batch -> the weighted loss, and bits per LR pixel without gradient (both scalars)."""
        bits = information(density.features, density.mu, density.theta)
        _, c, h, w = bits.shape
        per_value = bits.sum() / bits.numel()  # the gradient of mean() is a full tensor in another layout than bits
        values = {'sum': c * h * w, 'pixel': c, 'mean': 1}[self.reduction]
        return self.loss_weight * values * per_value, c * per_value.detach()
