"""The benchmark reproduces published figures, says what it measures, and measures nothing twice."""

import errno
import json
import os
import statistics
from dataclasses import asdict, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.metrics import calculate_niqe, calculate_psnr, calculate_ssim
from PIL import Image
from torch import nn

from iafmsr.archs import SMFANet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.whole import check_writable, write_whole
from iafmsr.models import metrics
from iafmsr.models.metrics import niqe
from iafmsr.ops.resize import imresize, mod_crop
from iafmsr.tools.benchmark.alone import Alone
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec, parse_nets
from iafmsr.tools.benchmark.output import as_json, as_markdown, as_text
from iafmsr.tools.benchmark.plot import Point
from iafmsr.tools.benchmark.plot import _diagram as diagram
from iafmsr.tools.benchmark.published import published
from iafmsr.tools.benchmark.quality import BICUBIC, How, measure_quality
from iafmsr.tools.benchmark.robustness import Robustness, robustness
from iafmsr.tools.benchmark.run import benchmark
from iafmsr.tools.benchmark.sets import BenchmarkSet, _size, data_folder, find_sets
from iafmsr.tools.benchmark.speed import Speed, Timed, forms_of, measure_speed
from iafmsr.tools.benchmark.tables import difference, tables
from iafmsr.tools.measure.complexity import Complexity
from iafmsr.tools.measure.machine import PeakMemory, resident
from iafmsr.tools.measure.quality import Quality, y_quality

