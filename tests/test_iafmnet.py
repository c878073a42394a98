"""IAFMNet: sizes, shapes, seams between its parts."""

import copy

import pytest
import torch
import torch.nn.functional as F
from basicsr.archs import build_network

from iafmsr.archs import IAFMNet
from iafmsr.layers.density import information, num_active
from iafmsr.layers.filters import laplacian, luma, sobel
from iafmsr.layers.idm import InformationDensity
from iafmsr.layers.igra import down, up
from iafmsr.layers.upsampler import UPSAMPLERS
from iafmsr.models.losses import InformationEntropyLoss

SMALL = {'num_feat': 8, 'num_block': 2}
LITERAL = {
    'ide': 'literal',
    'residual': False,
    'guide': 'idm',
    'gain': 1.0,
    'idm_unit': 'theta',
    'detach_idm': False,
    'detach_features': False,
    'guidance': 'product',
    'norm': 'none',
}

needs_half = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='torch 2.2 has no float16 convolution on a CPU'
)


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (7, 3), (8, 8), (17, 26)])
def test_any_size_and_batch(scale, size):
    net = IAFMNet(scale, **SMALL).eval()
    for batch in (1, 3):
        sr, density = net(torch.rand(batch, 3, *size), return_density=True)
        assert sr.shape == (batch, 3, scale * size[0], scale * size[1])
        assert density.features.shape == density.mu.shape == density.theta.shape == (batch, 8, *size)
        assert density.idm.shape == density.mask.shape == (batch, 1, *size)
        for idm, mask in zip(density.idm, density.mask, strict=True):  # the highest, as many as fit with their ties
            level = torch.round(2**15 * idm)
            below = level[~mask].max() if not mask.all() else -torch.inf
            assert mask.sum() <= num_active(*size, 0.05) < (level >= below).sum() + mask.all()
            assert mask.sum() == 0 or level[mask].min() > below
        assert torch.isfinite(sr).all()


def test_image_alone_by_default_and_the_same():
    net, lq = IAFMNet(**SMALL).eval(), torch.rand(1, 3, 12, 10)
    assert torch.equal(net(lq), net(lq, return_density=True)[0])


def test_pictures_of_a_batch_do_not_mix():
    net, lq = IAFMNet(**SMALL).eval().double(), torch.rand(3, 3, 11, 14, dtype=torch.float64)
    torch.testing.assert_close(net(lq)[1:2], net(lq[1:2]))


@pytest.mark.parametrize(
    'options',
    [
        {},
        LITERAL,
        {**LITERAL, 'ide_kernel_size': 3},
        {'gdn': False},
        {'ide_kernel_size': 3},
        {'norm': 'none'},
        {'norm': 'layer'},
        {'attention': 'text'},
        {'attention': 'no_idm'},
        {'ssconv': 'none'},
        {'ssconv': 'own'},
        {'guide': 'bounded'},
        {'arm': 'no_idm'},
        {'arm': 'off'},
        {'gain': 1.0},
        {'k': 0.5},
        {'k': 1.0},
        {'sparse_backend': 'gather'},
        {'ffn_scale': 1.5},
        {'idm_unit': 'theta'},
        {'guidance': 'product'},
        {'guidance': 'concat'},
        {'mask': 'random'},
        {'mask': 'sobel'},
        {'detach_idm': False},
        {'detach_features': False},
    ],
    ids=str,
)
def test_gradients_of_both_losses_reach_every_parameter(options):
    torch.manual_seed(0)
    net = IAFMNet(**SMALL, **options)
    sr, density = net(torch.rand(2, 3, 24, 24), return_density=True)
    (sr.sum() + InformationEntropyLoss()(density)[0]).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize('ide', ['literal', 'deviation'])
