"""The guard against steps that are not finite, and the lower precisions that make them likelier."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import built

from iafmsr.errors import UserError
from iafmsr.tools.profiling.overhead import measure_overhead

pytestmark = pytest.mark.usefixtures('bf16_everywhere')

needs_scaler = pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='torch 2.2 scales on CUDA alone')


def batch(name: str, value: float | None = None) -> dict[str, Any]:
    """Two pairs of smooth pictures, a function of the name; ``value`` spoils a pixel of the ground truth."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    lq = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4, generator=generator), size=(16, 16), mode='bilinear')
    gt = torch.nn.functional.interpolate(lq, scale_factor=4, mode='bilinear')
    if value is not None:
        gt[1, 0, 3, 3] = value
    return {'lq': lq, 'gt': gt, 'lq_path': [f'{name}_0.png', f'{name}_1.png']}


def step(model: Any, iteration: int, data: dict[str, Any]) -> None:
    torch.manual_seed(iteration)
    model.feed_data(data)
    model.optimize_parameters(iteration)


def snapshot(model: Any) -> dict[str, Any]:
    return copy.deepcopy({'net': model.net_g.state_dict(), 'adam': model.optimizer_g.state_dict()['state']})


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    return torch.equal(ours, theirs)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('autocast', [None, 'bf16', 'fp16'])
def test_a_bad_loss_changes_neither_weights_nor_moments(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float, autocast: str | None
) -> None:
    model = built(tmp_path, train__autocast=autocast)
    step(model, 1, batch('good'))
    before = snapshot(model)
    step(model, 2, batch('bad', value))
    assert same(snapshot(model), before)
    step(model, 3, batch('better'))
    assert not same(snapshot(model), before)
    logging.getLogger('basicsr').propagate = True
    assert model.get_current_log()['skipped'] == 1
    (message,) = {record.message for record in caplog.records if 'skipped' in record.message}
    assert message == (
        '1 steps skipped, their loss or gradient is not finite; the last: iteration 2 (bad_0.png, bad_1.png)'
    )
    assert all(value.isfinite().all() for value in model.net_g_ema.state_dict().values())


def test_a_bad_gradient_of_a_good_loss_is_seen(tmp_path: Path) -> None:
    model = built(tmp_path)
    step(model, 1, batch('good'))
    before = snapshot(model)
    hook = model.net_g.tail.weight.register_hook(lambda gradient: gradient * float('inf'))
    step(model, 2, batch('good'))
    hook.remove()
    assert same(snapshot(model), before)
    assert model.get_current_log()['skipped'] == 1


def test_without_bad_steps_nothing_is_said(tmp_path: Path) -> None:
    model = built(tmp_path)
    step(model, 1, batch('good'))
    assert 'skipped' not in model.get_current_log()
    assert 'skipped' not in model.get_current_log()  # asked twice


def test_bad_steps_in_a_row_end_the_run_wherever_the_reports_fall(tmp_path: Path) -> None:
    model = built(tmp_path, train__max_bad_steps=3)
    spoiled = [0, 1, 1, 0, 1, 1, 0, 1]
    for iteration, bad in enumerate(spoiled, 1):
        step(model, iteration, batch('x', float('nan') if bad else None))
        if iteration in (3, 5):
            model.get_current_log()
    assert model.get_current_log()['skipped'] == 5
    good = snapshot(model)
    for iteration in (9, 10):
        step(model, iteration, batch('x', float('nan')))
    with pytest.raises(UserError, match='3 in a row stop the run .train.max_bad_steps.') as info:
        model.get_current_log()
    assert 'iteration 10 (x_0.png, x_1.png)' in str(info.value) and '\n' not in str(info.value)
    assert same(snapshot(model), good)  # what a save would hold is good


@needs_scaler
def test_the_search_for_a_scale_is_no_fault(tmp_path: Path) -> None:
    """A scaled gradient overflows, the step is left out and the scale halved; the run is told nothing."""
    model = built(tmp_path, train__autocast='fp16', train__max_bad_steps=1)
    model.guard.scaler._init_scale = 2.0**126
    before = snapshot(model)
    step(model, 1, batch('good'))
    assert same(snapshot(model)['net'], before['net'])
    assert model.guard.scaler.get_scale() == 2.0**125
    assert 'skipped' not in model.get_current_log()


@needs_scaler
def test_the_scale_is_resumed(tmp_path: Path) -> None:
    model = built(tmp_path, train__autocast='fp16')
    step(model, 1, batch('good'))
    model.guard.scaler.update(4096.0)
    other = built(tmp_path, train__autocast='fp16')
    other.guard.load_state_dict(model.guard.state_dict())
    step(other, 1, batch('good'))
    assert other.guard.scaler.get_scale() == 4096


@pytest.mark.parametrize('autocast', [None, 'bf16', 'fp16'])
@pytest.mark.parametrize('ie', [True, False])
def test_200_healthy_iterations_never_trip_it(tmp_path: Path, autocast: str | None, ie: bool) -> None:
    model = built(tmp_path, train__autocast=autocast, train__max_bad_steps=1, **({} if ie else {'train__ie_opt': None}))
    losses = []
    for iteration in range(1, 201):
        step(model, iteration, batch(str(iteration % 7)))
        if iteration % 50 == 0:
            losses.append(model.get_current_log())
    assert 'skipped' not in losses[-1]
    assert losses[-1]['l_pix'] < 0.5 * losses[0]['l_pix'] or losses[-1]['l_pix'] < 0.05
    assert model.output.dtype == torch.float32
    assert model.optimizer_g.state_dict()['state'][0]['step'] == 200


def test_autocast_is_of_the_training_alone(tmp_path: Path) -> None:
    model = built(tmp_path, train__autocast='bf16')
    seen = []
    model.net_g.tail.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    model.net_g_ema.tail.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    step(model, 1, batch('good'))
    model.test()
    assert seen == [torch.bfloat16, torch.float32]


@pytest.mark.skipif(os.environ.get('IAFMSR_FULL') != '1', reason='long form: scripts/test.sh --full')
def test_all_of_it_costs_at_most_2_percent_of_an_iteration() -> None:
    _, _, ratio = measure_overhead('cpu', num_feat=40, size=(64, 64), batch=2, rounds=24)
    assert ratio < 1.02