CPU = torch.device('cpu')
SMALL = {'type': 'SMFANet', 'scale': 4, 'dim': 8, 'n_blocks': 1}


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Something smooth with detail, uint8 (h, w, 3)."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(noise, size=(height, width), mode='bicubic').clamp(0, 1)
    return (255 * smooth[0]).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sets: one with standard LR at x4, one without LR; sizes that 4 does not divide."""
    for name, sizes in (('Set5', [(50, 61), (47, 64)]), ('Mine ü', [(49, 49)])):
        hr_folder, lr_folder = tmp_path / 'data' / name / 'HR', tmp_path / 'data' / name / 'LR_bicubic/X4'
        hr_folder.mkdir(parents=True)
        for i, size in enumerate(sizes):
            hr = photograph(*size, seed=i)
            Image.fromarray(hr).save(hr_folder / f'picture {i}.png')
            if name == 'Set5':
                lr_folder.mkdir(parents=True, exist_ok=True)
                lr = imresize(mod_crop(torch.from_numpy(hr).permute(2, 0, 1), 4), Fraction(1, 4))
                Image.fromarray(lr.permute(1, 2, 0).numpy()).save(lr_folder / f'picture {i}x4.png')
    return tmp_path / 'data'


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    net = SMFANet(scale=4, dim=8, n_blocks=1)
    torch.save(
        {'params': SMFANet(scale=4, dim=8, n_blocks=1).state_dict(), 'params_ema': net.state_dict()},
        tmp_path / 'small.pth',
    )
    return tmp_path / 'small.pth'


def small(weights: Path | None, name: str = 'small') -> NetSpec:
    return NetSpec(name, 4, SMALL, weights)


# -- figures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    'net, scale, name, psnr, ssim',
    [
        ('SMFANet', 2, 'Set5', 38.078, 0.9607),
        ('SMFANet', 3, 'Set5', 34.418, 0.9274),
        ('SMFANet', 4, 'Set5', 32.252, 0.8956),
        ('SMFANet', 4, 'Set14', 28.706, 0.7833),
        ('IMDN', 4, 'Set5', 32.210, 0.8948),
        (BICUBIC, 2, 'Set5', 33.67, 0.9303),
        (BICUBIC, 4, 'Set5', 28.43, 0.8111),
    ],
)
def test_published_weights_give_their_published_figures(data_root: Path, net, scale, name, psnr, ssim):
    file = {'SMFANet': 'SMFANet/SMFANet_DF2K_100w_x{scale}SR.pth', 'IMDN': 'IMDN/IMDN_x{scale}.pth'}.get(net)
    specs = parse_nets([f'{net}={data_root}/weights/{file}'], scale, data_root) if file else []
    items = BenchmarkSet(name, data_root / 'benchmarks' / name).items(scale)
    pictures = measure_quality(specs, {name: items}, CPU, Cache(None))[net][name]
    assert statistics.fmean(q.psnr for q in pictures.values()) == pytest.approx(psnr, abs=0.01)
    assert statistics.fmean(q.ssim for q in pictures.values()) == pytest.approx(ssim, abs=0.0002)
    if figures := published(net, scale):
        assert figures.quality[name].psnr == pytest.approx(psnr, abs=0.0151)


def test_figures_are_basicsrs_on_what_the_net_gives(data, weights):
    items = BenchmarkSet('Set5', data / 'Set5').items(4)
    scores = measure_quality([small(weights)], {'Set5': items}, CPU, Cache(None))
    net = SMFANet(scale=4, dim=8, n_blocks=1)
    net.load_state_dict(torch.load(weights, weights_only=True)['params_ema'])
    for item in items:
        hr = np.array(Image.open(item.hr))[:, :, ::-1]
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        lr = torch.from_numpy(np.array(Image.open(item.lr))).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            sr = (net(lr)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()[:, :, ::-1]
        assert scores['small']['Set5'][item.name] == Quality(
            calculate_psnr(sr, hr, 4, test_y_channel=True), calculate_ssim(sr, hr, 4, test_y_channel=True)
        )


def test_ensemble_border_and_other_metrics(data, weights, tmp_path):
    items, spec, cache = BenchmarkSet('Set5', data / 'Set5').items(4), small(weights), Cache(tmp_path / 'cache')
    lr, hr = items[0].load()

    def scores(how: How) -> Quality:
        return measure_quality([spec], {'Set5': items}, CPU, cache, how)['small']['Set5'][items[0].name]

    plain = scores(How())
    assert scores(How(border=4)) == plain != scores(How(border=0))
    net = spec.build().eval()
    with torch.inference_mode():
        x = lr[None].float() / 255
        eight = [
            net(x.flip(dims).rot90(k, (2, 3))).rot90(-k, (2, 3)).flip(dims) for dims in ((), (3,)) for k in range(4)
        ]
    mean = (torch.stack(eight).mean(0)[0].clamp(0, 1) * 255).round().byte()
    assert scores(How(ensemble=True)) == y_quality(mean, hr, 4)
    blind = np.random.default_rng(0).integers(0, 256, (3, 104, 200), np.uint8)
    assert niqe(torch.from_numpy(blind), 4) == calculate_niqe(blind[::-1].transpose(1, 2, 0), 4)
    assert np.isnan(niqe(torch.full((3, 200, 200), 9, dtype=torch.uint8), 4))  # no texture: stock BasicSR dies
    with pytest.raises(
        UserError, match=r'picture 0.png: 60x48 at x4 is too small: 96 pixels inside a border of 4 are needed$'
    ):
        scores(How(metrics=('niqe',)))
    with pytest.raises(UserError, match=r'60x48 at x4 is too small: 11 pixels inside a border of 19 are needed$'):
        scores(How(border=19))
    if find_spec('piq'):
        found = scores(How(metrics=('gmsd', 'fsim')))
        assert (found.psnr, found.ssim) == (plain.psnr, plain.ssim)
        assert 0 < found.others['gmsd'] < 1 and 0 < found.others['fsim'] < 1


def test_lr_is_made_as_the_standard_files_are(data, weights):
    with_lr = BenchmarkSet('Set5', data / 'Set5').items(4)
    for path in (data / 'Set5/LR_bicubic/X4').iterdir():
        path.unlink()
    (data / 'Set5/LR_bicubic/X4').rmdir()
    without = BenchmarkSet('Set5', data / 'Set5').items(4)
    assert all(item.lr for item in with_lr) and not any(item.lr for item in without)
    made = measure_quality([small(weights)], {'s': without}, CPU, Cache(None))
    hr = mod_crop(torch.from_numpy(photograph(50, 61, 0)).permute(2, 0, 1), 4)
    lr, same = without[0].load()
    assert torch.equal(same, hr) and torch.equal(lr, imresize(hr, Fraction(1, 4)))
    assert set(made['small']['s']) == {'picture 0', 'picture 1'}


def test_number_of_threads_changes_no_figure(data, weights):
    items = {'Set5': BenchmarkSet('Set5', data / 'Set5').items(4)}
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(measure_quality([small(weights)], items, CPU, Cache(None)))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert results[0] == results[1]


def test_difference_is_paired():
    a = {str(i): Quality(value, 0.9) for i, value in enumerate((30.0, 31.0, 35.0))}
    b = {str(i): Quality(value, 0.9) for i, value in enumerate((29.9, 31.1, 34.4))}
    d = difference(a, b)
    assert d.mean == pytest.approx(0.2) and d.spread == pytest.approx(np.std([0.1, -0.1, 0.6], ddof=1))
    assert d.error == pytest.approx(d.spread / 3**0.5) and (d.wins, d.pictures) == (2, 3)


# -- what a command line names ----------------------------------------------------------------------------------------
def test_nets_as_they_are_typed(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'small_x4.pth').write_bytes(weights.read_bytes())
    run = tmp_path / 'experiments/my_run'
    (run / 'models').mkdir(parents=True)
    (run / 'models/net_g_latest.pth').write_bytes(weights.read_bytes())
    (run / 'my_run.yml').write_text(yaml.safe_dump({'name': 'my_run', 'scale': 4, 'network_g': SMALL}))
    options = tmp_path / 'test.yml'
    options.write_text(
        yaml.safe_dump(
            {
                'name': 'test',
                'scale': 4,
                'network_g': SMALL,
                'path': {'pretrain_network_g': 'small_x4.pth', 'param_key_g': 'params'},
            }
        )
    )

    def parse(entry: str) -> NetSpec:
        return parse_nets([entry], 4, tmp_path)[0]

    by_keys = parse('mine=small_x{scale}.pth:type=SMFANet,dim=8,n_blocks=1,ffn_scale=2.0')
    assert by_keys == NetSpec('mine', 4, SMALL | {'ffn_scale': 2.0}, Path('small_x4.pth'))
    assert parse('SMFANet=small_x4.pth:ffn_scale=2.0') == replace(by_keys, name='SMFANet')  # shapes tell the rest
    assert parse('experiments/my_run/models/net_g_latest.pth') == NetSpec(
        'my_run', 4, SMALL, Path('experiments/my_run/models/net_g_latest.pth')
    )
    assert parse('test.yml') == NetSpec('test', 4, SMALL, tmp_path / 'small_x4.pth', 'params')
    assert parse('SMFANet:dim=8,n_blocks=1') == NetSpec('SMFANet', 4, SMALL)
    # BasicSR's own archs, which call scale and channels otherwise
    assert parse('EDSR').network == {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 4}
    with pytest.raises(UserError, match='the name SAFMN is taken'):
        parse_nets(['SAFMN', 'SAFMN=small_x4.pth'], 4, tmp_path)
    # what the file itself says, and the project's own weights by name
    torch.save(torch.load(weights) | {'network_g': SMALL}, tmp_path / 'Told_x4.pth')
    told = parse('Told_x{scale}.pth')
    assert told == NetSpec('Told_x4', 4, SMALL, Path('Told_x4.pth'))
    monkeypatch.setattr('iafmsr.nets.files.FOLDER', tmp_path)
    assert parse('Told_x{scale}') == NetSpec('Told_x4', 4, SMALL, tmp_path / 'Told_x4.pth')
    assert parse('told=Told_x4').key == told.key
    assert by_keys.key == parse('other=small.pth:ffn_scale=2.0').key  # neither name nor place
    assert by_keys.key != parse('mine=small.pth:n_blocks=2').key


@pytest.mark.parametrize(
    'entry, message',
    [
        ('mine=none.pth', 'mine: no such file: none.pth'),
        ('mine=small.pth:type=Mine', "no arch is called 'Mine'"),
        ('mine=net.onnx', 'the operations of an ONNX file are not counted'),
        ('mine=small\n.pth', r"'mine=small\\n\.pth': must be NAME=FILE"),
        ('SMFANEt', r"no arch is called 'SMFANEt' \(did you mean SMFANet\?\)"),
        ('SMFANet=small_{x}.pth', r'only \{scale\} may be in braces'),
        ('SMFANet=small.pth:scale=3', 'a net of scale 3, but the benchmark has scale 4'),
        ('bicubic=small.pth:type=SMFANet', 'the name bicubic is taken'),
        ('SMFANet=empty.pth', 'empty.pth: not a file of weights that loads safely'),
    ],
)
def test_what_names_no_net_is_refused_in_one_line(entry, message, weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    for name in ('empty.pth', 'net.onnx'):
        (weights.parent / name).touch()
    with pytest.raises(UserError, match=message) as error:
        parse_nets([entry], 4, weights.parent)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'network, message',
    [
        (SMALL | {'dim': 16}, r'does not fit SMFANet: .*of another shape'),
        (SMALL | {'type': 'SAFMN'}, 'does not fit SAFMN: .*missing'),
        (SMALL | {'width': 3}, "SMFANet cannot be built: .*'width'"),
    ],
)
def test_weights_of_another_net_are_refused_before_anything_is_measured(weights, network, message):
    with pytest.raises(UserError, match=message):
        NetSpec('small', 4, network, weights).build()


def test_sets_are_found(data, monkeypatch, tmp_path):
    assert [s.name for s in find_sets(data, None)] == ['Set5', 'Mine ü']  # customary ones first
    assert [s.name for s in find_sets(data, ['Mine ü'])] == ['Mine ü']
    assert [item.name for item in find_sets(data / 'Set5', None)[0].items(4)] == ['picture 0', 'picture 1']
    assert [item.name for item in find_sets(data / 'Mine ü/HR', None)[0].items(2)] == ['picture 0']  # bare pictures
    with pytest.raises(UserError, match='no set Set6, only Mine ü, Set5'):
        find_sets(data, ['Set6'])
    monkeypatch.setenv('IAFMSR_DATA', str(tmp_path / 'else'))
    with pytest.raises(UserError, match='no folder of benchmark sets: .*else/benchmarks, .*datasets/benchmarks'):
        data_folder(None, tmp_path)
    (tmp_path / 'else').symlink_to(tmp_path)
    (tmp_path / 'benchmarks').symlink_to(data)
    assert data_folder(None, tmp_path) == tmp_path / 'else/benchmarks'


# -- pictures that will not do ----------------------------------------------------------------------------------------
def test_a_faulty_set_is_refused_by_name(data):
    """A mean over the other pictures would be another figure."""
    hr, lr = data / 'Set5/HR', data / 'Set5/LR_bicubic/X4'
    whole = (hr / 'picture 0.png').read_bytes()

    def refusal() -> str:
        _size.cache_clear()  # a run looks at a file once
        with pytest.raises(UserError) as error:
            for item in BenchmarkSet('Set5', data / 'Set5').items(4):
                item.load()
        return str(error.value)

    (hr / 'picture 0.png').write_bytes(whole[: len(whole) // 2])
    assert 'picture 0.png: cannot be decoded' in refusal()
    (hr / 'picture 0.png').write_bytes(b'')
    assert 'picture 0.png: empty file' in refusal()
    Image.fromarray(photograph(18, 90, 0)).save(hr / 'picture 0.png')
    assert 'picture 0.png: 90x18 is too small to be measured at x4' in refusal()
    (hr / 'picture 0.png').write_bytes(whole)
    Image.fromarray(photograph(13, 15, 0)).save(lr / 'picture 0x4.png')
    assert 'picture 0x4.png: 15x13, but the LR of 61x50 at x4 has 15x12' in refusal()
    (lr / 'picture 0x4.png').unlink()
    assert 'X4: no picture 0x4.png, the LR of' in refusal()


def test_pictures_of_every_kind_are_measured(tmp_path):
    rgb = photograph(40, 40, 0)
    for name, image in [
        ('cmyk.tif', Image.fromarray(rgb).convert('CMYK')),
        ('palette.png', Image.fromarray(rgb).convert('P')),
        ('gray.png', Image.fromarray(rgb[..., 0])),
        ('Ä ä.png', Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)),
    ]:
        image.save(tmp_path / name)
    items = BenchmarkSet('mixed', tmp_path).items(3)
    scores = measure_quality([], {'mixed': items}, CPU, Cache(None))[BICUBIC]['mixed']
    assert set(scores) == {'cmyk', 'palette', 'gray', 'Ä ä'}
    assert all(np.isfinite(q.psnr) for q in scores.values())


def test_a_net_that_fails_or_gives_another_size_is_named(data, monkeypatch):
    items = {'Set5': BenchmarkSet('Set5', data / 'Set5').items(4)}
    for forward, message in [
        (lambda lq: nn.functional.conv2d(lq, torch.zeros(1, 5, 1, 1)), 'small on Set5/picture 0 '),
        (lambda lq: lq, 'small on Set5/picture 0: gives 15x12, not 60x48'),
    ]:
        net = SMFANet(scale=4, dim=8, n_blocks=1)
        net.forward = forward
        monkeypatch.setattr(NetSpec, 'build', lambda self, net=net: net)
        with pytest.raises(UserError, match=message):
            measure_quality([small(Path(__file__))], items, CPU, Cache(None))


# -- what has been measured is not measured again ---------------------------------------------------------------------
def test_a_rerun_computes_nothing_and_a_change_only_what_it_changes(data, weights, tmp_path, monkeypatch):
    def run() -> tuple[list, list[str], int]:
        built, loaded = [], []
        build, load = NetSpec.build, type(items['Set5'][0]).load
        with monkeypatch.context() as m:
            m.setattr(NetSpec, 'build', lambda self: built.append(self.name) or build(self))
            m.setattr(type(items['Set5'][0]), 'load', lambda self: loaded.append(self.name) or load(self))
            scores = measure_quality(
                [small(weights)], {s: BenchmarkSet(s, data / s).items(4) for s in items}, CPU, Cache(tmp_path / 'cache')
            )
        return scores, built, len(loaded)

    items = {name: BenchmarkSet(name, data / name).items(4) for name in ('Set5', 'Mine ü')}
    first, built, loaded = run()
    assert built == ['small'] and loaded == 3
    assert run() == (first, [], 0)
    Image.fromarray(photograph(50, 61, 9)).save(data / 'Set5/HR/picture 0.png')
    changed, built, loaded = run()
    assert built == ['small'] and loaded == 1
    assert changed['small']['Set5']['picture 0'] != first['small']['Set5']['picture 0']
    content = torch.load(weights, weights_only=True)
    torch.save({'params_ema': {k: v + 0.01 for k, v in content['params_ema'].items()}}, weights)
    assert run()[2] == 3
    for file in (tmp_path / 'cache').iterdir():
        file.write_bytes(b'{"half')
    assert run()[2] == 3  # a damaged cache is no cache


@pytest.mark.parametrize('wrong', [1, 'text', [], [1.0], ['a', 'b'], {'psnr': 1}, [1.0, 2.0, 3.0]])
def test_a_cached_result_of_a_wrong_kind_is_none(data, tmp_path, wrong):
    items = {'Set5': BenchmarkSet('Set5', data / 'Set5').items(4)}
    scores = measure_quality([], items, CPU, Cache(tmp_path / 'cache'))
    (file,) = (tmp_path / 'cache').iterdir()
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), wrong)))
    assert measure_quality([], items, CPU, Cache(tmp_path / 'cache')) == scores


def test_cached_figures_of_networks_keep_their_kind(tmp_path):
    cache = Cache(tmp_path)
    kept = {'complexity': Complexity(1, 2, 3), 'robustness': Robustness(0.5, 1, 2.0, (0.0, 1.0), (-1.0, 2.0))}
    cache.put('subject', 'complexity', kept['complexity'])
    cache.put('subject', 'robustness', asdict(kept['robustness']))
    kept['speed'] = Timed(40.0, {'net': Speed(1.0, (0.5, 2.0), 3.0), 'other': Speed(1.0, (0.5, 2.0), None)})
    cache.put('subject', 'speed', asdict(kept['speed']))
    cache.save()
    found = Cache(tmp_path)
    assert {key: found.get('subject', key, type(value)) for key, value in kept.items()} == kept
    assert found.get('subject', 'speed', Complexity) is None


def test_results_depend_on_a_nets_own_code_alone(monkeypatch):
    smfanet, safmn = 'iafmsr.archs.smfanet_arch', 'iafmsr.archs.safmn_arch'
    before = code_digest(smfanet), code_digest(safmn)
    read = Path.read_bytes
    for changed, expected in [
        ('smfanet_arch.py', (False, True)),
        ('norm.py', (False, False)),
        ('gdn.py', (True, True)),
    ]:
        with monkeypatch.context() as m:
            m.setattr(Path, 'read_bytes', lambda path, name=changed: read(path) + b'#' * (path.name == name))
            after = code_digest(smfanet), code_digest(safmn)
        assert tuple(a == b for a, b in zip(before, after, strict=True)) == expected


def test_an_interrupted_run_keeps_what_it_has_measured(data, weights, tmp_path, monkeypatch):
    import iafmsr.tools.benchmark.quality as quality

    items = {'Set5': BenchmarkSet('Set5', data / 'Set5').items(4)}
    measured = []

    def interrupted(sr, hr, border):
        if len(measured) == 2:  # bicubic and the net on the first picture
            raise KeyboardInterrupt
        measured.append(1)
        return Quality(30.0, 0.9)

    monkeypatch.setattr(quality, 'y_quality', interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_quality([small(weights)], items, CPU, Cache(tmp_path / 'cache'))
    monkeypatch.setattr(quality, 'y_quality', lambda sr, hr, border: measured.append(1) or Quality(31.0, 0.9))
    scores = measure_quality([small(weights)], items, CPU, Cache(tmp_path / 'cache'))
    assert len(measured) == 4
    assert [q.psnr for q in scores['small']['Set5'].values()] == [30.0, 31.0]


# -- cost -------------------------------------------------------------------------------------------------------------
def test_peak_memory_counts_what_is_alive():
    """Weights, input and the two largest neighbouring features; a view costs nothing, what is dropped is gone."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.Conv2d(8, 16, 1, bias=False),
        nn.PixelShuffle(4),
        nn.Conv2d(1, 1, 1, bias=False),
    )
    picture = torch.rand(1, 3, 10, 12)
    with torch.no_grad(), PeakMemory([picture, *net.parameters()]) as memory:
        net(picture).view(-1)
    held = 3 * 8 * 9 + 8 * 16 + 1 + picture.numel()
    assert memory.peak == 4 * (held + 2 * 16 * 120)  # features and their shuffled copy, then that and its convolution