def test_gradient_routing(ide):
    """detach_idm: the image does not train theta. detach_features: the entropy does not train the head."""
    lq = torch.rand(2, 3, 24, 24)
    for detached in (False, True):
        net = IAFMNet(**SMALL, ide=ide, guide='density', guidance='product', detach_idm=detached)
        net(lq).sum().backward()
        assert all((p.grad is None) == detached for p in net.density.estimator.theta.parameters())
        assert net.head.differences.grad is not None
        net = IAFMNet(**SMALL, ide=ide, detach_features=detached)
        InformationEntropyLoss()(net(lq, return_density=True)[1])[0].backward()
        assert (net.head.differences.grad is None) == detached
        assert all(p.grad is not None for p in net.density.estimator.parameters())


def test_one_checkpoint_for_every_backend():
    torch.manual_seed(0)
    nets = [IAFMNet(**SMALL, k=0.1, sparse_backend=b).eval() for b in ('dense', 'gather', 'auto')]
    lq = torch.rand(2, 3, 20, 31)
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
        torch.testing.assert_close(net(lq), nets[0](lq), rtol=0, atol=1e-5)


@pytest.mark.parametrize('backend', ['dense', 'gather', 'auto'])
def test_a_picture_that_is_not_finite_gives_one_that_is_not_finite(backend):
    """The guard of a training run has to see it: nothing may break before."""
    net, lq = IAFMNet(**SMALL, sparse_backend=backend), torch.rand(2, 3, 20, 31)
    lq[1, 0, 3, 4] = torch.nan
    sr = net(lq)
    assert torch.isfinite(sr[0]).all() and not torch.isfinite(sr[1]).all()
    sr.sum().backward()


def test_pooling_is_local_on_one_grid():
    x = torch.rand(1, 2, 19, 30)
    pooled = down(x)
    assert pooled.shape == (1, 2, 3, 4)
    torch.testing.assert_close(pooled[..., 1, 2], x[..., 8:16, 16:24].amax((-2, -1)))
    torch.testing.assert_close(pooled[..., 2, 3], x[..., 16:, 24:].amax((-2, -1)))
    spread = up(pooled, (19, 30))
    assert spread.shape == x.shape and torch.equal(spread[..., 15, 23], pooled[..., 1, 2])


def test_the_map_reaches_the_image_through_figure_three():
    """With blocks that pass x through, the tail sees F0 * idm + mu / gain."""
    net = IAFMNet(4, **SMALL, **{**LITERAL, 'gain': 2.0}).eval()
    for block in net.blocks:
        block.forward = lambda x, *_, **__: x
    lq = torch.rand(1, 3, 9, 9)
    f0 = net.head(lq)
    density = net.density(f0, lq)
    expected = net.tail(f0 * density.theta.mean(1, keepdim=True) + density.mu / 2)
    torch.testing.assert_close(net(lq), expected)


@pytest.mark.parametrize(
    'options, name',
    [
        ({'scale': 5}, 'scale'),
        ({'k': 0}, 'k must'),
        ({'k': 1.5}, 'k must'),
        ({'norm': 'batch'}, 'norm'),
        ({'attention': 'self'}, 'attention'),
        ({'sparse_backend': 'magic'}, 'sparse backend'),
        ({'ide': 'x'}, 'ide'),
        ({'gain': 0}, 'gain'),
        ({'idm_unit': 'nats'}, 'idm_unit'),
        ({'guide': 'canny'}, 'guide'),
        ({'idm_unit': 'normalised'}, "guide must be 'idm'"),
        ({'mask': 'all'}, 'mask'),
        ({'guidance': 'sum'}, 'guidance'),
        ({'ssconv': 'each'}, 'ssconv'),
        ({'arm': 'half'}, 'arm'),
    ],
)
def test_bad_arguments_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        IAFMNet(**options)


@pytest.mark.parametrize('scale', [1, 2, 3, 8])
@pytest.mark.parametrize('upsampler', ['pixelshuffle', 'transposed', 'nearest_conv', 'decomposed'])
def test_each_upsampler_at_each_scale(scale, upsampler):
    net, lq = IAFMNet(scale=scale, upsampler=upsampler, **SMALL), torch.rand(1, 3, 9, 12)
    sr = net(lq)
    assert sr.shape == (1, 3, 9 * scale, 12 * scale)
    for parameter in net.tail.parameters():
        torch.nn.init.zeros_(parameter)
    base = F.interpolate(lq, scale_factor=scale, mode='bicubic')
    torch.testing.assert_close(net(lq), lq if scale == 1 else base)
    if scale == 1:
        assert torch.equal(net(lq), lq)


