"""The peers are the published networks: their sizes, their weights, and what trains them."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from option_cases import DELETE, changed

from iafmsr.archs import BSRN, ELAN, ESRT, ETDS, IMDN, PAN, RDESA, RLFN, SAFMN, ShuffleMixer, SMFANet, Spandrel
from iafmsr.errors import UserError
from iafmsr.models.losses import FFTLoss
from iafmsr.nets.fine_tuning import weights_for
from iafmsr.options.files import load_options
from iafmsr.tools.measure.complexity import count
from iafmsr.training.checks.check import check_options

needs_spandrel = pytest.mark.skipif(find_spec('spandrel') is None, reason="needs pip install -e '.[spandrel]'")


# -- sizes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    'net, params',
    [
        pytest.param(SAFMN, (227_820, 232_695, 239_520), id='SAFMN'),
        pytest.param(SMFANet, (185_628, 190_503, 197_328), id='SMFANet'),
        pytest.param(IMDN, (694_404, 703_059, 715_176), id='IMDN'),
        pytest.param(RLFN, (526_856, 533_891, 543_740), id='RLFN'),  # in thousands: 527, -, 543
        pytest.param(BSRN, (331_628, 340_283, 352_400), id='BSRN'),  # 332, 340, 352
        pytest.param(PAN, (261_403, 261_403, 272_419), id='PAN'),  # 261, 261, 272
        pytest.param(ShuffleMixer, (393_939, 414_739, 410_579), id='ShuffleMixer'),  # 394, 415, 411
        pytest.param(ELAN, (582_012, 590_127, 601_488), id='ELAN'),  # 582, 590, 601
        pytest.param(ESRT, (677_771, 770_251, 751_755), id='ESRT'),  # 677, 770, 751
    ],
)
def test_parameters_are_the_published_ones(net, params):
    assert tuple(count(net(scale=s), s, (64, 64)).params for s in (2, 3, 4)) == params


def test_small_forms_are_of_the_published_sizes():
    assert count(RLFN(scale=2, num_feat=48), 2, (64, 64)).params // 1000 == 454
    assert round(count(ShuffleMixer(num_feat=32, kernel_size=3), 4, (64, 64)).params, -3) == 113_000


def test_etds_is_a_row_of_convolutions_on_a_device():
    """M convolutions of C channels between two more, and no more than these: 9 C^2 + C parameters each."""
    torch.manual_seed(0)
    for blocks, c in ((5, 16), (4, 32), (6, 32), (7, 48)):
        net = ETDS(num_feat=c, num_block=blocks).double()
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        lq = torch.rand(1, 3, 9, 12, dtype=torch.float64)
        plain = net.plain()
        torch.testing.assert_close(plain(lq), net(lq))
        assert sum(p.numel() for p in plain.parameters()) == 28 * c + blocks * (9 * c * c + c) + 48 * (9 * c + 1)


def test_untrained_etds_adds_to_the_nearest_neighbours():
    net, lq = ETDS(num_feat=8, num_block=2), torch.rand(1, 3, 5, 6)
    torch.nn.init.zeros_(net.tail.weight), torch.nn.init.zeros_(net.tail.bias)
    assert torch.equal(net(lq), torch.nn.functional.interpolate(lq, scale_factor=4, mode='nearest'))


@pytest.mark.parametrize('scale, gmacs, activations', [(2, 51.532, 299), (3, 23.419, 134), (4, 13.555, 76.7)])
def test_safmn_costs_what_its_paper_says(scale, gmacs, activations):
    """Table 1: 51.53, 23.42 and 13.56 G, which are fvcore's three digits rounded once more; 299, 134 and 77 M."""
    c = count(SAFMN(scale=scale), scale)
    assert round(c.macs / 1e9, 3) == gmacs
    assert c.activations / 1e6 == pytest.approx(activations, abs=0.5)