class Recording(NetSpec):
    """A net that writes down when it ran on what; it is built in a process of its own."""

    def build(self) -> nn.Module:
        def forward(lq):
            with open(self.network['record'], 'a') as file:
                file.write(f'{self.name} {os.getpid()} {tuple(lq.shape[-2:])} {float(lq.sum())}\n')
            return lq

        net = nn.Identity()
        net.forward = forward
        return net


def test_speed_takes_turns_and_is_kept(tmp_path):
    record = tmp_path / 'record'
    specs = [
        Recording(name, 4, {'type': arch, 'record': str(record)}) for name, arch in (('a', 'SAFMN'), ('b', 'SMFANet'))
    ]

    def measure() -> dict[str, Speed]:
        return measure_speed(specs, 'torch', (16, 9), CPU, Cache(tmp_path), pictures=3).nets

    speed = measure()
    lines = record.read_text().splitlines()
    timed = [line.split(' ', 2) for line in lines[6:]]  # before them three of each for memory
    assert [name for name, _, _ in timed] == ['a', 'b'] * (3 + 3)
    assert len({process for _, process, _ in timed} | {str(os.getpid())}) == 3
    assert timed[0][2].startswith('(9, 16) ')
    assert timed[0][2] == timed[1][2] != timed[2][2]  # the same picture for both, then another
    assert speed['a'].quartiles_ms[0] <= speed['a'].median_ms <= speed['a'].quartiles_ms[1]
    assert measure() == speed
    assert record.read_text().splitlines() == lines