def test_a_transposed_convolution_can_be_the_sub_pixel_layer():
    """Its kernel of 3s x 3s pixels is that of 3x3 positions with s^2 pixels each."""
    s, x = 3, torch.rand(1, 4, 6, 7)
    shuffle, transposed = (UPSAMPLERS.find(name)(4, 2, s) for name in ('pixelshuffle', 'transposed'))
    kernel = shuffle.weight.view(2, s, s, 4, 3, 3).flip(4, 5).permute(3, 0, 4, 1, 5, 2).reshape(4, 2, 3 * s, 3 * s)
    bias = torch.rand(2)
    with torch.no_grad():
        shuffle.bias.copy_(bias.repeat_interleave(s * s))
        transposed.bias.copy_(bias)
        transposed.weight.copy_(kernel)
    torch.testing.assert_close(transposed(x), shuffle(x))
    assert transposed.weight.numel() == shuffle.weight.numel()


def test_registered():
    assert isinstance(build_network({'type': 'IAFMNet', 'scale': 2, **SMALL}), IAFMNet)


def test_runs_under_autocast():
    torch.manual_seed(0)
    net, lq = IAFMNet(**SMALL).eval(), torch.rand(1, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        sr, density = net(lq, return_density=True)
        assert net.head(lq).dtype == torch.float32 and sr.dtype == torch.float32  # the enlarged picture in full
    exact_sr, exact = net(lq, return_density=True)
    for name in ('mu', 'theta', 'guide', 'mask'):  # the deviations are small differences of F0
        assert torch.equal(getattr(density, name), getattr(exact, name))
    torch.testing.assert_close(sr.float(), exact_sr, rtol=0, atol=0.05)


def test_neutral_guidance_starts_from_the_net_without_a_map():
    nets = []
    for guide in ('deviation', 'idm', 'constant'):
        torch.manual_seed(0)
        nets.append(IAFMNet(**SMALL, guide=guide, arm='no_idm').eval())
    lq = torch.rand(1, 3, 20, 20)
    assert torch.equal(nets[0](lq), nets[1](lq)) and torch.equal(nets[0](lq), nets[2](lq))
    nets[0](lq).sum().backward()
    strengths = [p.grad for n, p in nets[0].named_parameters() if n.endswith('strength')]
    assert len(strengths) == 3 and all(g.abs().sum() > 0 for g in strengths)


@pytest.mark.parametrize('guide', ['sobel', 'laplacian', 'constant'])
def test_fixed_maps_take_the_place_of_the_learned_one(guide):
    net, lq = IAFMNet(**SMALL, guide=guide, mask='random').eval(), torch.rand(1, 3, 16, 16)
    _, density = net(lq, return_density=True)
    _, again = net(lq, return_density=True)
    y = luma(lq)
    expected = {
        'sobel': torch.log2(1 + 64 * sobel(y)),
        'laplacian': torch.log2(1 + 64 * laplacian(y)),
        'constant': torch.ones_like(y),
    }[guide]
    torch.testing.assert_close(density.guide, expected)
    assert torch.equal(density.mask, again.mask) and density.mask.sum() == num_active(16, 16, 0.05)


def test_the_learned_map_in_bits():
    net, lq = IAFMNet(**SMALL).eval(), torch.rand(1, 3, 16, 16)
    _, density = net(lq, return_density=True)
    torch.testing.assert_close(density.idm, torch.log2(1 + density.theta).mean(1, keepdim=True))
    _, density = IAFMNet(**SMALL, idm_unit='normalised', guide='idm')(torch.rand(3, 3, 16, 16), return_density=True)
    torch.testing.assert_close(density.idm.mean((1, 2, 3)), torch.ones(3))


@pytest.mark.parametrize('guide', ['deviation', 'bounded', 'bits', 'density'])
def test_a_guide_has_a_channel_for_each_feature(guide):
    net, lq = IAFMNet(**SMALL, guide=guide).eval(), torch.rand(1, 3, 16, 16)
    f0, (_, density) = net.head(lq), net(lq, return_density=True)
    exact = 64 * f0
    expected = {
        'deviation': torch.log2(1 + (exact - density.mu).abs()),
        'bounded': 1 - 1 / (1 + (exact - density.mu).abs()),
        'bits': information(exact, density.mu, density.theta),
        'density': torch.log2(1 + density.theta),
    }[guide]
    torch.testing.assert_close(density.guide, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'guide, detached', [('deviation', True), ('bits', True), ('density', True), ('bits', False), ('density', False)]
)
def test_the_image_trains_theta_through_the_guide_where_that_is_wanted(guide, detached):
    parts = InformationDensity(4, guide=guide, detach_idm=detached)
    f0 = torch.rand(1, 4, 8, 8, requires_grad=True)
    found = parts(f0, torch.rand(1, 3, 8, 8)).guide
    assert found.requires_grad == (not detached)
    if not detached:
        grads = torch.autograd.grad(found.sum(), [f0, *parts.estimator.parameters()], allow_unused=True)
        assert grads[0] is None and all(grad is not None for grad in grads[1:])


@pytest.mark.parametrize('options', [{}, {'gain': 16.0}])
def test_the_border_is_no_detail(options):
    """On a flat picture every position costs the same, those at the border too."""
    torch.manual_seed(0)
    _, density = IAFMNet(**SMALL, **options).eval()(torch.full((1, 3, 12, 14), 0.7), return_density=True)
    torch.testing.assert_close(density.idm, density.idm[..., :1, :1].expand_as(density.idm))


def test_in_training_a_patch_has_as_many_active_sites_as_are_its_own_in_the_batch() -> None:
    """As in a picture: most of its active sites lie together where there is detail, flat places have none."""
    torch.manual_seed(0)
    lq = torch.stack([torch.full((3, 10, 12), 0.5), 0.1 * torch.rand(3, 10, 12), torch.rand(3, 10, 12)])
    net = IAFMNet(num_feat=8, num_block=1, k=0.1, mask='sobel').train()  # an untrained map may take flat for dense
    masks = {}
    for k_of in ('batch', 'picture'):
        net.density.k_of = k_of
        _, density = net(lq, return_density=True)
        masks[k_of] = density.mask.sum(dim=(1, 2, 3)).tolist()
    assert masks['picture'] == [0, 12, 12]  # no site of a flat picture is active
    assert masks['batch'][0] == 0 and masks['batch'][2] > 24 and sum(masks['batch']) == 36
    with torch.no_grad():
        assert net.eval()(lq, return_density=True)[1].mask.sum(dim=(1, 2, 3)).tolist() == [0, 12, 12]
    with pytest.raises(ValueError, match="k_of must be one of batch, picture, got 'patch'"):
        IAFMNet(k_of='patch')


@pytest.mark.parametrize('dtype', [pytest.param(torch.float16, marks=needs_half), torch.bfloat16])
@pytest.mark.parametrize('options', [{}, {'residual': False, 'guidance': 'concat'}, {'num_routed': 1}], ids=str)
def test_a_net_in_half_precision_keeps_its_density_in_float32(dtype, options):
    """``net.half()``: the density of half features would be that of their rounding."""
    torch.manual_seed(0)
    net, lq = IAFMNet(**SMALL, **options).eval(), torch.rand(1, 3, 20, 24)
    exact_sr, exact = net(lq, return_density=True)
    half = copy.deepcopy(net).to(dtype)
    assert half.tail.weight.dtype == dtype and all(p.dtype == torch.float32 for p in half.density.parameters())
    sr, density = half(lq, return_density=True)
    assert torch.equal(density.mask, exact.mask) and torch.equal(density.idm, exact.idm)
    torch.testing.assert_close(sr.float(), exact_sr, rtol=0, atol=0.05)
    assert half(lq.to(dtype)).dtype == dtype
