"""Muon: an optimizer whose updates have the same size in all directions of a matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# coefficients of a polynomial that brings all singular values to about 1 in five steps (Jordan et al.)
_STEPS, (_A, _B, _C) = 5, (3.4445, -4.7750, 2.0315)
_EPS = 1e-7
_FUSED_ON_CPU = hasattr(torch.amp, 'is_autocast_available')  # both came with torch 2.4
_RMS = 0.2  # RMS of a 1x1 kernel's update, divided by the learning rate, as in Adam (Liu et al.)


class Muon(torch.optim.Optimizer):
    """Muon for convolutions that mix channels; Adam for all else: biases, depthwise kernels, GDN, strengths.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix (Jordan et al., Muon: An optimizer for
    hidden layers in neural networks, 2024), scaled to the size of Adam's updates, so that both share a learning rate
    (Liu et al., Muon is Scalable for LLM Training, 2025, section 2.2). For k x k kernels it is divided by k^2: the
    taps see nearly the same in smooth areas, so that their steps add up (Pethick et al., Training Deep Learning Models
    with Norm-Constrained LMOs, 2025). Short training runs gain most from Muon (docs/training.md).

    Args:
        params: parameters. Muon updates those of four dimensions with more than one input channel per group,
            (O, I, K, K), as matrices (O, I K K).
        lr (float): learning rate.
        betas (tuple[float, float]): Adam's.
        momentum (float): Muon's, in [0, 1), with Nesterov's look ahead.
        weight_decay (float): each step multiplies Muon's matrices by 1 - lr weight_decay first. Without it they grow as
            long as the training lasts, and colours that no training picture shows come out wrong.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f'momentum must be in [0, 1), got {momentum}')
        if not 0 <= lr * weight_decay < 1:
            raise ValueError(f'lr times weight_decay must be in [0, 1), got {lr} times {weight_decay}')
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for p in params:
            (matrices if p.dim() == 4 and p.shape[1] > 1 else others).append(p)
        self.adam = torch.optim.Adam([{'params': others}], lr, betas, fused=has_fused(others))
        groups: list[dict[str, Any]] = [
            {'params': matrices, 'momentum': momentum, 'weight_decay': weight_decay},
            {'params': others},
        ]
        super().__init__(groups, self.adam.defaults)
        self._step_supports_amp_scaling = True  # torch's flag for optimizers that take found_inf

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. As with the fused Adam, nothing changes where ``found_inf`` is set and not 0."""
        matrices, others = self.param_groups
        # resuming replaces the groups and the state that were created at the start
        self.adam.param_groups, self.adam.state = [others], self.state
        skip = getattr(self, 'found_inf', None)
        if self.adam.defaults['fused']:
            self.adam.found_inf = skip  # type: ignore[attr-defined]
        elif skip is not None and skip > 0:  # torch's other kinds of Adam do not take it
            return None
        loss = self.adam.step(closure)
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in matrices['params']:
            if p.grad is not None:
                alike[p.shape].append((p, p.grad))
        for pairs in alike.values():  # together: a network has many small matrices of few shapes
            parameters, grads = map(list, zip(*pairs, strict=True))
            self._step(parameters, torch.stack(grads), matrices['lr'], matrices['momentum'], matrices['weight_decay'])
        return loss

    def _step(self, parameters: list[Tensor], grad: Tensor, lr: float, momentum: float, decay: float) -> None:
        for p in parameters:
            self.state[p].setdefault('momentum_buffer', torch.zeros_like(p))
        buffers = [self.state[p]['momentum_buffer'] for p in parameters]
        before = torch.stack(buffers)
        average = before.lerp(grad, 1 - momentum)
        matrices = grad.lerp(average, momentum).flatten(2)
        keep: float | Tensor = 1 - lr * decay
        size = _RMS * max(matrices.shape[1:]) ** 0.5 / grad.shape[3:].numel()
        update = size * orthogonal(matrices).view(grad.shape)
        if (skip := getattr(self, 'found_inf', None)) is not None:
            average = torch.where(skip > 0, before, average)
            update = update.masked_fill(skip > 0, 0)
            keep = torch.where(skip > 0, 1.0, 1 - lr * decay)
        torch._foreach_copy_(buffers, list(average))
        if decay:
            torch._foreach_mul_(parameters, keep)
        torch._foreach_add_(parameters, list(update), alpha=-lr)


def has_fused(parameters: list[Tensor]) -> bool | None:
    """Whether torch has the fused kind of Adam for parameters: on a CPU it came with torch 2.4. None leaves the choice
    to torch."""
    on_cpu = all(p.device.type == 'cpu' for p in parameters)
    return True if not on_cpu or _FUSED_ON_CPU else None


def orthogonal(matrices: Tensor) -> Tensor:
    """Each of (N, O, I) with its singular values brought to about 1 (0.7 to 1.2), by Newton and Schulz's iteration."""
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + _EPS)
    wide = x.mT if x.shape[1] > x.shape[2] else x
    for _ in range(_STEPS):
        square = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(square, square, square, beta=_B, alpha=_C), wide, beta=_A)
    return wide.mT if x.shape[1] > x.shape[2] else wide