@pytest.mark.skipif(resident() is None, reason='the system does not say what a process holds')
def test_what_a_process_held_at_its_peak_is_known_afterwards():
    before = resident()
    torch.ones(50 * 2**18)  # 50 MiB, freed at once
    assert 45 < resident(peak=True) - before < 80
    before = resident()
    assert resident(peak=True) - before < 5


def test_what_is_to_be_timed_has_to_be_there(monkeypatch):
    monkeypatch.setattr('iafmsr.tools.benchmark.speed.unfit', lambda engine, *_: None if engine == 'torch' else 'gone')
    assert forms_of(['all'], CPU) == ['torch', 'torch-bf16', 'torch-fp16']
    assert forms_of(['torch', 'torch'], CPU) == ['torch'] and forms_of([], CPU) == []
    with pytest.raises(UserError, match='^--speed onnxruntime: gone$'):
        forms_of(['torch', 'onnxruntime'], CPU)


def fail(net, error):
    raise error


def leave(net):
    os._exit(1)


@pytest.mark.parametrize(
    'question, message',
    [
        ((fail, RuntimeError('out of memory\nat some place')), '^x: out of memory$'),
        ((fail, UserError('not so')), '^not so$'),
        ((leave,), '^x: its process has ended'),
    ],
)
def test_a_net_that_fails_in_its_process_is_named(tmp_path, question, message):
    spec = Recording('x', 4, {'record': str(tmp_path / 'record')})
    with Alone(spec.name, spec.build) as net, pytest.raises(UserError, match=message):
        net.ask(*question)


