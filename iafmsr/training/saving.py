"""What a run saves: only good weights count, and what cannot be saved is said."""

from __future__ import annotations

from typing import Any

import torch

from iafmsr.bridge.basicsr_api import get_root_logger
from iafmsr.errors import UserError
from iafmsr.models.channels import channels_of
from iafmsr.training.checkpoints import clear_away

Options = dict[str, Any]
_SIDE = 32  # of the picture that weights are tried on


class Saver:
    """Saves the checkpoints of a run.

    Args:
        opt: of the run.
        model: of BasicSR.
        saved_at: iteration of the state that the run has resumed from.
    """

    def __init__(self, opt: Options, model: Any, saved_at: int | None = None) -> None:
        self.opt, self.model, self.saved_at = opt, model, saved_at

    def regular(self, epoch: int, iteration: int) -> bool:
        """Save, and clear away what is too old, unless steps are being skipped: then the states before are the good
        ones. Returns whether it was saved.

        Raises:
            UserError: too many steps were skipped in a row.
        """
        if guard := getattr(self.model, 'guard', None):
            guard.report()
            if guard.in_a_row:
                get_root_logger().error(f'Iteration {iteration} is not saved: its step was skipped.')
                return False
        return self.save(epoch, iteration)

    def save(self, epoch: int, iteration: int) -> bool:
        """Save an iteration and return whether it was saved; a fault is logged, the next save tries again."""
        fault = self._try(epoch, iteration)
        if fault:
            get_root_logger().error(
                f'Iteration {iteration} could not be saved: {fault}. The last good state is kept; '
                'the run goes on and tries again at its next save.'
            )
            return False
        self.saved_at = iteration
        if self.opt['rank'] == 0:
            clear_away(self.opt, self.opt['logger'].get('keep_last'))
        return True

    def best(self) -> None:
        """Save the weights as the best."""
        if fault := self._try(-1, 'best'):
            get_root_logger().error(f'The best weights could not be saved: {fault}.')

    def latest(self) -> None:
        """Save the final weights.

        Raises:
            UserError: they could not be saved, or too many steps were skipped in a row.
        """
        if guard := getattr(self.model, 'guard', None):
            guard.report()
        if fault := self._try(-1, -1):
            raise UserError(f'the final weights could not be saved: {fault}; the last good state is kept')

    def _try(self, epoch: int, iteration: int | str) -> str | None:
        """Save; None, or why nothing was saved."""
        if self.opt['rank'] == 0 and (fault := fault_of_weights(self.model)):
            return fault
        try:
            self.model.save(epoch, iteration)
        except OSError as error:
            return error.strerror or str(error)
        return None


@torch.no_grad()
def fault_of_weights(model: Any) -> str | None:
    """Why the weights of a model are no good: they are not finite, or what they make of a plain picture is not, or is
    so large that its square is not. None if they are good."""
    for name in ('net_g', 'net_g_ema'):
        net = getattr(model, name, None)
        if net is None:
            continue
        net = model.get_bare_model(net)
        values = [value for value in net.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            return f'{name} has weights that are not finite'
        if not _has_finite_result(net, channels_of(model.opt['network_g']) or 3):
            return f'{name} has weights whose results are not finite'
    return None


def _has_finite_result(net: torch.nn.Module, channels: int) -> bool:
    picture = torch.linspace(0, 1, channels * _SIDE**2, device=next(net.parameters()).device)
    training = net.training
    net.eval()
    try:
        return bool(net(picture.view(1, channels, _SIDE, _SIDE)).square().mean().isfinite())
    except RuntimeError:  # a net that takes no picture of this size: nothing is known
        return True
    finally:
        net.train(training)