def test_small_distillation_net_is_of_its_peers_size():
    """A block is three 3x3 convolutions, a 1x1 over their outputs and a bottleneck of C/16 channels."""
    c = 32
    block = 3 * (9 * c * c + c) + 3 * c * c + c + 2 * (c * c // 16) + c // 16 + c
    assert sum(p.numel() for p in RDESA(num_block=6).blocks.parameters()) == 6 * block
    assert 190_000 < sum(p.numel() for p in RDESA().parameters()) < 220_000


# -- networks ---------------------------------------------------------------------------------------------------------
SMALL = [
    pytest.param(lambda: SAFMN(scale=3, dim=8, n_blocks=2), id='SAFMN'),
    pytest.param(lambda: SMFANet(scale=3, dim=8, n_blocks=2), id='SMFANet'),
    pytest.param(lambda: IMDN(scale=3, num_feat=16, num_block=2), id='IMDN'),
    pytest.param(lambda: RDESA(scale=3, num_feat=8, num_block=2), id='RDESA'),
    pytest.param(lambda: RLFN(scale=3, num_feat=8, num_block=2), id='RLFN'),
    pytest.param(lambda: BSRN(scale=3, num_feat=16, num_block=2), id='BSRN'),
    pytest.param(lambda: PAN(scale=3, num_feat=8, num_block=2), id='PAN'),
    pytest.param(lambda: ShuffleMixer(scale=3, num_feat=16, num_block=2), id='ShuffleMixer'),
    pytest.param(lambda: ELAN(scale=3, num_feat=12, num_block=2), id='ELAN'),
    pytest.param(lambda: ETDS(scale=3, num_feat=8, num_block=2), id='ETDS'),
    pytest.param(lambda: ESRT(scale=3, num_feat=16, num_block=2), id='ESRT'),
]


@pytest.mark.parametrize('net', SMALL)
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (17, 31)])
def test_any_size_from_one_pixel_gives_a_finite_picture_and_gradient(net, size):
    torch.manual_seed(0)
    lq, net = torch.rand(2, 3, *size, requires_grad=True), net()
    sr = net(lq)
    assert sr.shape == (2, 3, 3 * size[0], 3 * size[1])
    sr.sum().backward()
    assert sr.isfinite().all() and lq.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ('name', 'width', 'says'),
    [
        ('ELAN', 16, 'a multiple of 6'),
        ('ESRT', 24, 'a multiple of 16'),
        ('ShuffleMixer', 12, 'a multiple of 8'),
        ('BSRN', 15, 'at least 16'),
        ('RDESA', 3, 'at least 4'),
        ('IMDN', 24, 'a multiple of 16'),
    ],
)
def test_a_width_that_a_net_cannot_have_is_named_before_the_run(name, width, says):
    opt = changed(**{'network_g': {'type': name, 'scale': 4, 'num_feat': width}, 'train.ie_opt': DELETE})
    assert check_options(opt, True, '', files=False).faults == [
        f'network_g: {name} cannot be built: num_feat must be {says}, got {width}'
    ]


@pytest.mark.parametrize('net', SMALL)
def test_a_few_steps_lower_the_loss(net):
    torch.manual_seed(0)
    net, lq = net(), torch.rand(2, 3, 16, 16)
    gt = torch.nn.functional.interpolate(lq, scale_factor=3, mode='bicubic').clamp(0, 1)
    optimizer, losses = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(6):
        losses.append(torch.nn.functional.l1_loss(net(lq), gt))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


# of the authors' files: {a,b} and {1..n} stand for each; every name has a weight, and a bias but where - stands
NAMES = {
    'RLFN': 'conv_{1,2} upsampler.0 block_{1..6}.{c1_r,c2_r,c3_r,c5} block_{1..6}.esa.{conv1,conv_f,conv2,conv3,conv4}',
    'BSRN': 'fea_conv.pw- fea_conv.dw c2.pw- c2.dw c1 upsampler.upsampleOneStep.0 '
    'B{1..8}.{c1_r,c2_r,c3_r,c4}.pw- B{1..8}.{c1_r,c2_r,c3_r,c4}.dw B{1..8}.{c1_d,c2_d,c3_d,c5} '
    'B{1..8}.esa.{conv1,conv_f,conv4} B{1..8}.esa.{conv2,conv_max,conv3,conv3_}.pw- '
    'B{1..8}.esa.{conv2,conv_max,conv3,conv3_}.dw B{1..8}.cca.conv_du.{0,2}',
    'PAN': 'conv_first conv_last trunk_conv upconv{1,2} att{1,2}.conv HRconv{1,2} SCPA_trunk.{0..15}.PAConv.k2 '
    'SCPA_trunk.{0..15}.{conv1_a,conv1_b,k1.0,PAConv.k3,PAConv.k4,conv3}-',
    'ShuffleMixer': 'to_feat- upsapling.{0,3} tail blocks.{0..4}.conv.{0,2} blocks.{0..4}.net.{0,1}.spatial '
    'blocks.{0..4}.net.{0,1}.norm{1,2}.body- blocks.{0..4}.net.{0,1}.mlp{1,2}.fc.{0,2}',
    'ELAN': 'sub_mean add_mean head.0 tail.0 body.{0..11}.modules_lfe.lfe_{0,1}.conv{0,1}.shift_conv- '
    'body.{0..11}.modules_lfe.lfe_{0,1}.conv{0,1}.shift_conv.conv1x1 '
    'body.{0..11}.modules_gmsa.gmsa_{0,1}.{project_inp.0,project_inp.1,project_out}',
}


