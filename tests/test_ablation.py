"""Ablations: names that all start from one base, paired differences, ties and tables."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from iafmsr.ablation import tables
from iafmsr.ablation.measure import draw_maps, measure
from iafmsr.ablation.named import Ablations, options_of
from iafmsr.ablation.runs import Run, ablate
from iafmsr.archs import IAFMNet
from iafmsr.benchmark.robustness import robustness
from iafmsr.benchmark.sets import BenchmarkSet
from iafmsr.data.forms import WholePictures
from iafmsr.data.preparation import prepare
from iafmsr.errors import UserError
from iafmsr.utils.complexity import count

ROOT = Path(__file__).resolve().parent.parent
NAMED = Ablations.read(ROOT / 'options/ablation.yml')


@pytest.mark.parametrize('name', NAMED.overrides)
def test_each_ablation_differs_from_the_base_in_the_net_or_the_entropy_loss_alone(name):
    base, opt = NAMED.options('adam4' if name.startswith('adam4_') else 'base'), NAMED.options(name)
    assert opt['name'] == f'ablation_{name}'
    for o in (base, opt):
        del o['name']
        if name in ('adam', 'adam4'):  # the optimizer alone
            del o['train']['optim_g']
        else:
            del o['network_g']
            o['train'].pop('ie_opt', None)
    assert opt == base


def test_nets_of_the_ablations_are_within_the_papers_ceilings():
    allowed = {'k050', 'k100'}  # the paper's own rows beyond 5 %: its FLOPs grow as well
    for name in NAMED.overrides:
        network = NAMED.options(name)['network_g']
        if network.pop('type') == 'IAFMNet' and name not in allowed:
            size = count(IAFMNet(**network), 4)
            assert size.params <= 220_000 and size.macs <= 11e9, name


START = 'name: start\nnetwork_g: {type: A, width: 4, depth: 2}\ntrain: {loss: {weight: 1}}\n'


def ablations(folder: Path, text: str) -> Ablations:
    (folder / 'start.yml').write_text(START)
    (folder / 'ablation.yml').write_text(text)
    return Ablations.read(folder / 'ablation.yml')


def test_overrides_are_laid_over_their_base(tmp_path):
    named = ablations(tmp_path, """ablations:
  base: {base: start.yml}
  wide: {network_g: {width: 8}}
  wide_deep: {base: wide, network_g: {depth: 6}}
  other: {base: wide_deep, network_g: {type: B}, train: {loss: ~}}""")
    train = {'loss': {'weight': 1}}
    assert named.options('base') == {'name': 'ablation_base', 'network_g': {'type': 'A', 'width': 4, 'depth': 2},
                                     'train': train}
    assert named.options('wide_deep')['network_g'] == {'type': 'A', 'width': 8, 'depth': 6}
    assert named.options('wide_deep')['train'] == train
    assert named.options('other') == {'name': 'ablation_other', 'network_g': {'type': 'B'}, 'train': {}}


@pytest.mark.parametrize('text, message', [
    ('ablations: {base: {base: start.yml}, a: {base: b}, b: {base: a}}', 'a -> b -> a: the bases run in a circle'),
    ('ablations: {base: {base: start.yml}, a: {base: bass}}', r"base: no ablation is called 'bass' .did you mean base"),
    ('ablations: {base: {base: start.yml}, a: {base: none.yml}}', r'none.yml: No such file'),
    ('ablations: {base: {base: start.yml}, b: {}}', r"no ablation is called 'a'"),
    ('ablations: {a: }', 'ablations: names, each with a section of overrides'), ('a: 1', 'ablations: names')])
def test_faults_of_ablations_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        ablations(tmp_path, text).options('a')


def test_a_command_takes_names_and_option_files(tmp_path):
    (tmp_path / 'mine.yml').write_text(f'base: {ROOT}/options/short_IAFMNet_x4.yml\nname: x\nnetwork_g: {{k: 0.3}}\n')
    label, options = options_of(str(tmp_path / 'mine.yml'), ROOT)
    assert label == 'mine'
    assert options_of('k020', ROOT) == ('k020', {**options, 'name': 'ablation_k020',
                                                 'network_g': {**options['network_g'], 'k': 0.2}})
    with pytest.raises(UserError, match=r"no ablation is called 'no_mop' \(did you mean no_map\?\)"):
        options_of('no_mop', ROOT)


def test_differences_are_paired_and_a_small_one_is_a_tie():
    reference = [27.0, 28.0, 29.0]
    assert tables.difference([27.1, 28.1, 29.13], reference) == '+0.110 ± 0.010'
    assert tables.difference([27.1, 27.9, 29.03], reference) == '+0.010 ± 0.059 (tie)'
    assert tables.difference([27.1], reference[:1]) == '+0.100 (one seed)'


def result(psnr: float, rho: float) -> dict:
    return {'psnr': {'Set5': psnr, 'Set14': psnr - 2}, 'ssim': {'Set5': 0.9, 'Set14': 0.8}, 'params': 1234,
            'macs': 5_600_000_000, 'it/s': 3.0,
            'robustness': {'flat_off': psnr / 1000, 'broken': int(psnr) % 10, 'solid_levels': psnr,
                           'drawn_range': [-rho, 1 + rho], 'pattern_range': [-9.0, rho]},
            'maps': {name: {'map': [rho, 0.2], 'sobel': [0.5, 0.19]} for name in ('Set5', 'Set14')}}


def test_tables():
    results = {'base': [result(30.0, 0.7)], 'other': [result(30.1, 0.6)]}
    quality = tables.quality_table(results).splitlines()
    assert quality[2] == '| base | 1,234 | 5.60 | 3.00 | 30.00 / 0.9000 | 28.00 / 0.8000 | 29.000 |  |'
    assert quality[3].endswith('| 29.100 | +0.100 (one seed) |')
    maps = tables.map_table(results).splitlines()
    assert maps[2:] == ['| base | 0.700 / 0.200 | 0.700 / 0.200 |', '| other | 0.600 / 0.200 | 0.600 / 0.200 |',
                        '| sobel | 0.500 / 0.190 | 0.500 / 0.190 |']
    results = {'base': [result(30.0, 0.7), result(31.0, 0.6)]}
    robust = tables.robustness_table(results).splitlines()
    assert robust[2:] == ['| base | 3.050% | 0.5 | 31 | -0.70 to 1.70 | -9.00 to 0.70 |']


def test_measuring_a_net(tmp_path):
    from PIL import Image
    torch.manual_seed(0)
    (tmp_path / 'in').mkdir()
    Image.fromarray(torch.randint(256, (96, 80, 3), dtype=torch.uint8).numpy()).save(tmp_path / 'in/a.png')
    prepare([tmp_path / 'in'], tmp_path / 'set', [4], WholePictures())
    opt = {'scale': 4, 'network_g': {'type': 'IAFMNet', 'num_feat': 8, 'num_block': 1}, 'train': {'ie_opt': {}}}
    net = IAFMNet(4, num_feat=8, num_block=1)
    torch.save({'params': net.state_dict()}, tmp_path / 'net.pth')
    figures = measure(opt, tmp_path / 'net.pth', [BenchmarkSet('set', tmp_path / 'set')])
    assert figures['params'] == sum(p.numel() for p in net.parameters())
    assert set(figures['maps']['set']) >= {'map', 'sobel', 'local std, 3x3 mean'}
    assert 0 < figures['psnr']['set'] < 30
    assert figures['robustness'] == asdict(robustness(net.eval(), 4))

    sets = [BenchmarkSet('set', tmp_path / 'set')]
    figure = draw_maps(opt, tmp_path / 'net.pth', sets, ['set/a'])
    assert figure.width > 5 * 200 and figure.height > 240
    with pytest.raises(UserError, match='set/b: no such picture, only set/a'):
        draw_maps(opt, tmp_path / 'net.pth', sets, ['set/b'])


def test_two_options_of_one_name_are_refused(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.yml').write_text('scale: 4\n')
    with pytest.raises(UserError, match='one name'):
        ablate([str(tmp_path / 'a/x.yml'), str(tmp_path / 'b/x.yml')], 10, [0], [], tmp_path)


def test_changed_options_are_another_run():
    """Or it would go on from, and be measured by, the finished run of what it was before."""
    names = [Run('x', {'train': {'ema_decay': decay}}, 0, 10).name for decay in (0.999, 0.99, 0.999)]
    assert names[0] == names[2] != names[1]