def test_a_net_whose_way_depends_on_values_is_counted_too(data, tmp_path, monkeypatch):
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 48, 1, bias=False)

        def forward(self, lq):
            return nn.functional.pixel_shuffle(self.conv(lq) if lq.sum().item() >= 0 else lq, 4)

    monkeypatch.setattr(NetSpec, 'build', lambda self: Deciding())
    (report,) = benchmark(['SMFANet'], [], [4], tmp_path, Cache(None), CPU)
    assert report.complexity['SMFANet'] == (144, 144 * 320 * 180, 48 * 320 * 180)


# -- results ----------------------------------------------------------------------------------------------------------
def test_tables_hold_measured_beside_published(data, weights, tmp_path):
    nets = [f'{name}={weights}:type=SMFANet,dim=8,n_blocks=1' for name in ('SMFANet', 'SAFMN')]
    (report,) = benchmark(nets, find_sets(data, None), [4], tmp_path, Cache(None), CPU, others=['IMDN'])
    found = tables(report, per_picture=True)
    rows = found[0].rows
    assert rows[0] == ['net', 'params, K', 'GMACs', 'M activations', 'Set5', 'Mine ü']
    assert [row[0] for row in rows[1:]] == [
        'bicubic',
        '  published',
        '  difference',
        'SMFANet',
        '  published',
        '  difference',
        'SAFMN',
        '  published',
        '  difference',
        'IMDN, published',
    ]
    mean = statistics.fmean(q.psnr for q in report.scores['SMFANet']['Set5'].values())
    assert rows[4][4].startswith(f'{mean:.2f} / ')
    assert rows[5][1:5] == ['197', '11', '-', '32.25 / 0.8956']
    assert rows[6][4].startswith(f'{mean - 32.25:+.3f} / ')
    assert found[1].rows[1] == ['SAFMN', '+0.000 ± 0.000 (0/2)', '+0.000 ± 0.000 (0/1)']  # the same weights
    assert [row[0] for row in found[2].rows] == ['picture', 'picture 0', 'picture 1']

    text, document = as_text(found), as_markdown(found, 'iafmsr benchmark X')
    body = text.split('\n\n')[1].splitlines()
    assert len({len(line) for line in body}) == 1  # aligned
    assert '    iafmsr benchmark X' in document.splitlines()
    for table in found:
        for row in table.rows:
            assert '| ' + ' | '.join(row) + ' |' in document
    kept = json.loads(as_json([report], 'c'))['scales'][0]
    assert kept['quality'][1]['sets']['Set5']['mean']['psnr'] == mean
    assert kept['differences']['SAFMN']['Set5']['pictures'] == 2
    assert kept['published']['IMDN']['quality']['Urban100'] == {'psnr': 26.04, 'ssim': 0.7838}


