"""What makes training faster changes nothing that is trained."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from tiny import built, options

from iafmsr.models.iafmnet_model import IAFMNetModel
from iafmsr.training.checks.check import check_options

pytestmark = pytest.mark.usefixtures('bf16_everywhere')


def batch(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    lq = torch.rand(2, 3, 16, 16, generator=generator)
    return {'lq': lq, 'gt': torch.nn.functional.interpolate(lq, scale_factor=4), 'lq_path': ['a', 'b']}


def step(model: Any, iteration: int) -> None:
    torch.manual_seed(iteration)
    model.feed_data(batch(iteration))
    model.optimize_parameters(iteration)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if 'train.compile' in record.message]


@pytest.fixture(autouse=True)
def logged() -> None:
    logging.getLogger('basicsr').propagate = True


def test_the_average_of_all_parameters_at_once_is_basicsr_s_to_the_bit(tmp_path: Path) -> None:
    model = built(tmp_path, train__ema_decay=0)
    for decay in (0, 0.9, 0.999):
        step(model, 1)
        before = build_network(dict(model.opt['network_g'])) if decay == 0 else model.net_g_ema
        averages = []
        for average in (IAFMNetModel.model_ema, SRModel.model_ema):
            model.net_g_ema = copy.deepcopy(before)
            average(model, decay)
            averages.append(model.net_g_ema.state_dict())
        assert all(torch.equal(value, averages[1][key]) for key, value in averages[0].items())


@pytest.mark.skipif(
    torch.__version__ < '2.4', reason='the compiler of torch 2.2 stops at fractions, and a line says so'
)
def test_a_compiled_network_trains_as_the_network_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By a compiler that writes no code, whose sums are the same: what is tested is what we do around it."""
    calls = []
    compile_net = torch.compile

    def counted(net: torch.nn.Module, mode: str) -> torch.nn.Module:
        calls.append(mode)
        return compile_net(net, backend='eager')

    monkeypatch.setattr(torch, 'compile', counted)
    losses = []
    for mode in (None, 'reduce-overhead'):
        torch.manual_seed(0)
        model = built(tmp_path, train__compile=mode, train__ie_opt=None)
        for iteration in range(1, 5):
            step(model, iteration)
            losses.append(model.get_current_log()['l_pix'])
        assert (model.compiled_net is None) == (mode is None)
    assert calls == ['reduce-overhead']  # once
    assert not warnings(caplog)
    assert losses[:4] == pytest.approx(losses[4:], rel=1e-5) and losses[3] < losses[0]


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails in the backward pass, as compilers do; the samples of noise afterwards are those of a plain run."""

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise UnboundLocalError('buf37 is not there\nand more')

    def broken(net: torch.nn.Module, mode: str) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            sr, density = net(*args, **kwargs)
            return Broken.apply(sr), density

        return run

    states = []
    for mode in (None, 'default'):
        torch.manual_seed(0)
        model = built(tmp_path, train__compile=mode)
        with monkeypatch.context() as patched:
            patched.setattr(torch, 'compile', broken)
            step(model, 1)
            step(model, 2)
        states.append(model.net_g.state_dict())
    assert warnings(caplog) == [
        'train.compile: IAFMNet cannot be compiled for training (UnboundLocalError: buf37 is not '
        'there); it is trained without compilation'
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_modes_of_the_compiler_are_checked() -> None:
    faults = check_options(options('x', train__compile=True), True, '/', files=False).faults
    assert faults == ['train.compile: must be default or reduce-overhead or max-autotune, got True']
    opt = options('x', train__compile='default', train__ie_opt=None) | {'model_type': 'SRModel'}
    assert check_options(opt, True, '/', files=False).faults == [
        'train.compile: SRModel does not use it, IAFMNetModel does'
    ]


def test_bf16_on_a_device_without_it_is_float32_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = []
    for bf16 in (False, True):
        monkeypatch.setattr('iafmsr.models.precision.has_bf16', lambda device, bf16=bf16: bf16)
        for autocast in (None, 'bf16'):
            torch.manual_seed(0)
            model = built(tmp_path, train__autocast=autocast)
            step(model, 1)
            weights.append(torch.cat([parameter.detach().flatten() for parameter in model.net_g.parameters()]))
        lines = [record.message for record in caplog.records if 'autocast' in record.message]
        assert lines == ['train.autocast: this cpu does not support bf16; float32 is used instead']
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[2], weights[3])


@pytest.mark.parametrize('autocast', [None, 'bf16'])
def test_channels_last_is_the_same_network(tmp_path: Path, autocast: str | None) -> None:
    logs = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = built(tmp_path, train__channels_last=channels_last, train__autocast=autocast)
        for iteration in range(1, 4):
            step(model, iteration)
        assert model.lq.is_contiguous(memory_format=model.memory_format)
        logs.append(model.get_current_log())
    assert logs[0].keys() == logs[1].keys()
    assert all(logs[0][key] == pytest.approx(logs[1][key], rel=0.02 if autocast else 1e-4) for key in logs[0])


def test_a_run_goes_on_in_another_layout_of_memory(tmp_path: Path) -> None:
    """The fused optimizer reads weights, gradients and moments side by side as they lie in memory."""
    torch.manual_seed(0)
    before = built(tmp_path)
    step(before, 1)
    state = copy.deepcopy({'optimizers': [before.optimizer_g.state_dict()], 'schedulers': [], 'epoch': 0, 'iter': 1})
    state['schedulers'] = [scheduler.state_dict() for scheduler in before.schedulers]
    weights = []
    for channels_last in (False, True):
        after = built(tmp_path, train__channels_last=channels_last)
        after.net_g.load_state_dict(before.net_g.state_dict())
        after.resume_training(copy.deepcopy(state))
        step(after, 2)
        weights.append(after.net_g.state_dict())
    assert any(value.dim() == 4 and not value.is_contiguous() for value in weights[1].values())
    # a single step by Adam is about the learning rate, 2e-3, whatever the gradient: a moment of another weight shows
    assert all(torch.allclose(value, weights[1][key], rtol=0, atol=1e-4) for key, value in weights[0].items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('autocast', [None, 'bf16', 'fp16'])
def test_nothing_waits_for_the_gpu_between_two_reports(tmp_path: Path, autocast: str | None) -> None:
    model = built(tmp_path, num_gpu=1, train__autocast=autocast)
    step(model, 1)
    data = {key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in batch().items()}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        for iteration in (2, 3):
            model.feed_data(data)
            model.optimize_parameters(iteration)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert model.get_current_log()['l_pix'] > 0
