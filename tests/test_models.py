"""The model class trains IAFMNet with its entropy loss and other archs without; BasicSR's own classes train IAFMNet."""

import copy

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import DataLoader, Dataset

from iafmsr.errors import UserError

IAFMNET = {'type': 'IAFMNet', 'scale': 4, 'num_feat': 8, 'num_block': 1}
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}
ADAM = {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}
METRICS = {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}}


def options(model_type: str, network: dict, **extra) -> dict:
    opt = {
        'name': 'test',
        'model_type': model_type,
        'scale': 4,
        'num_gpu': 0,
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'network_g': network,
        'path': {},
        'train': {
            'ema_decay': 0.9,
            'optim_g': ADAM,
            'total_iter': 100,
            'pixel_opt': {'type': 'L1Loss'},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [100], 'eta_min': 1e-5},
        },
        'val': {'metrics': METRICS},
        **extra,
    }
    return copy.deepcopy(opt)


def with_entropy_loss(network: dict, **ie) -> dict:
    opt = options('IAFMNetModel', network)
    opt['train']['ie_opt'] = {'type': 'InformationEntropyLoss', **ie}
    return opt


def batch(size: int = 16) -> dict:
    torch.manual_seed(0)
    return {'lq': torch.rand(2, 3, size, size), 'gt': torch.rand(2, 3, 4 * size, 4 * size)}


def train(model, iterations: int = 4) -> list[dict]:
    logs = []
    for i in range(1, iterations + 1):
        model.update_learning_rate(i)
        model.feed_data(batch())
        model.optimize_parameters(i)
        logs.append(dict(model.get_current_log()))
    return logs


def test_both_losses_are_trained_and_logged():
    torch.manual_seed(0)
    model = build_model(with_entropy_loss(IAFMNET, loss_weight=0.5, reduction='pixel'))
    before = copy.deepcopy(model.net_g.state_dict())
    logs = train(model)
    assert set(logs[0]) == {'l_ie', 'l_pix', 'bpp', 'active', 'idm_spread'}
    assert logs[0]['l_ie'] == pytest.approx(0.5 * logs[0]['bpp'], rel=1e-5)
    assert logs[0]['active'] == pytest.approx(13 / 256)  # floor(0.05 * 256 + 0.5) sites
    assert logs[0]['idm_spread'] > 0
    assert logs[-1]['l_ie'] + logs[-1]['l_pix'] < logs[0]['l_ie'] + logs[0]['l_pix']
    moved = [k for k, v in model.net_g.state_dict().items() if not torch.equal(v, before[k])]
    assert moved == list(before)


@pytest.mark.parametrize('network', [IAFMNET, EDSR], ids=lambda n: n['type'])
def test_without_entropy_loss_any_arch_trains_as_under_srmodel(network):
    results = []
    for model_type in ('IAFMNetModel', 'SRModel'):
        torch.manual_seed(0)
        model = build_model(options(model_type, network))
        torch.manual_seed(1)
        logs = train(model)
        results.append((logs, model.net_g.state_dict(), model.net_g_ema.state_dict()))
    for ours, theirs in zip(*(result[0] for result in results), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    for ours, theirs in zip(results[0][1:], results[1][1:], strict=True):  # our optimizer rounds elsewhere
        assert all(torch.allclose(ours[k], theirs[k], rtol=0, atol=1e-5) for k in theirs)


def test_entropy_loss_wants_an_arch_with_a_density():
    with pytest.raises(UserError, match='train.ie_opt: needs a density, EDSR'):
        build_model(with_entropy_loss(EDSR))


def test_runs_under_esrgan():
    opt = options(
        'ESRGANModel',
        IAFMNET,
        network_d={'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 4, 'input_size': 128},
    )
    opt['train'].update(
        optim_d=ADAM,
        net_d_iters=1,
        net_d_init_iters=0,
        gan_opt={'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 5e-3},
    )
    model = build_model(opt)
    model.feed_data(batch(32))
    model.optimize_parameters(1)
    assert {'l_g_pix', 'l_g_gan', 'l_d_real'} <= set(model.get_current_log())
    assert all(np.isfinite(v) for v in model.get_current_log().values())


def test_runs_under_realesrnet():
    model = build_model(options('RealESRNetModel', IAFMNET, queue_size=4, high_order_degradation=False))
    assert all(np.isfinite(log['l_pix']) for log in train(model, 2))


class Pictures(Dataset):
    """Two pictures, with ground truth or without."""

    def __init__(self, name: str, with_gt: bool) -> None:
        self.opt = {'name': name, 'dataroot_gt': 'somewhere'} if with_gt else {'name': name}
        self.keys = ('lq', 'gt') if with_gt else ('lq',)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> dict:
        return {'lq_path': f'{i}.png', **{k: v[i] for k, v in batch().items() if k in self.keys}}


def test_validation_is_logged_within_the_run_and_leaves_sets_without_gt_unmeasured(monkeypatch):
    model = build_model(with_entropy_loss(IAFMNET))
    logged = []
    monkeypatch.setattr(
        type(model),
        '_log_validation_metric_values',
        lambda self, current_iter, name, _: logged.append((current_iter, name)),
    )
    for name, with_gt in (('a', True), ('b', False), ('c', True)):
        model.validation(DataLoader(Pictures(name, with_gt)), 102, None)
    assert logged == [(100, 'a'), (100, 'c')]  # BasicSR calls with total_iter + 2 at the end