def spelt_out(pattern: str) -> list[str]:
    if '{' not in pattern:
        return [pattern.removesuffix('-') + '.weight'] + ([] if pattern.endswith('-') else [pattern + '.bias'])
    start, rest = pattern.split('{', 1)
    choices, end = rest.split('}', 1)
    first, dots, last = choices.partition('..')
    words = map(str, range(int(first), int(last) + 1)) if dots else choices.split(',')
    return [name for word in words for name in spelt_out(start + word + end)]


@pytest.mark.parametrize('name', NAMES)
def test_names_of_authors_files_are_ours(name):
    net = globals()[name]()
    theirs = [full for pattern in NAMES[name].split() for full in spelt_out(pattern)]
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    ours = {key for key in net.state_dict() if not key.endswith(statistics)}
    assert set(net.renamed(dict.fromkeys(theirs))) == ours
    assert set(net.renamed(dict.fromkeys(ours))) == ours


@pytest.mark.parametrize('net', SMALL)
def test_weights_saved_are_weights_loaded(net):
    first, second = net().eval(), net().eval()
    second.load_state_dict(first.state_dict())
    lq = torch.rand(1, 3, 12, 20)
    assert torch.equal(first(lq), second(lq))


@pytest.mark.parametrize(
    'file, net',
    [
        ('SMFANet/SMFANet_DF2K_100w_x2SR', lambda: SMFANet(scale=2)),
        ('SMFANet/SMFANet_plus_DF2K_100w_x4SR', lambda: SMFANet(scale=4, dim=48, n_blocks=12)),
        ('IMDN/IMDN_x3', lambda: IMDN(scale=3)),
        # where they can be had: docs/benchmark.md
        ('RLFN/rlfn_x4', lambda: RLFN(scale=4)),
        ('BSRN/net_g_BSRN_x3', lambda: BSRN(scale=3)),
        ('PAN/PANx4_DF2K', lambda: PAN(scale=4)),
    ],
    ids=lambda v: v if isinstance(v, str) else '',
)
def test_authors_weights_load_as_they_are(data_root: Path, file, net):
    """Whole and strictly, through BasicSR's own loader too; weights of another scale are refused by name."""
    path, net = str(data_root / 'weights' / f'{file}.pth'), net()
    if not Path(path).is_file():
        pytest.skip(f'needs {path}')
    assert len(weights_for(net, path)) == len(net.state_dict())
    weights = torch.load(path, map_location='cpu', weights_only=True)
    weights = {name.removeprefix('module.'): value for name, value in weights.get('params', weights).items()}
    net.load_state_dict(weights)
    assert sorted(float(value.double().sum()) for value in weights.values()) == sorted(
        float(value.double().sum()) for value in net.state_dict().values()
    )
    other = type(net)(scale=2 if net.scale != 2 else 3)
    with pytest.raises(UserError, match=r'does not fit \w+: .*of another shape'):
        weights_for(other, path)


