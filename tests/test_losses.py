"""Losses: each is its formula, in any number and from any iteration; what they need is asked for before a run."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import option_cases
import pytest
import test_download
import torch
from basicsr.losses import build_loss
from basicsr.models import build_model
from option_cases import changed
from test_models import EDSR, IAFMNET, batch, options, train
from torch import Tensor, nn

from iafmsr.bridge.vgg import check_vgg
from iafmsr.errors import UserError
from iafmsr.layers.density import information
from iafmsr.models.usage import announce_unused_parameters
from iafmsr.training.checks.check import check_options

serve = test_download.serve
parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
LAYERS = {'conv1_1': 0.5, 'conv1_2': 2.0}


@pytest.fixture(autouse=True)
def small_vgg(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """A VGG of four channels in the place of torchvision's, whose weights are half a gigabyte."""
    torch.manual_seed(1)
    features = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    monkeypatch.setattr('basicsr.archs.vgg_arch.vgg.vgg19', lambda pretrained: SimpleNamespace(features=features))
    return features


# -- formulas ---------------------------------------------------------------------------------------------------------
def fourier(x: Tensor) -> Tensor:
    """The first W // 2 + 1 columns of the discrete Fourier transform, by its matrices."""
    rows, columns = (
        torch.exp(-2j * math.pi * torch.outer(torch.arange(n), torch.arange(n)).double() / n) for n in x.shape[2:]
    )
    return torch.view_as_real((rows @ x.to(rows.dtype) @ columns)[..., : x.shape[3] // 2 + 1].resolve_conj())


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """The mean of SSIM over all windows of 11x11, one by one."""
    g = torch.exp(-((torch.arange(11) - 5.0).double() ** 2) / (2 * 1.5**2))
    weights = torch.outer(g, g).flatten() / g.sum() ** 2
    a, b = ((255 * p).unfold(2, 11, 1).unfold(3, 11, 1).flatten(4) for p in (x, y))
    mean_a, mean_b = (a * weights).sum(-1), (b * weights).sum(-1)
    var_a, var_b = ((weights * (v - m[..., None]) ** 2).sum(-1) for v, m in ((a, mean_a), (b, mean_b)))
    both = (weights * (a - mean_a[..., None]) * (b - mean_b[..., None])).sum(-1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.mean()


def artifacts(sr: Tensor, gt: Tensor, average: Tensor) -> Tensor:
    """M of LDL: the fifth root of the residual's variance in the picture, times that in a window of 7x7."""
    residual, other = ((gt - p).abs().sum(1, keepdim=True) for p in (sr, average))
    padded = nn.functional.pad(residual, (3, 3, 3, 3), mode='reflect')
    local = padded.unfold(2, 7, 1).unfold(3, 7, 1).flatten(4).var(-1)
    return torch.where(residual < other, 0, residual.flatten(1).var(1)[:, None, None, None] ** 0.2 * local)


def vgg(x: Tensor, features: list[nn.Module]) -> list[Tensor]:
    mean, std = (torch.tensor(v).double()[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = features[0]((x - mean) / std)
    return [first, features[2](first.relu())]


def formula(name: str, sr: Tensor, gt: Tensor, lq: Tensor, average: Tensor, density: Any, features: Any) -> Tensor:
    if name == 'L1Loss':
        return (sr - gt).abs().mean()
    if name == 'CharbonnierLoss':
        return ((sr - gt) ** 2 + 1e-12).sqrt().mean()
    if name == 'WeightedTVLoss':
        return (sr[:, :, 1:] - sr[:, :, :-1]).abs().mean() + (sr[..., 1:] - sr[..., :-1]).abs().mean()
    if name == 'FFTLoss':
        return (fourier(sr) - fourier(gt)).abs().mean()
    if name == 'SSIMLoss':
        return 1 - ssim(sr, gt)
    if name == 'LDLLoss':
        return (artifacts(sr, gt, average) * (sr - gt)).abs().mean()
    if name == 'UncertaintyLoss':
        s = density.idm - density.idm.amin((2, 3), keepdim=True)
        return (s.repeat_interleave(4, 2).repeat_interleave(4, 3) * (sr - gt).abs()).mean()
    if name == 'InformationEntropyLoss':
        return information(density.features, density.mu, density.theta).sum() / (sr.numel() / 48)
    if name == 'ContrastiveLoss':
        bicubic = nn.functional.interpolate(lq, scale_factor=4, mode='bicubic')
        own, near, far = (vgg(p, features) for p in (sr, gt, bicubic))
        return sum(
            w * (o - n).abs().mean() / ((o - f).abs().mean() + 1e-7)
            for w, o, n, f in zip(LAYERS.values(), own, near, far, strict=True)
        )
    raise AssertionError(name)


SECTIONS: dict[str, dict[str, Any]] = {
    'L1Loss': {},
    'CharbonnierLoss': {},
    'WeightedTVLoss': {},
    'FFTLoss': {},
    'SSIMLoss': {},
    'LDLLoss': {},
    'UncertaintyLoss': {},
    'InformationEntropyLoss': {},
    'ContrastiveLoss': {'layer_weights': LAYERS},
}


@pytest.mark.parametrize('name', SECTIONS)
def test_a_loss_is_its_formula(name: str, small_vgg: list[nn.Module]) -> None:
    from iafmsr.models.losses.terms import Losses, Seen

    torch.manual_seed(0)
    lq, sr, gt, average = (torch.rand(2, 3, n, n, dtype=torch.float64) for n in (4, 16, 16, 16))
    sr.requires_grad_()
    net = build_net().double()
    density = net(lq, return_density=True)[1]
    section = {'type': name, 'loss_weight': 0.3, **SECTIONS[name]}
    losses = Losses({'losses': [section]}, torch.device('cpu'))
    losses.losses = [loss.double() for loss in losses.losses]
    (value, *_), _ = [list(d.values()) for d in losses(Seen(sr, lq, density, average), lambda _: gt, 1)]
    single = name == 'FFTLoss'  # it computes in float32
    assert value.item() == pytest.approx(
        0.3 * formula(name, sr, gt, lq, average, density, [f.double() for f in small_vgg]).item(),
        rel=1e-5 if single else 1e-9,
    )
    (gradient,) = torch.autograd.grad(value, sr, allow_unused=True)
    assert (gradient is None) == (name == 'InformationEntropyLoss')


def build_net() -> nn.Module:
    from iafmsr.archs import IAFMNet

    return IAFMNet(num_feat=8, num_block=1).train()


# -- in training ------------------------------------------------------------------------------------------------------
def model_with(network: dict[str, Any] = IAFMNET, **train_section: Any) -> Any:
    torch.manual_seed(0)
    opt = options('IAFMNetModel', network)
    opt['train'] |= train_section
    return build_model(opt)


@pytest.mark.parametrize('name', SECTIONS)
def test_a_step_of_each_beside_the_pixel_loss(name: str) -> None:
    section = {'type': name, 'loss_weight': 0.1, **SECTIONS[name]}
    model = model_with(losses=[section])
    logs = train(model, 2)
    key = f'l_{name.removesuffix("Loss").lower()}'
    assert key in logs[0] and all(math.isfinite(value) for log in logs for value in log.values())


def test_sections_of_their_own_are_entries_of_the_list() -> None:
    l1, fft = {'type': 'L1Loss', 'loss_weight': 0.5}, {'type': 'FFTLoss', 'loss_weight': 0.1}
    own = model_with(pixel_opt=l1, fft_opt=fft)
    listed = model_with(pixel_opt=None, losses=[l1, fft, {'type': 'L1Loss', 'loss_weight': 0.0}])
    assert own.losses.entries[0].where == 'train.pixel_opt' and len(listed.losses.losses) == 3
    for one, other in zip(train(own), train(listed), strict=True):
        assert {'l_pix', 'l_fft'} == one.keys() and other.keys() == {'l_l1', 'l_fft', 'l_l12'}
        assert (one['l_pix'], one['l_fft']) == (other['l_l1'], other['l_fft'])
    for a, b in zip(own.net_g.parameters(), listed.net_g.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_starts_at_its_iteration() -> None:
    logs = train(model_with(losses=[{'type': 'FFTLoss', 'start_iter': 3}]))
    assert ['l_fft' in log for log in logs] == [False, False, True, True]


def test_late_training_of_the_density_is_announced_to_other_processes() -> None:
    for start, expected in ((0, False), (5, True)):
        opt = options('IAFMNetModel', IAFMNET)
        opt['train']['losses'] = [{'type': 'InformationEntropyLoss', 'start_iter': start}]
        announce_unused_parameters(opt, build_net())
        assert opt['find_unused_parameters'] is expected


def test_a_second_network_can_tell_the_uncertainty(tmp_path: Path) -> None:
    section = {'type': 'IAFMNet', 'scale': 4, 'num_feat': 8, 'num_block': 1}
    net = build_net().eval()
    torch.save({'params': net.state_dict(), 'network_g': section}, tmp_path / 'net.pth')
    loss = build_loss({'type': 'UncertaintyLoss', 'weights': str(tmp_path / 'net.pth')})
    data = batch(8)
    idm = net(data['lq'], return_density=True)[1].idm
    s = (idm - idm.amin((2, 3), keepdim=True)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    sr = torch.zeros_like(data['gt'])
    assert loss(sr, data['gt'], data['lq']).item() == pytest.approx((s * data['gt']).mean().item(), rel=1e-5)
    model = model_with(EDSR, losses=[{'type': 'UncertaintyLoss', 'weights': str(tmp_path / 'net.pth')}])
    assert train(model, 1)[0]['l_uncertainty'] > 0


# -- before the run ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('keys', 'says'),
    [
        ({'train.losses': {'type': 'FFTLoss'}}, 'train.losses: must be a list of losses, got {'),
        ({'train.losses': [3]}, 'train.losses.0: must be a section of keys, got 3'),
        ({'train.losses': [{'loss_weight': 1}]}, 'train.losses.0.type: missing'),
        ({'train.losses': [{'type': 'FFTLos'}]}, "train.losses.0.type: 'FFTLos' is not known (did you mean FFTLoss?)"),
        ({'train.losses': [{'type': 'L1Loss'}, {'type': 'FFTLoss', 'weight': 1}]}, 'train.losses.1.weight: unknown'),
        (
            {'train.losses': [{'type': 'FFTLoss', 'start_iter': -1}]},
            'train.losses.0.start_iter: must be a whole number from 0, got -1',
        ),
        ({'train.losses': [{'type': 'LDLLoss'}]}, 'train.losses.0: needs train.ema_decay above 0'),
        ({'train.losses': [{'type': 'LDLLoss', 'ksize': 4}], 'train.ema_decay': 0.9}, 'ksize must be odd, got 4'),
        (
            {'train.losses': [{'type': 'ContrastiveLoss', 'layer_weights': {'conv9_1': 1}}]},
            "train.losses.0: layer_weights: 'conv9_1' is not a layer of vgg19",
        ),
        (
            {'train.losses': [{'type': 'FFTLoss', 'start_iter': 5}], 'train.pixel_opt': None, 'train.ie_opt': None},
            'train.losses: none of the losses starts at the first iteration',
        ),
        (
            {'train.losses': [{'type': 'UncertaintyLoss'}], 'train.ie_opt': None, 'network_g': EDSR},
            'train.losses.0: needs a density, EDSR gives none',
        ),
    ],
)
def test_a_fault_of_a_loss_is_one_line(keys: dict[str, Any], says: str) -> None:
    (line,) = check_options(changed(**keys), True, '', files=False).faults
    assert line.startswith(says) or line.endswith(says)


@pytest.mark.parametrize('section', ['perceptual_opt', 'losses'])
def test_weights_that_cannot_be_downloaded_are_named_with_their_place(
    refused: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, section: str
) -> None:
    def download(*_: object, **__: object) -> None:
        raise URLError('no route to host')

    hub = tmp_path_factory.mktemp('hub')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(hub))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    loss = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}
    if section == 'losses':
        loss['type'] = 'ContrastiveLoss'
    (line,) = refused(changed(**{f'train.{section}': [loss] if section == 'losses' else loss}))
    assert 'vgg19-dcbb9e9d.pth cannot be downloaded (' in line and 'no route to host' in line
    assert line.endswith(f'put the file at {hub}/checkpoints/vgg19-dcbb9e9d.pth')


def test_weights_are_downloaded_before_the_run_and_held_against_their_sum(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a server in the place of PyTorch's. A file with another sum is not kept."""
    content = b'the weights of a VGG'
    server, address = serve(content)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    for sum_, kept in (('0' * 8, False), (hashlib.sha256(content).hexdigest()[:8], True)):
        url = f'{address}/vgg19-{sum_}.pth'
        weights = {'IMAGENET1K_V1': SimpleNamespace(url=url)}
        monkeypatch.setattr('iafmsr.bridge.vgg.get_model_weights', lambda _, weights=weights: weights)
        with nullcontext() if kept else pytest.raises(UserError, match='cannot be downloaded .invalid hash value'):
            check_vgg('vgg19', ['conv5_4'], download=True)
        file = tmp_path / f'checkpoints/vgg19-{sum_}.pth'
        assert file.is_file() == kept
    check_vgg('vgg19', ['conv5_4'], download=True)
    assert file.read_bytes() == content and len(server.asked) == 2  # what is there is not asked for again


@pytest.mark.parametrize('model', ['SRModel', 'IAFMNetModel'])
def test_a_density_that_nothing_trains_is_said_in_a_line(model: str) -> None:
    report = check_options(changed(**{'model_type': model, 'train.ie_opt': None}), True, '', files=False)
    (line,) = report.warnings
    assert line.startswith(
        'train: no loss trains the density of IAFMNet: its map and mask stay random; use ie_opt with'
    )
    for keys in ({'network_g.detach_idm': False}, {'network_g': EDSR}):
        assert not check_options(
            changed(**{'model_type': model, 'train.ie_opt': None, **keys}), True, '', files=False
        ).warnings
