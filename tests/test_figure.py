"""The modules against their equations, written out in float64: figure 3 of the paper and what it leaves open.

Nothing here calls a module's own code for what it computes: the reference takes the parameters by name and works with
sums over neighbours and channels alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from iafmsr.archs import IAFMNet
from iafmsr.archs.iafmnet_arch import IFEM, Guided
from iafmsr.layers.arm import ARM
from iafmsr.layers.cgfn import CGFN
from iafmsr.layers.idm import InformationDensity
from iafmsr.layers.igra import IGRA
from iafmsr.losses import InformationEntropyLoss
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d

C, H, W = 6, 11, 18  # two rows and three columns of 8x8 cells, cut at the border
Weights = Mapping[str, Tensor]


# -- the mathematics ---------------------------------------------------------------------------------------------------
def window(x: Tensor, border: str = 'zeros', reach: int = 1) -> Tensor:
    """Every 3x3 neighbourhood of x (B, C, H, W), zeros or the nearest pixel outside: (B, C, H, W, 3, 3)."""
    rows = torch.arange(-reach, x.shape[2] + reach).clamp(0, x.shape[2] - 1)
    cols = torch.arange(-reach, x.shape[3] + reach).clamp(0, x.shape[3] - 1)
    padded = x[:, :, rows][:, :, :, cols].clone()
    if border == 'zeros':
        padded[:, :, :reach] = padded[:, :, -reach:] = 0
        padded[..., :reach] = padded[..., -reach:] = 0
    return padded.unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1)


def conv(x: Tensor, p: Weights, name: str, border: str = 'zeros') -> Tensor:
    """The convolution called ``name``: 1x1 or 3x3, all channels or depthwise."""
    weight, bias = p[f'{name}.weight'], p[f'{name}.bias'][:, None, None]
    if weight.shape[-1] == 1:
        return torch.einsum('bchw,oc->bohw', x, weight[..., 0, 0]) + bias
    if weight.shape[1] == 1:
        return torch.einsum('bchwyx,cyx->bchw', window(x, border), weight[:, 0]) + bias
    return torch.einsum('bchwyx,ocyx->bohw', window(x, border), weight) + bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def cells(x: Tensor) -> Tensor:
    """Down: the maximum of each 8x8 cell."""
    return torch.stack(
        [
            torch.stack([x[..., i : i + 8, j : j + 8].amax(dim=(-2, -1)) for j in range(0, x.shape[-1], 8)], dim=-1)
            for i in range(0, x.shape[-2], 8)
        ],
        dim=-2,
    )


def spread(x: Tensor, height: int, width: int) -> Tensor:
    """Up: each value at every position of its cell."""
    return x[..., torch.arange(height) // 8, :][..., torch.arange(width) // 8]


def sparse(f1: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """F_ssc(p) = sum over active neighbours q of W(q - p) F1(q), plus F1(p), where p is active; F1(p) elsewhere."""
    return mask * torch.einsum('bchwyx,ocyx->bohw', window(mask * f1), weight) + f1


def guided_sum(x: Tensor, guide: Tensor, p: Weights, name: str, form: str) -> Tensor:
    if form == 'concat':
        return conv(torch.cat([x, guide], dim=1), p, f'{name}.mix')
    return x + (1 + p[f'{name}.strength'] * (guide - 1) if form == 'neutral' else guide)


def guided_product(x: Tensor, guide: Tensor, p: Weights, name: str, form: str) -> Tensor:
    if form == 'concat':
        return conv(torch.cat([x, guide], dim=1), p, f'{name}.mix')
    return x * (1 + p[f'{name}.strength'] * (guide - 1) if form == 'neutral' else guide)


def igra(
    f1: Tensor, guide: Tensor, mask: Tensor, p: Weights, name: str, kernel: Tensor | None, attention: str, guidance: str
) -> Tensor:
    f_ssc = f1 if kernel is None else sparse(f1, mask, kernel)
    f_d, theta_d = cells(f_ssc), cells(guide)
    if attention == 'text':
        a = conv(guided_sum(f_d, theta_d, p, f'{name}guidance', guidance), p, f'{name}attention')
    elif attention == 'figure':
        a = guided_sum(conv(f_d, p, f'{name}attention'), theta_d, p, f'{name}guidance', guidance)
    else:
        a = 1 + conv(f_d, p, f'{name}attention')
    return spread(a, *f1.shape[-2:]) * f_ssc


def arm(f2: Tensor, guide: Tensor, p: Weights, name: str, mode: str, route: Tensor | float = 1) -> Tensor:
    if mode == 'off':
        return conv(route * f2, p, f'{name}local')
    both = conv(f2, p, f'{name}expand')
    a, b = both[:, :C], both[:, C:]
    s = conv(torch.cat([a, guide], dim=1) if mode == 'full' else a, p, f'{name}scale')
    return conv(route * b, p, f'{name}local') * s


def cgfn(x: Tensor, p: Weights, name: str, hidden: int, route: Tensor | float = 1) -> Tensor:
    both = conv(x, p, f'{name}expand')
    return conv(gelu(conv(route * both[:, :hidden], p, f'{name}local')) * both[:, hidden:], p, f'{name}project')


def norm(x: Tensor, p: Weights, name: str, kind: str) -> Tensor:
    if kind == 'l2':
        return x / (x**2).sum(dim=1, keepdim=True).sqrt()
    if kind == 'layer':
        mean, var = x.mean(dim=1, keepdim=True), x.var(dim=1, keepdim=True, unbiased=False)
        scaled = (x - mean) / (var + 1e-5).sqrt()
        return scaled * p[f'{name}.weight'][:, None, None] + p[f'{name}.bias'][:, None, None]
    return x


def gdn(x: Tensor, p: Weights, name: str) -> Tensor:
    """y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); the parameters are the square roots of beta and gamma."""
    pedestal = 2.0**-36
    beta, gamma = p[f'{name}.beta'] ** 2 - pedestal, p[f'{name}.gamma'] ** 2 - pedestal
    return x / (beta[:, None, None] + torch.einsum('bchw,oc->bohw', x**2, gamma)).sqrt()


def softplus(x: Tensor) -> Tensor:
    return x.exp().log1p()


def present_mean(x: Tensor, kernel: Tensor) -> Tensor:
    """The mean over the neighbours that ``kernel`` (3, 3) marks and that lie within the picture."""
    total = (window(x) * kernel).sum(dim=(-2, -1))
    return total / (window(torch.ones_like(x)) * kernel).sum(dim=(-2, -1))


def estimate(f: Tensor, p: Weights, ide: str, with_gdn: bool) -> tuple[Tensor, Tensor]:
    """mu and theta of F0 in quantisation bins."""

    def branch(x: Tensor, name: str) -> Tensor:
        y = conv(x, p, f'{name}.0')
        return gdn(y, p, f'{name}.1') if with_gdn else y

    if ide == 'literal':
        return gelu(branch(f, 'density.estimator.mu')), softplus(branch(f, 'density.estimator.theta')).clamp(min=0.11)
    mu = present_mean(f, torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    mean_deviation = present_mean((f - mu).abs(), torch.ones(3, 3))
    if ide == 'moments':
        return mu, (math.sqrt(math.pi / 2) * mean_deviation).clamp(min=0.11)
    return mu, softplus(conv(branch(mean_deviation, 'density.estimator.theta'), p, 'density.estimator.theta.2')).clamp(
        min=0.11
    )


def phi(x: Tensor) -> Tensor:
    """The distribution function of the standard Gaussian."""
    return torch.special.ndtr(x)


def bits(f: Tensor, mu: Tensor, theta: Tensor) -> Tensor:
    """R = -log2(Phi((f + 1/2 - mu) / theta) - Phi((f - 1/2 - mu) / theta)), with a floor of 1e-9 under p."""
    return -torch.log2((phi((f + 0.5 - mu) / theta) - phi((f - 0.5 - mu) / theta)).clamp(min=1e-9))


def top(values: Tensor, k: float) -> Tensor:
    """The highest k H W values of each picture (none of which tie here)."""
    n = max(1, math.floor(k * values[0].numel() + 0.5))
    order = values.flatten(1).argsort(dim=1, descending=True)[:, :n]
    return torch.zeros_like(values).flatten(1).scatter(1, order, 1).view(values.shape)


def luma(lq: Tensor) -> Tensor:
    return 0.299 * lq[:, :1] + 0.587 * lq[:, 1:2] + 0.114 * lq[:, 2:]


def fixed_map(name: str, lq: Tensor, gain: float) -> Tensor:
    if name == 'constant':
        return torch.ones_like(luma(lq))
    near = window(luma(lq), 'nearest')
    if name == 'laplacian':
        found = (near * torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])).sum((-2, -1)).abs() / 4
    else:
        across = (near * torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])).sum((-2, -1))
        along = (near * torch.tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])).sum((-2, -1))
        found = (across**2 + along**2).sqrt() / 8
    return torch.log2(1 + gain * found)


# -- the whole net -----------------------------------------------------------------------------------------------------
DEFAULTS: dict[str, Any] = {
    'scale': 2,
    'num_feat': C,
    'num_block': 2,
    'ffn_scale': 1.5,
    'k': 0.2,
    'ide': 'deviation',
    'gdn': True,
    'gain': 64.0,
    'idm_unit': 'bits',
    'guide': 'bounded',
    'mask': 'idm',
    'guidance': 'neutral',
    'norm': 'l2',
    'attention': 'figure',
    'ssconv': 'shared',
    'arm': 'full',
    'residual': True,
    'num_routed': 0,
}


def reference(lq: Tensor, p: Weights, o: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The picture, the IDM and the bits of every value, from figure 3."""
    if o['residual']:  # the sum over q of W(q) (x(q) - mean of x around), and the bias
        near = window(lq, 'nearest')
        differences = near - near.mean(dim=(-2, -1), keepdim=True)
        f0 = torch.einsum('bchwyx,ocyx->bohw', differences, p['head.differences']) + p['head.bias'][:, None, None]
    else:
        f0 = conv(lq, p, 'head', 'nearest')
    f = o['gain'] * f0
    mu, theta = estimate(f, p, o['ide'], o['gdn'])
    density = theta if o['idm_unit'] == 'theta' else torch.log2(1 + theta)
    idm = density.mean(dim=1, keepdim=True)
    if o['idm_unit'] == 'normalised':
        idm = idm / idm.mean(dim=(2, 3), keepdim=True)
    guide = {
        'deviation': lambda: torch.log2(1 + (f - mu).abs()),
        'bits': lambda: bits(f, mu, theta),
        'bounded': lambda: 1 - 1 / (1 + (f - mu).abs()),
        'density': lambda: density,
        'idm': lambda: idm,
    }.get(o['guide'], lambda: fixed_map(o['guide'], lq, o['gain']))()
    mask = top(idm if o['mask'] == 'idm' else fixed_map(o['mask'], lq, o['gain']), o['k'])
    x = f0
    for i in range(o['num_block']):
        block = f'blocks.{i}.'
        kernel = {'shared': 'ssconvs.0.weight', 'own': f'ssconvs.{i}.weight', 'none': None}[o['ssconv']]
        both = conv(norm(x, p, f'{block}norm1', o['norm']), p, f'{block}ifem.expand')
        # a routed block sees zeros at the positions that it leaves as they are
        route = idm >= o['threshold'] if i >= o['num_block'] - o['num_routed'] else torch.ones_like(idm)
        refined = igra(
            route * both[:, :C],
            guide,
            mask * route,
            p,
            f'{block}ifem.igra.',
            kernel and p[kernel],
            o['attention'],
            o['guidance'],
        )
        y = x + refined + arm(both[:, C:], guide, p, f'{block}ifem.arm.', o['arm'], route)
        normed = norm(y, p, f'{block}norm2', o['norm'])
        y = y + cgfn(normed, p, f'{block}cgfn.', round(o['ffn_scale'] * C), route)
        x = torch.where(route.bool(), y, x)
    y = guided_product(x, guide, p, 'fusion', o['guidance']) + mu / o['gain']
    y, s = conv(y, p, 'tail'), o['scale']
    b, _, h, w = y.shape
    sr = torch.empty(b, 3, s * h, s * w, dtype=y.dtype)
    for channel in range(3):
        for i in range(s):
            for j in range(s):
                sr[:, channel, i::s, j::s] = y[:, channel * s * s + i * s + j]
    if o['residual']:
        sr = sr + F.interpolate(lq, scale_factor=s, mode='bicubic')
    return sr, idm, bits(f.round(), mu, theta)