@pytest.mark.parametrize(
    'net, scale, name, quality',
    [
        ('SAFMN', 2, 'Urban100', (31.84, 0.9256)),
        ('safmn', 4, 'Manga109', (30.43, 0.9063)),
        ('IAFMNet', 3, 'Set14', (30.61, 0.8454)),
        ('SMFANet', 4, 'BSD100', (27.64, 0.7377)),
        ('bicubic', 3, 'Set5', (30.39, 0.8682)),
        ('SMFANet', 2, 'Set5', (38.08, 0.9607)),
    ],
)
def test_published_figures_are_kept_as_they_were_printed(net, scale, name, quality):
    assert published(net, scale).quality[name] == Quality(*quality)
    assert published('SAFMN', 4).ms == 10.71 and published('IMDN', 4).memory == 203.44
    assert published('nothing', 4) is None


def test_one_command_makes_all_of_it(data, weights, tmp_path, capsys):
    out = tmp_path / 'out'
    regions = ['--crop', 'Set5/picture 0:8,4,24', 'Set5/picture 1:0,0,16']
    files = f'--output {out}/a.md {out}/a.json {out}/a.txt --figure {out}/a.png --cache {tmp_path}/cache'.split()
    files += ['--plot', f'{out}/plot.png']
    arguments = [f'SMFANet={weights}:dim=8,n_blocks=1', '--data', str(data), '--drawn', *files, *regions]
    main(['benchmark', *arguments])
    printed = capsys.readouterr().out
    assert (out / 'a.txt').read_text() == printed
    assert sorted(path.name for path in out.iterdir()) == ['a.json', 'a.md', 'a.png', 'a.txt', 'plot.png']
    content = json.loads((out / 'a.json').read_text())
    assert content['command'].startswith('iafmsr benchmark SMFANet=')
    found = asdict(robustness(small(weights).build(), 4))
    assert content['scales'][0]['robustness'] == {'SMFANet': json.loads(json.dumps(found))}
    assert f'| SMFANet | {found["flat_off"]:.3%} | {found["broken"]} |' in (out / 'a.md').read_text()
    with Image.open(out / 'plot.png') as diagrams:  # of parameters and of GMACs
        assert diagrams.width > 2 * diagrams.height - 200 > 900
    with Image.open(out / 'a.png') as figure:
        assert figure.width > 4 * 192 and figure.height > 2 * 192
        assert np.asarray(figure.convert('RGB')).std() > 10
    main(['benchmark', *arguments])
    assert capsys.readouterr().out == printed


