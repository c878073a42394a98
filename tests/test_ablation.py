"""Ablations: paired differences, ties, tables, and files that all start from one base."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from iafmsr.ablation import tables
from iafmsr.ablation.measure import draw_maps, measure
from iafmsr.ablation.runs import Run, ablate
from iafmsr.archs import IAFMNet
from iafmsr.benchmark.robustness import robustness
from iafmsr.benchmark.sets import BenchmarkSet
from iafmsr.data.forms import WholePictures
from iafmsr.data.preparation import prepare
from iafmsr.errors import UserError
from iafmsr.options.files import load_options
from iafmsr.utils.complexity import count

FILES = sorted((Path(__file__).parent.parent / 'options/ablation').glob('*.yml'))


@pytest.mark.parametrize('file', FILES, ids=lambda f: f.stem)
def test_each_file_differs_from_the_base_in_the_net_or_the_entropy_loss_alone(file):
    base = file.with_name('adam4.yml' if file.stem.startswith('adam4_') else 'base.yml')
    base, opt = load_options(base), load_options(file)
    assert opt['name'] == f'ablation_{file.stem}'
    for o in (base, opt):
        del o['name']
        if file.stem in ('adam', 'adam4'):  # the optimizer alone
            del o['train']['optim_g']
        else:
            del o['network_g']
            o['train'].pop('ie_opt', None)
    assert opt == base


def test_nets_of_the_ablations_are_within_the_papers_ceilings():
    allowed = {'k050', 'k100'}  # the paper's own rows beyond 5 %: its FLOPs grow as well
    for file in FILES:
        network = load_options(file)['network_g']
        if network.pop('type') == 'IAFMNet' and file.stem not in allowed:
            size = count(IAFMNet(**network), 4)
            assert size.params <= 220_000 and size.macs <= 11e9, file.stem


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


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match='one name'):
        ablate([tmp_path / 'a/x.yml', tmp_path / 'b/x.yml'], 10, [0], [], tmp_path)


def test_a_changed_file_is_another_run(tmp_path):
    """Or it would go on from, and be measured by, the finished run of what it was before."""
    file, names = tmp_path / 'x.yml', []
    for decay in (0.999, 0.99, 0.999):
        file.write_text(f'train: {{ema_decay: {decay}}}\n')
        names.append(Run(file, 0, 10).name)
    assert names[0] == names[2] != names[1]