def with_random_parameters(module: torch.nn.Module) -> torch.nn.Module:
    """In float64, all parameters random: at the start many are zero, and a fault behind them could not be seen."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.double().eval().named_parameters():
        values = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = values.abs() + 0.1 if name.endswith(('beta', 'gamma')) else values
    return module.requires_grad_(False)


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'scale': 3},
        {'scale': 4},
        {'num_block': 3},
        {'ffn_scale': 1},
        {'k': 0.05},
        {'k': 1.0},
        {'gain': 3.0},
        {'gdn': False},
        {'ide': 'moments'},
        {'ide': 'literal'},
        {'ide': 'literal', 'gdn': False},
        {'ide_kernel_size': 3},
        {'idm_unit': 'theta'},
        {'idm_unit': 'normalised', 'guide': 'idm'},
        {'guide': 'deviation'},
        {'guide': 'bits'},
        {'guide': 'density'},
        {'guide': 'density', 'idm_unit': 'theta'},
        {'guide': 'idm'},
        {'guide': 'sobel'},
        {'guide': 'laplacian'},
        {'guide': 'constant'},
        {'mask': 'sobel'},
        {'mask': 'laplacian'},
        {'guidance': 'product'},
        {'guidance': 'concat'},
        {'norm': 'none'},
        {'norm': 'layer'},
        {'attention': 'text'},
        {'attention': 'no_idm'},
        {'attention': 'text', 'guidance': 'product'},
        {'ssconv': 'own'},
        {'ssconv': 'none'},
        {'arm': 'no_idm'},
        {'arm': 'off'},
        {'residual': False},
        {'num_routed': 1},
        {'num_routed': 2, 'sparse_backend': 'dense'},
        {'num_routed': 1, 'arm': 'off', 'ssconv': 'own'},
        {'sparse_backend': 'dense'},
        {'arm': 'full', 'guide': 'idm', 'guidance': 'concat'},
    ],
    ids=str,
)
def test_the_net_is_figure_three(options):
    keywords = {**DEFAULTS, **options}
    net, lq = with_random_parameters(IAFMNet(**keywords)), pictures(2, 3, H, W)
    if keywords['num_routed']:  # a budget between two whose thresholds are kept
        net.router.thresholds[:] = torch.linspace(1.05, 0.85, 20)
        net.budget = 0.52
        keywords['threshold'] = float(net.router.threshold(0.52))
    sr, density = net(lq, return_density=True)
    expected, idm, cost = reference(lq, dict(net.named_parameters()), keywords)
    if keywords['num_routed']:
        assert 0.2 < (density.idm >= keywords['threshold']).double().mean() < 0.8
    torch.testing.assert_close(density.idm, idm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sr, expected, rtol=1e-6, atol=1e-6)
    loss, _ = InformationEntropyLoss(loss_weight=1.0, reduction='pixel')(density)
    torch.testing.assert_close(loss.double(), cost.sum(dim=1).mean(), rtol=1e-4, atol=1e-4)


# -- its parts, each by itself: a fault is found where it is -----------------------------------------------------------
@pytest.mark.parametrize('num_guide', [1, C])
@pytest.mark.parametrize('mode', ['full', 'no_idm', 'off'])
def test_arm(mode, num_guide):
    module = with_random_parameters(ARM(C, mode, num_guide))
    x, guide = pictures(2, C, H, W), pictures(2, num_guide, H, W)
    torch.testing.assert_close(module(x, guide), arm(x, guide, dict(module.named_parameters()), '', mode))


@pytest.mark.parametrize('ffn_scale', [1, 2.5])
def test_cgfn(ffn_scale):
    module, x = with_random_parameters(CGFN(C, ffn_scale)), pictures(2, C, H, W)
    torch.testing.assert_close(module(x), cgfn(x, dict(module.named_parameters()), '', round(ffn_scale * C)))


@pytest.mark.parametrize('guidance', ['product', 'neutral', 'concat'])
@pytest.mark.parametrize('attention', ['figure', 'text', 'no_idm'])
def test_igra(attention, guidance):
    module = with_random_parameters(IGRA(C, attention, guidance, C))
    ssconv = with_random_parameters(SubmanifoldConv2d(C))
    f1, guide, mask = pictures(2, C, H, W), pictures(2, C, H, W).flip(3), pictures(2, 1, H, W) > 0.6
    expected = igra(f1, guide, mask, dict(module.named_parameters()), '', ssconv.weight, attention, guidance)
    torch.testing.assert_close(module(f1, cells(guide), ActiveSites(mask), ssconv), expected)


def test_ifem_and_ifeb():
    net, x = with_random_parameters(IAFMNet(**DEFAULTS)), pictures(2, C, H, W)
    block, ssconv = net.blocks[0], net.ssconvs[0]
    guide, mask = pictures(2, C, H, W).flip(3), pictures(2, 1, H, W) > 0.6
    p, by = dict(block.named_parameters()), Guided(guide, cells(guide), ActiveSites(mask))

    def ifem(x: Tensor) -> Tensor:
        both = conv(x, p, 'ifem.expand')
        return igra(both[:, :C], guide, mask, p, 'ifem.igra.', ssconv.weight, 'figure', 'neutral') + arm(
            both[:, C:], guide, p, 'ifem.arm.', 'full'
        )

    assert isinstance(block.ifem, IFEM)
    torch.testing.assert_close(block.ifem(x, by, ssconv), ifem(x))
    y = x + ifem(norm(x, p, '', 'l2'))
    torch.testing.assert_close(block(x, by, ssconv), y + cgfn(norm(y, p, '', 'l2'), p, 'cgfn.', round(1.5 * C)))


@pytest.mark.parametrize('ide', ['deviation', 'literal', 'moments'])
def test_the_density(ide):
    module = with_random_parameters(InformationDensity(C, 0.2, ide=ide, gain=7.0))
    f0, lq = pictures(2, C, H, W), pictures(2, 3, H, W)
    p = {f'density.{name}': value for name, value in module.named_parameters()}
    mu, theta = estimate(7 * f0, p, ide, with_gdn=True)
    found = module(f0, lq)
    torch.testing.assert_close(found.mu, mu)
    torch.testing.assert_close(found.theta, theta)
    assert torch.equal(found.features, (7 * f0).round())
    idm = torch.log2(1 + theta).mean(dim=1, keepdim=True)
    assert torch.equal(found.mask, top(idm, 0.2).bool())
    deviation = (7 * f0 - mu).abs()
    torch.testing.assert_close(found.guide, deviation / (1 + deviation))


def test_in_training_the_features_are_noisy_and_the_active_sites_are_those_of_the_batch():
    module = InformationDensity(C, 0.2, gain=7.0, ide='moments').double().train()  # whose density is never upside down
    f0, lq = pictures(2, C, H, W), pictures(2, 3, H, W)
    f0[1] *= 0.1
    found = module(f0, lq)
    noise = found.features - 7 * f0
    assert noise.min() >= -0.5 and noise.max() <= 0.5 and 0.25 < noise.std() < 0.33
    threshold = found.idm.flatten().sort(descending=True).values[round(0.2 * found.idm.numel()) - 1]
    assert torch.equal(found.mask, found.idm >= threshold) and found.mask[0].sum() > found.mask[1].sum()
