"""Training steps that are skipped when the loss or a gradient is not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from iafmsr.bridge.basicsr_api import get_root_logger
from iafmsr.errors import UserError

SHOWN = 3  # bad batches that a report names
MAX_WAITING = 100  # steps whose flags and file names wait for a report
MAX_GRADIENT = 1e19  # Adam squares it, in float32


class Step(NamedTuple):
    """What is kept of a step until the next report. The flags are on the device and have not been read yet."""

    iteration: int
    names: list[str]
    bad_loss: Tensor
    bad_gradient: Tensor


class StepGuard:
    """Takes the optimizer's steps, except those whose loss or gradient is not finite.

    The decision is made on the device. The host reads it in :meth:`report`, at the latest after ``max_bad_steps``
    steps. It is the same in every process: a loss that is not finite makes all gradients NaN, and those are averaged
    over the processes. A gradient whose square is not finite counts as not finite, too.

    Under fp16 the loss is scaled, and a step that overflows reduces the scale. Such a step is part of finding the scale
    and no fault. It counts as skipped only if the loss itself is not finite or the scale has fallen below 1.

    Args:
        device: of the parameters. On CUDA a fused optimizer (one that takes ``found_inf``) does not wait for the host.
        scaled: scale the loss, for fp16.
        max_bad_steps: the run stops after this many skipped steps in a row.
        grad_clip: largest norm of all gradients together; larger gradients are scaled down to it. None: no limit.
    """

    def __init__(self, device: torch.device, scaled: bool, max_bad_steps: int, grad_clip: float | None = None) -> None:
        self.device = device
        self.scaler = grad_scaler(device.type, enabled=scaled)
        self.max_bad_steps, self.grad_clip = max_bad_steps, grad_clip
        self.bad_loss: Tensor | None = None  # flag of the backward passes since the last step
        self.skipped = 0
        self.in_a_row = 0
        self.steps: list[Step] = []

    def backward(self, loss: Tensor, share: float = 1) -> None:
        """Backward pass of a loss that counts as this share of the iteration's loss."""
        bad = loss.detach().isfinite().logical_not()
        self.bad_loss = bad if self.bad_loss is None else self.bad_loss | bad
        # the initial gradient is the share, or NaN, which makes all gradients NaN
        self.scaler.scale(loss).backward(torch.full_like(loss, share).masked_fill_(bad, torch.nan))

    def step(self, optimizer: torch.optim.Optimizer, iteration: int, names: list[str]) -> None:
        """Step of an iteration after its backward passes; ``names`` are the files of its batch."""
        bad_loss, self.bad_loss = self.bad_loss, None
        assert bad_loss is not None, 'a backward pass comes first'
        self.scaler.unscale_(optimizer)
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        largest = torch.stack(torch._foreach_norm(gradients, torch.inf)).max()
        bad = (largest < MAX_GRADIENT).logical_not()  # NaN is bad, too
        if self.grad_clip:
            parameters = [p for group in optimizer.param_groups for p in group['params']]
            torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip)
        take_step(optimizer, bad)
        if self.scaler.is_enabled():
            self.scaler.update()
        self.steps.append(Step(iteration, names, bad_loss, bad))
        if len(self.steps) >= min(self.max_bad_steps, MAX_WAITING):
            self.report()

    def report(self) -> dict[str, Tensor]:
        """Read the flags of the steps since the last report; skipped ones are logged with their files.

        Returns:
            ``skipped``, the steps skipped in the whole run, once there are any.

        Raises:
            UserError: :attr:`max_bad_steps` in a row were skipped.
        """
        if not self.steps:
            return self.counted()
        steps, self.steps = self.steps, []
        bad_loss, bad = (torch.stack(flags) for flags in zip(*[step[2:] for step in steps], strict=True))
        if dist.is_initialized():
            dist.all_reduce(bad_loss := bad_loss.int(), dist.ReduceOp.MAX)
        if self.scaler.is_enabled() and self.scaler.get_scale() >= 1:
            bad = bad_loss
        flags = bad.bool().tolist()
        faults = [step for step, flag in zip(steps, flags, strict=True) if flag]
        self.skipped += len(faults)
        streak = self.in_a_row
        for flag in flags:
            streak = streak + 1 if flag else 0
            self.in_a_row = max(self.in_a_row, streak) if flag else self.in_a_row
        longest, self.in_a_row = self.in_a_row, streak
        if faults:
            message = f'{len(faults)} steps skipped, their loss or gradient is not finite; the last: ' + '; '.join(
                f'iteration {step.iteration} ({", ".join(self.names_of(step))})' for step in faults[-SHOWN:]
            )
            if longest >= self.max_bad_steps:
                raise UserError(
                    f'{message}. {longest} in a row stop the run (train.max_bad_steps); the last state saved is good'
                )
            get_root_logger().warning(message)
        return self.counted()

    def counted(self) -> dict[str, Tensor]:
        return {'skipped': torch.tensor(float(self.skipped), device=self.device)} if self.skipped else {}

    def names_of(self, step: Step) -> list[str]:
        """The files of a step's batch, those of every process."""
        if not dist.is_initialized():
            return step.names
        everywhere: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everywhere, step.names)
        return [name for names in everywhere for name in names]

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {'scaler': self.scaler.state_dict(), 'skipped': self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state['scaler'] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state['scaler'])
        self.skipped = state['skipped']


def guard_options(train: dict[str, Any]) -> dict[str, Any]:
    """The options of a guard in the section ``train``."""
    return {'max_bad_steps': train.get('max_bad_steps') or 10, 'grad_clip': train.get('grad_clip')}


def grad_scaler(device: str, enabled: bool) -> Any:
    """torch's gradient scaler. torch 2.2 has it for CUDA only; on a CPU nothing is scaled there."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(device, enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled and device == 'cuda')


def take_step(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """A step of the optimizer, which changes nothing, its own moments included, when ``bad`` (a bool scalar) is true.

    On a CPU the flag can be read at once. On CUDA it is passed to a fused optimizer, so that the host does not wait;
    for other optimizers the host waits for the flag.
    """
    if bad.device.type == 'cpu' or not getattr(optimizer, '_step_supports_amp_scaling', False):
        if not bad:
            optimizer.step()
    else:
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
