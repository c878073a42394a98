"""Two processes are one with twice the batch, under every option; what no loss trains is announced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TORCHRUN, built

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.models.usage import unused_parameters

# Run by torchrun: each case as two ranks with a batch of 2 and, in rank 0, as one process with 4; rank 0 reports.
TWO_RANKS = """
import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import iafmsr
iafmsr.register()
import torch
import torch.distributed as dist
from basicsr.models import build_model
from basicsr.utils import options as basicsr_options
from iafmsr.layers import density, idm
from tiny import options

CASES = {
    'as published': {},
    'no entropy loss': {'train__ie_opt': None},
    'detached map': {'network_g__detach_idm': True},
    'detached map and features, no entropy loss': {
        'network_g__detach_idm': True, 'network_g__detach_features': True, 'train__ie_opt': None},
    'in parts, clipped': {'train__accumulate': 2, 'train__grad_clip': 0.01, 'network_g__k_of': 'picture'},
    'routed': {'network_g__num_routed': 1, 'network_g__least_budget': 0.3},  # the share of rank 0, one top k for both
    'another arch': {'train__ie_opt': None, 'network_g': {
        'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}},
}
torch.set_default_dtype(torch.float64)  # a missing sample must not hide behind rounding
generator = torch.Generator().manual_seed(0)
LQ, GT = torch.rand(4, 3, 16, 16, generator=generator), torch.rand(4, 3, 64, 64, generator=generator)
NOISE = torch.rand(4, 8, 16, 16, generator=generator)
RAND_LIKE = torch.rand_like


def gradients(opt, dist_on, share):
    opt = copy.deepcopy(opt) | {'rank': dist.get_rank(), 'world_size': dist.get_world_size(), 'dist': dist_on,
                                'is_train': True}
    torch.manual_seed(opt['rank'])  # DDP has to bring the ranks together
    torch.rand_like = RAND_LIKE
    density.parallel = idm.parallel = lambda: dist_on  # one process would have no other to ask
    model = build_model(opt)
    parts = opt['train'].get('accumulate')
    torch.rand_like = lambda x: torch.full_like(x, 0.3) if parts else NOISE[share]  # the noise of quantisation
    model.feed_data({'lq': LQ[share], 'gt': GT[share], 'lq_path': [f'rank{opt["rank"]}.png']})
    if parts:
        model.optimize_parameters(1)
    else:
        sum(model.compute_losses(1)[0].values()).backward()
    return model, {name: p.grad for name, p in model.get_bare_model(model.net_g).named_parameters()}


basicsr_options.init_dist('pytorch')
rank, report = dist.get_rank(), {}
for name, changes in CASES.items():
    opt = options('x', **changes)
    model, two = gradients(opt, True, slice(rank, None, 2))
    _, one = gradients(opt, False, slice(None))
    report[name] = max(float((two[key] - g).abs().max() / g.abs().max()) for key, g in one.items() if g is not None)

# a loss that is not finite in one rank alone: all ranks leave the step out, and the files are named in rank 0
opt = options('x')
model, _ = gradients(opt, True, slice(rank, None, 2))
before = copy.deepcopy(model.net_g.state_dict())
for iteration in (1, 2):
    if rank == 1 and iteration == 2:
        model.gt[0, 0, 0, 0] = float('nan')
    model.optimize_parameters(iteration)
    if iteration == 1:
        before = copy.deepcopy(model.net_g.state_dict())
unchanged = all(torch.equal(value, before[key]) for key, value in model.net_g.state_dict().items())
warnings = []
from iafmsr.models import guard
guard.get_root_logger = lambda: type('Log', (), {'warning': staticmethod(warnings.append)})
skipped = model.get_current_log()['skipped'] if rank == 0 else model.get_current_log()
everyone = [None, None]
dist.all_gather_object(everyone, unchanged)
if rank == 0:
    Path(sys.argv[1]).write_text(json.dumps({'errors': report, 'unchanged': everyone, 'warnings': warnings,
                                             'skipped': skipped}))
dist.barrier()
"""


@pytest.fixture(scope='module')
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp('ranks')
    (folder / 'two_ranks.py').write_text(TWO_RANKS)
    done = subprocess.run(
        [
            sys.executable,
            *TORCHRUN,
            str(folder / 'two_ranks.py'),
            str(folder / 'report.json'),
            str(Path(__file__).parent),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
    )
    assert done.returncode == 0, done.stdout
    return json.loads((folder / 'report.json').read_text())


def test_gradients_are_those_of_one_process_with_both_batches(report: dict[str, Any]) -> None:
    assert len(report['errors']) == 7
    assert all(error < 1e-6 for error in report['errors'].values()), report['errors']


def test_a_bad_loss_in_one_rank_is_skipped_by_all_and_named(report: dict[str, Any]) -> None:
    assert report['unchanged'] == [True, True]
    assert report['skipped'] == 1
    assert report['warnings'] == [
        '1 steps skipped, their loss or gradient is not finite; the last: iteration 2 (rank0.png, rank1.png)'
    ]


@pytest.mark.parametrize('detached', [False, True])
@pytest.mark.parametrize('with_density', [False, True])
def test_parameters_that_no_loss_trains_are_found(detached: bool, with_density: bool) -> None:
    net = IAFMNet(num_feat=8, num_block=1, guide='density', detach_idm=detached)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    unused = unused_parameters(net, 3, with_density)
    assert torch.equal(torch.get_rng_state(), before)
    assert all('theta' in name for name in unused)
    assert bool(unused) == (detached and not with_density)


def test_validation_goes_round_the_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through DistributedDataParallel rank 0 would broadcast the network's buffers alone, and wait for ever."""
    model = built(tmp_path, train__ema_decay=0)
    model.net_g = torch.nn.DataParallel(model.net_g)
    monkeypatch.setattr(torch.nn.DataParallel, 'forward', lambda *args: pytest.fail('called through the wrapper'))
    model.feed_data({'lq': torch.rand(1, 3, 8, 8)})
    model.test()
    assert model.output.shape == (1, 3, 32, 32)
    assert isinstance(model.net_g, torch.nn.DataParallel) and model.net_g.training