# -- the recipe -------------------------------------------------------------------------------------------------------
def test_frequency_loss_is_the_mean_difference_of_the_spectra():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 6, 8)), rng.random((2, 3, 6, 8))
    spectrum = np.fft.rfft2(a) - np.fft.rfft2(b)
    expected = (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2
    loss = FFTLoss(loss_weight=0.05)(torch.tensor(a), torch.tensor(b))
    assert float(loss) == pytest.approx(0.05 * expected, rel=1e-5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert FFTLoss()(torch.rand(1, 3, 7, 5).bfloat16(), torch.rand(1, 3, 7, 5)).isfinite()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_three_nets_train_under_one_recipe(repo_root: Path, scale):
    """The option files differ in the network and in the loss that is its own; else in their name alone."""

    def parts(net: str) -> tuple[dict, dict, dict]:
        opt = load_options(repo_root / f'options/train_{net}_x{scale}.yml')
        assert not check_options(opt, True, str(repo_root), files=False).faults
        assert opt.pop('name') == f'train_{net}_x{scale}'
        network = opt.pop('network_g')
        assert network['type'] == net and network['scale'] == scale
        losses = {key: value for key in ('ie_opt', 'fft_opt') if (value := opt['train'].pop(key, None))}
        return opt, network, losses

    ours, _, _ = parts('IAFMNet')
    for net, losses in (('SAFMN', {'fft_opt': {'type': 'FFTLoss', 'loss_weight': 0.05}}), ('SMFANet', {})):
        recipe, _, own = parts(net)
        assert recipe == ours
        assert own == losses
    assert ours['scale'] == scale == ours['val']['metrics']['psnr']['crop_border']
    assert ours['datasets']['train']['gt_size'] == 64 * scale
    assert all(f'X{scale}' in ours['datasets'][part]['dataroot_lq'] for part in ('train', 'val'))


def test_a_model_class_that_would_ignore_the_frequency_loss_is_refused(repo_root: Path):
    opt = load_options(repo_root / 'options/train_SAFMN_x4.yml', ['model_type=SRModel'])
    keys = ('fft_opt', 'autocast', 'channels_last')
    assert sorted(check_options(opt, True, str(repo_root), files=False).faults) == [
        f'train.{key}: SRModel does not use it, IAFMNetModel does' for key in sorted(keys)
    ]


def test_the_model_class_trains_with_the_frequency_loss(repo_root: Path):
    opt = load_options(repo_root / 'options/train_SAFMN_x4.yml')
    opt |= {
        'num_gpu': 0,
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'path': {},
        'network_g': {'type': 'SAFMN', 'scale': 4, 'dim': 8, 'n_blocks': 1},
    }
    torch.manual_seed(0)
    model = build_model(opt)
    model.feed_data({'lq': torch.rand(2, 3, 8, 8), 'gt': torch.rand(2, 3, 32, 32)})
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert log['l_fft'] == pytest.approx(FFTLoss(0.05)(model.output, model.gt).item(), rel=1e-5)
    assert set(log) == {'l_pix', 'l_fft'}


# -- spandrel ---------------------------------------------------------------------------------------------------------
def test_without_spandrel_its_extra_is_named(monkeypatch):
    monkeypatch.setattr('iafmsr.archs.spandrel_arch.find_spec', lambda _: None)
    with pytest.raises(UserError, match=r"^type Spandrel needs an extra: pip install -e '\.\[spandrel\]'$"):
        Spandrel(id='SwinIR')


@needs_spandrel
@pytest.mark.parametrize(
    'id, hyper',
    [
        (
            'SwinIR',
            {
                'upscale': 2,
                'embed_dim': 12,
                'depths': [2],
                'num_heads': [2],
                'window_size': 8,
                'upsampler': 'pixelshuffledirect',
            },
        ),
        ('SAFMN', {'dim': 8, 'n_blocks': 2, 'upscaling_factor': 2}),
        ('SeemoRe', {'scale': 2, 'num_experts': 3, 'num_layers': 2, 'embedding_dim': 16, 'lr_space': 'exp'}),
        ('SPAN', {'num_in_ch': 3, 'num_out_ch': 3, 'feature_channels': 8, 'upscale': 2}),
        ('PLKSR', {'dim': 16, 'n_blocks': 2, 'upscaling_factor': 2}),
    ],
)
def test_a_net_of_spandrel_takes_any_size_and_its_authors_weights(id, hyper):
    torch.manual_seed(0)
    net = Spandrel(id=id, **hyper).eval()
    lq = torch.rand(1, 3, 17, 22)
    with torch.no_grad():
        sr = net(lq)
        assert sr.shape == (1, 3, 34, 44) and sr.isfinite().all()
        again = Spandrel(id=id, **hyper).eval()
        again.load_state_dict(net.net.state_dict())
        assert torch.equal(again(lq), sr)


@needs_spandrel
def test_the_extra_package_of_spandrel_brings_more():
    pytest.importorskip('spandrel_extra_arches')
    hyper = {'embed_dim': 12, 'depths': [2], 'num_heads': [2], 'window_size': 8, 'upsampler': 'pixelshuffledirect'}
    assert Spandrel(id='SRFormer', upscale=2, **hyper)(torch.rand(1, 3, 17, 22)).shape == (1, 3, 34, 44)


@needs_spandrel
def test_weights_tell_which_net_of_spandrel_they_belong_to():
    torch.manual_seed(0)
    net = Spandrel(id='SAFMN', dim=8, n_blocks=2, upscaling_factor=3).eval()
    again = Spandrel.from_weights(net.net.state_dict()).eval()
    lq = torch.rand(1, 3, 8, 16)
    with torch.no_grad():
        assert again.scale == 3 and torch.equal(again(lq), net(lq))
    with pytest.raises(UserError, match='spandrel does not know these weights'):
        Spandrel.from_weights({'a': torch.zeros(1)})


@needs_spandrel
def test_unknown_id_is_answered_with_the_known_ones():
    more = '' if find_spec('spandrel_extra_arches') else r' \(pip install spandrel_extra_arches adds more\)'
    with pytest.raises(UserError, match=f"does not know the id 'SwinIRR'{more}, only .*SwinIR"):
        Spandrel(id='SwinIRR')


@needs_spandrel
def test_safmn_computes_what_spandrels_does():
    torch.manual_seed(0)
    theirs, ours = Spandrel(id='SAFMN', dim=36, upscaling_factor=4).eval(), SAFMN(scale=4).eval()
    ours.load_state_dict(theirs.net.state_dict())
    lq = torch.rand(1, 3, 24, 40)  # a size that spandrel does not pad
    with torch.no_grad():
        torch.testing.assert_close(ours(lq), theirs(lq), rtol=0, atol=1e-5)
