"""Training with the information entropy loss, on BasicSR's SRModel."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.bridge.basicsr_api import MODEL_REGISTRY, SRModel, build_network
from iafmsr.errors import UserError
from iafmsr.layers.density import Density
from iafmsr.layers.idm import InformationDensity
from iafmsr.models.channels import channels_of
from iafmsr.models.compilation import compiled_or_not
from iafmsr.models.guard import StepGuard, guard_options
from iafmsr.models.losses.terms import Losses, Seen
from iafmsr.models.optimizers import build_optimizer
from iafmsr.models.precision import usable
from iafmsr.models.teacher import Teacher
from iafmsr.nets.tiles import in_tiles
from iafmsr.nets.trained import to_gray

_PICTURES = ('lq', 'gt', 'gt_usm', 'taught')  # of a batch


@MODEL_REGISTRY.register()
class IAFMNetModel(SRModel):
    """SRModel whose loss is the sum of any number of losses: those with their own section, and ``train.losses``.

    ``train.ie_opt`` is the information entropy loss, ``train.fft_opt`` the frequency loss of SAFMN and SMFANet. If one
    of the losses uses the density, ``net(lq, return_density=True)`` must return ``(sr, density)``. Otherwise any
    arch of BasicSR can be trained, as with SRModel. Logged besides the losses: ``bpp`` (bits per LR pixel), ``active``
    (share of active sites) and ``idm_spread`` (standard deviation of the map over its mean, within a picture). They are
    averaged over the processes, and read from the device, only when they are logged, not in every iteration.

    ``train.teacher`` adds ``l_teacher``, the distance from a teacher's picture, see
    :class:`~iafmsr.models.teacher.Teacher`; its weight depends only on the iteration.

    Further options: ``train.optim_g.type``, a name of torch.optim or ``Muon``, see
    :class:`~iafmsr.models.muon.Muon`;
    ``train.autocast``, ``bf16`` (where the device has it) or ``fp16`` for the forward pass in training (the losses are
    computed in float32); ``train.channels_last``, the layout of weights and pictures in memory (equal up to rounding);
    ``train.compile``, torch.compile's mode, see :func:`~iafmsr.models.compilation.compiled_or_not`;
    ``train.max_bad_steps`` (10) and ``train.grad_clip``, see :class:`~iafmsr.models.guard.StepGuard`;
    ``train.accumulate``, the parts of a batch that go through the network one after the other.

    A network of one channel is trained and validated on gray pictures: luma of the full range, 0 to 1.

    Between two reports of the losses, the host does not wait for the device: batches are copied asynchronously, and
    the device decides whether a step is taken.

    Raises:
        UserError: when a loss uses the density, but the arch does not return one.
    """

    @property
    def memory_format(self) -> torch.memory_format:
        channels_last = self.opt.get('train', {}).get('channels_last')
        return torch.channels_last if channels_last else torch.contiguous_format

    def init_training_settings(self) -> None:
        train = self.opt['train']
        self.net_g.train()
        self.losses = Losses(train, self.device)
        self.teacher = Teacher(**train['teacher']) if train.get('teacher') else None
        if self.teacher and self.teacher.net is not None:
            self.teacher.net.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        forward = self.get_bare_model(self.net_g).forward
        self.with_density, self.with_average = self.losses.need('density'), self.losses.need('average')
        if self.with_density and 'return_density' not in inspect.signature(forward).parameters:
            raise UserError(f'{self.with_density[0]}: needs a density, {self.opt["network_g"]["type"]} gives none')
        self.precision = usable(train.get('autocast'), self.device)
        self.compile_mode = train.get('compile')
        self.compiled_net: nn.Module | None = None
        self.guard = StepGuard(self.device, self.precision == torch.float16, **guard_options(train))
        self.taught: Tensor | None = None  # the teacher's picture that came with the batch
        self.stateful: dict[str, Any] = {'guard': self.guard}
        self.ema_decay = train.get('ema_decay', 0)
        if self.ema_decay > 0:
            self.start_average()
        self.setup_optimizers()
        self.setup_schedulers()

    def start_average(self) -> None:
        """Start the moving average of the weights, from the weights of a file or from the network's own."""
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        path = self.opt['path']
        strict, file = path.get('strict_load_g', True), path.get('pretrain_network_g')
        if file is not None:
            self.load_network(self.net_g_ema, file, strict, 'params_ema')
        if file is None or (not strict and not path.get('resume_state')):
            self.model_ema(0)  # what the file lacks is random: the average starts from the same numbers
        self.net_g_ema.eval()

    def model_to_device(self, net: nn.Module) -> nn.Module:
        return super().model_to_device(net.to(memory_format=self.memory_format))  # type: ignore[call-overload]

    def get_optimizer(self, optim_type: str, params: list[Tensor], lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        return build_optimizer(optim_type, list(params), lr, **kwargs)  # SRGANModel gives an iterator

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        for optimizer in self.optimizers:
            for parameter, moments in optimizer.state.items():
                for name, value in moments.items():
                    if (
                        isinstance(value, Tensor) and value.shape == parameter.shape
                    ):  # in the parameter's layout: fused optimizers go by positions in memory
                        moments[name] = torch.empty_like(parameter).copy_(value)

    def feed_data(self, data: dict[str, Any]) -> None:
        self.lq = self.picture(data['lq']).contiguous(memory_format=self.memory_format)
        if 'gt' in data:
            self.gt = self.picture(data['gt'])
        if 'teacher' in data:
            self.taught = self.picture(data['teacher'])
        self.names = list(data.get('lq_path', ()))

    def picture(self, pictures: Tensor) -> Tensor:
        """Pictures on the device, gray for a network of one channel."""
        pictures = pictures.to(self.device, non_blocking=True)
        return to_gray(pictures) if self.channels == 1 and pictures.shape[1] == 3 else pictures

    @cached_property
    def channels(self) -> int | None:
        """Channels of the network's pictures; None if its keywords do not name them."""
        return channels_of(self.opt['network_g'])

    def set_share(self, k: float) -> None:
        """Set the share of active sites to k, also in the files of weights that are saved from now on."""
        if self.opt['network_g'].get('k') == k:
            return
        self.opt['network_g']['k'] = k
        for net in (self.get_bare_model(self.net_g), getattr(self, 'net_g_ema', None)):
            for density in (part for part in (net.modules() if net else ()) if isinstance(part, InformationDensity)):
                density.k = k

    def optimize_parameters(self, current_iter: int) -> None:
        if self.compile_mode:
            self.compile(current_iter)
        self.optimizer_g.zero_grad()
        parts = int(self.opt['train'].get('accumulate') or 1)
        values: list[dict[str, Tensor]] = []
        for _ in self.parts(parts):
            losses, measures = self.compute_losses(current_iter)
            self.guard.backward(_total(losses), 1 / parts)
            values.append({key: value.detach() for key, value in (losses | measures).items()})
        self.guard.step(self.optimizer_g, current_iter, self.names)
        self.values = {key: torch.stack([part[key] for part in values]).mean(0) for key in values[0]}
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def parts(self, count: int) -> Generator[int, None, None]:
        """Replace the batch by each of its ``count`` parts in turn. Processes synchronise only in the last part."""
        whole = {
            name: value for name in _PICTURES if isinstance(value := getattr(self, name, None), Tensor) and count > 1
        }
        try:
            for number in range(count):
                for name, value in whole.items():
                    setattr(self, name, value.chunk(count)[number])
                alone = self.opt['dist'] and number < count - 1
                with self.net_g.no_sync() if alone else nullcontext():
                    yield number
        finally:
            for name, value in whole.items():
                setattr(self, name, value)

    def compile(self, current_iter: int) -> None:
        """Compile the network for the shapes of the first batch, and mark for CUDA graphs where a step begins."""

        def try_out(net: nn.Module) -> None:
            self.compiled_net = net
            with closing(self.parts(int(self.opt['train'].get('accumulate') or 1))) as parts:
                next(parts)
                _total(self.compute_losses(current_iter)[0]).backward()

        if self.compiled_net is None:
            self.compiled_net = compiled_or_not(self.net_g, self.compile_mode, try_out)
        torch.compiler.cudagraph_mark_step_begin()

    def model_ema(self, decay: float = 0.999) -> None:
        """As in SRModel, bit for bit, but for all parameters at once; buffers are copied from the network."""
        averages, values = (
            [p.data for p in self.get_bare_model(net).parameters()] for net in (self.net_g_ema, self.net_g)
        )
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, values, alpha=1 - decay)
        for kept, value in zip(self.net_g_ema.buffers(), self.get_bare_model(self.net_g).buffers(), strict=True):
            kept.copy_(value)

    def get_current_log(self) -> OrderedDict[str, float]:
        return self.reduce_loss_dict(OrderedDict(self.values | self.guard.report()))

    def compute_losses(self, current_iter: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One forward pass: the weighted losses, whose sum is minimised, and the values that are only logged."""
        net = self.net_g if self.compiled_net is None else self.compiled_net
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            output = net(self.lq, return_density=True) if self.with_density else net(self.lq)
        output, density = output if self.with_density else (output, None)
        self.output = output.float() if self.precision else output
        losses, measures = self.losses(self.seen(density), self.target, current_iter)
        if self.teacher and self.teacher.weight_at(current_iter):
            losses['l_teacher'] = self.teacher.loss(self.output, self.aim(self.teacher), current_iter)
        if density is not None:
            idm = density.idm.detach().flatten(1)
            measures['active'] = density.mask.float().mean()
            measures['idm_spread'] = (idm.std(1, correction=0) / idm.mean(1)).mean()
        return losses, measures

    def seen(self, density: Density | None) -> Seen:
        """The values that the losses are computed from."""
        average = None
        if self.with_average:
            with torch.no_grad():
                average = self.net_g_ema(self.lq)
        return Seen(self.output, self.lq, density, average)

    def target(self, name: str) -> Tensor:
        """The target picture of the loss called ``name``, (B, C, sH, sW)."""
        return self.gt

    def aim(self, teacher: Teacher) -> Tensor:
        """The teacher's picture of the batch, (B, 3, sH, sW), float32."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            return teacher.picture(self.lq, self.taught)

    def test(self) -> None:
        if not (tile := (self.opt.get('val') or {}).get('tile')):
            super().test()
            return
        net = getattr(self, 'net_g_ema', self.get_bare_model(self.net_g))
        self.output = in_tiles(net, self.lq, self.opt['scale'], tile)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        # BasicSR's last validation comes with an iteration number past the run's end
        if self.is_train:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        super().validation(dataloader, current_iter, tb_logger, save_img)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return functools.reduce(torch.add, losses.values())