def test_points_of_the_plot_are_where_their_figures_are():
    """Twice the cost is as far to the right at any cost; published figures are hollow; names do not cover points."""
    points = [Point('A', 10, 30), Point('B', 20, 31), Point('C', 40, 30.5, True)]
    pixels = np.asarray(diagram(points)).astype(int)
    blue = (np.abs(pixels - (0, 0x42, 0x9D)).max(2) < 8) * 1.0
    discs = cv2.filter2D(blue, -1, np.ones((9, 9))) > 75  # no letter is as solid
    _, _, _, centres = cv2.connectedComponentsWithStats(discs.astype(np.uint8))
    (ax, ay), (bx, by) = sorted(centres[1:].tolist())
    cx, cy = round(2 * bx - ax), round((ay + by) / 2)
    assert bx - ax > 50 and ay - by > 50
    assert pixels[cy, cx].min() > 220 and np.abs(pixels[cy, cx + 4] - 0x80).max() < 40


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--crop', 'Set5/picture 0:8,4,24'], '--crop and --figure must be used together'),
        (['--crop', 'Set5', '--figure', 'a.png'], '--crop Set5: must be SET/PICTURE:LEFT,TOP,SIZE'),
        (['--crop', 'Set5/none:8,4,24', '--figure', 'a.png'], '--crop Set5/none: no such picture'),
        (['--crop', 'Set5/picture 0:50,4,24', '--figure', 'a.png'], 'outside of the picture, 60x48'),
        (['--output', 'a.pdf'], '--output a.pdf: the name must end in .txt, .md, .json'),
        (['--output', 'data/Set5/HR/picture 0.png/a.md'], 'cannot be written'),
        (['--published', 'SAFMM'], "--published: no figures of 'SAFMM' (did you mean SAFMN?)"),
        (['other=small.pth:dim=9'], 'small.pth does not fit SMFANet'),
        (['--sets', 'Set6'], 'no set Set6'),
        (['--plot', 'a.png'], '--plot: name the networks that are to be compared'),
        (['SMFANet', '--plot', 'a.pdf'], '--plot a.pdf: the name must end in .png'),
        (['--metrics', 'fsim'], "metric fsim needs an extra: pip install 'iafmsr[metrics]'"),
        (['--threads', '0'], '--threads 0: must be a whole number from 1'),
        (['--speed', 'cuda'], '--speed cuda: must be one of all, torch'),
        (['--pictures', '1'], '--pictures 1: must be a whole number from 2'),
        (['--size', '0x180'], '--size 0x180: must be WIDTHxHEIGHT'),
    ],
)
def test_mistakes_cost_one_line_and_no_file(data, weights, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr('iafmsr.models.metrics.find_spec', lambda _: None)
    metrics._metric.cache_clear()
    before = sorted(data.parent.rglob('*'))
    with pytest.raises(SystemExit) as stop:
        main(['benchmark', *arguments, '--data', str(data), '--no-cache'])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith('iafmsr: error: ') and error.count('\n') == 1
    assert sorted(data.parent.rglob('*')) == before


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS])
def test_full_disk_and_read_only_target_leave_the_old_file_and_no_other(tmp_path, monkeypatch, capsys, number):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    target = tmp_path / 'a.md'
    write_whole(target, b'old')
    cache = Cache(tmp_path / 'cache')
    monkeypatch.setattr(os, 'fsync', refuse)  # after the file was begun
    monkeypatch.setattr(Path, 'touch', refuse)
    for act in (lambda: write_whole(target, b'new'), lambda: check_writable(target)):
        with pytest.raises(UserError, match=rf'a\.md: cannot be written \({os.strerror(number)}\)'):
            act()
    cache.put('subject', 'key', 1)
    cache.save()  # the results are there all the same
    assert 'results are not kept' in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == ['a.md']
    assert target.read_bytes() == b'old'
