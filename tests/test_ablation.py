"""Ablations: names that all start from one base, paired differences, ties and tables."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
import yaml

from iafmsr.archs import SAFMN, IAFMNet
from iafmsr.errors import UserError
from iafmsr.tools.ablation import tables
from iafmsr.tools.ablation.measure import draw_maps, measure
from iafmsr.tools.ablation.named import Ablations, options_of
from iafmsr.tools.ablation.results import DOCUMENT, KEPT, fill, keep, read
from iafmsr.tools.ablation.runs import Run, ablate, report
from iafmsr.tools.benchmark.robustness import robustness
from iafmsr.tools.benchmark.sets import BenchmarkSet
from iafmsr.tools.measure.complexity import count
from iafmsr.tools.prepare.forms import WholePictures
from iafmsr.tools.prepare.preparation import prepare

ROOT = Path(__file__).resolve().parent.parent
NAMED = Ablations.read(ROOT / 'options/ablation.yml')


@pytest.mark.parametrize('name', NAMED.overrides)
def test_each_ablation_differs_from_the_base_in_the_net_or_the_entropy_loss_alone(name):
    rates = {'adam': 'base', 'adam4': 'base', 'lean_w4': 'lean', 'adam2_safmn': 'adam4_safmn'}  # the optimizer alone
    rates['adam_safmn_no_norm_slow'] = 'adam_safmn_no_norm'
    optimizer = next((prefix for prefix in ('adam4', 'adam') if name.startswith(f'{prefix}_')), 'base')
    base, opt = NAMED.options(rates.get(name, optimizer)), NAMED.options(name)
    assert opt['name'] == f'ablation_{name}'
    for o in (base, opt):
        del o['name']
        for key in ('optim_g', 'warmup_iter') if name in rates else ('ie_opt',):
            o['train'].pop(key, None)
        if name not in rates:
            del o['network_g']
        if name == 'colours':
            o['datasets']['train'] |= {'colour_augment': None, 'synthetic': None}
    assert opt == base


def test_nets_of_the_ablations_are_within_the_papers_ceilings():
    # k of 100 %, and nets that were chosen when 1x1 products that follow one another were counted as one
    allowed = {'k100', 'adam_k100', 'dense', 'lean_56', 'lean_64', 'adam_64', 'adam4_64'}
    for name in NAMED.overrides:
        network = NAMED.options(name)['network_g']
        if network.pop('type') == 'IAFMNet' and name not in allowed:
            size = count(IAFMNet(**network), 4)
            assert size.params <= 220_000 and size.macs <= 11e9, name


SAFMN_TABLE_3 = {
    'no_safm': 225_408,
    'no_ccm': 30_720,
    'a': 239_520,
    'b': 239_520,
    'c': 228_864,
    'ab': 239_520,
    'ac': 228_864,
    'abc': 228_864,
    'avg': 239_520,
    'nearest': 239_520,
    'no_act': 239_520,
    'sigmoid': 239_520,
    'se': 260_976,
    'mlp': 73_632,
    'inverted': 245_280,
    'no_norm': 238_368,
    'batch_norm': 239_520,
    'l2_norm': 238_368,
}


@pytest.mark.parametrize('name', SAFMN_TABLE_3)
def test_ablations_of_safmn_have_the_parameters_of_its_table_and_train(name):
    network = NAMED.options(f'adam_safmn_{name}')['network_g']
    assert network.pop('type') == 'SAFMN'
    assert sum(p.numel() for p in SAFMN(**network).parameters()) == SAFMN_TABLE_3[name]
    net = SAFMN(**network | {'dim': 8, 'n_blocks': 1})
    net(torch.rand(2, 3, 9, 12)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


START = 'name: start\nnetwork_g: {type: A, width: 4, depth: 2}\ntrain: {loss: {weight: 1}}\n'


def ablations(folder: Path, text: str) -> Ablations:
    (folder / 'start.yml').write_text(START)
    (folder / 'ablation.yml').write_text(text)
    return Ablations.read(folder / 'ablation.yml')


def test_overrides_are_laid_over_their_base(tmp_path):
    named = ablations(
        tmp_path,
        """ablations:
  base: {base: start.yml}
  wide: {network_g: {width: 8}}
  wide_deep: {base: wide, network_g: {depth: 6}}
  other: {base: wide_deep, network_g: {type: B}, train: {loss: ~}}""",
    )
    train = {'loss': {'weight': 1}}
    assert named.options('base') == {
        'name': 'ablation_base',
        'network_g': {'type': 'A', 'width': 4, 'depth': 2},
        'train': train,
    }
    assert named.options('wide_deep')['network_g'] == {'type': 'A', 'width': 8, 'depth': 6}
    assert named.options('wide_deep')['train'] == train
    other = {'name': 'ablation_other', 'network_g': {'type': 'B'}, 'train': {}}
    assert named.options('other') == other
    del named.options('other')['network_g']['type']  # what one caller does to its options is no other's matter
    assert named.options('other') == other


@pytest.mark.parametrize(
    'text, message',
    [
        ('ablations: {base: {base: start.yml}, a: {base: b}, b: {base: a}}', 'a -> b -> a: the bases form a circle'),
        (
            'ablations: {base: {base: start.yml}, a: {base: bass}}',
            r"base: no ablation is called 'bass' .did you mean base",
        ),
        ('ablations: {base: {base: start.yml}, a: {base: none.yml}}', r'none.yml: No such file'),
        ('ablations: {base: {base: start.yml}, b: {}}', r"no ablation is called 'a'"),
        ('ablations: {a: }', 'ablations: must have names, each with a section of overrides'),
        ('a: 1', 'ablations: must have names'),
    ],
)
def test_faults_of_ablations_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        ablations(tmp_path, text).options('a')


def test_a_command_takes_names_and_option_files(tmp_path):
    (tmp_path / 'mine.yml').write_text(f'base: {ROOT}/options/short_IAFMNet_x4.yml\nname: x\nnetwork_g: {{k: 0.3}}\n')
    label, options = options_of(str(tmp_path / 'mine.yml'))
    assert label == 'mine'
    network = options['network_g']
    assert network.pop('k') == 0.3
    assert options_of('settled') == ('settled', {**options, 'name': 'ablation_settled'})
    base = {**network, 'ffn_scale': 1, 'ssconv': 'own', 'residual': False, 'guide': 'deviation'}
    assert options_of('k020') == ('k020', {**options, 'name': 'ablation_k020', 'network_g': {**base, 'k': 0.2}})
    with pytest.raises(UserError, match=r"no ablation is called 'no_mop' \(did you mean no_map\?\)"):
        options_of('no_mop')


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_differences_are_paired_and_a_small_one_is_a_tie():
    reference = by_seed(27.0, 28.0, 29.0)
    assert tables.difference(by_seed(27.1, 28.1, 29.13), reference) == '+0.110 ± 0.010'
    assert tables.difference(by_seed(27.1, 27.9, 29.03), reference) == '+0.010 ± 0.059 (tie)'
    assert tables.difference({1: 28.1}, reference) == '+0.100 (one seed)'
    assert tables.difference({3: 28.1}, reference) == 'no seed in common'


def result(psnr: float, rho: float, seed: int = 0, label: str = 'base', **more: float) -> dict:
    psnrs = {'Set5': psnr, 'Set14': psnr - 2, **more}
    return {
        'label': label,
        'digest': '12345678',
        'iterations': 1000,
        'seed': seed,
        'psnr': psnrs,
        'ssim': dict.fromkeys(psnrs, 0.9) | {'Set14': 0.8},
        'params': 1234,
        'macs': 5_600_000_000,
        'it/s': 3.0,
        'robustness': {
            'flat_off': psnr / 1000,
            'broken': int(psnr) % 10,
            'solid_levels': psnr,
            'drawn_range': [-rho, 1 + rho],
            'pattern_range': [-9.0, rho],
        },
        'maps': {name: {'map': [rho, 0.2], 'sobel': [0.5, 0.19]} for name in ('Set5', 'Set14')},
    }


def test_tables():
    results = {'base': [result(30.0, 0.7, Manga15=20.0)], 'other': [result(30.1, 0.6)]}  # Manga15 is not of all runs
    quality = tables.quality_table(results, speed=True).splitlines()
    assert quality[2] == '| base | 1,234 | 5.60 | 3.00 | 30.00 / 0.9000 | 28.00 / 0.8000 | 29.000 |  |'
    assert quality[3].endswith('| 29.100 | +0.100 (one seed) |')
    assert len({line.count('|') for line in quality}) == 1
    assert tables.quality_table(results).splitlines()[2] == quality[2].replace(' 3.00 |', '')
    maps = tables.map_table(results).splitlines()
    assert maps[2:] == [
        '| base | 0.700 / 0.200 | 0.700 / 0.200 |',
        '| other | 0.600 / 0.200 | 0.600 / 0.200 |',
        '| sobel | 0.500 / 0.190 | 0.500 / 0.190 |',
    ]
    robust = tables.robustness_table({'base': [result(30.0, 0.7), result(31.0, 0.6, 1)]}).splitlines()
    assert robust[2:] == ['| base | 3.050% | 0.5 | 31 | -0.70 to 1.70 | -9.00 to 0.70 |']


def test_the_tables_of_the_document_are_those_of_the_results(repo_root):
    document = (repo_root / DOCUMENT).read_text(encoding='utf-8')
    assert fill(document, read(repo_root / KEPT).values()) == document
    assert document.count('<!-- quality, ') >= 4 and document.count('\n') <= 120


def test_every_result_is_of_a_named_ablation_or_of_a_former_base(repo_root):
    for name, kept in read(repo_root / KEPT).items():
        former, _, label = kept['label'].rpartition('/')
        assert former in ('adam', 'picture', 'muon1') or (not former and label in NAMED.overrides), name
        assert name.endswith(f'_{kept["iterations"]}_seed{kept["seed"]}') and label in name


def test_a_document_is_filled_from_results():
    results = [result(30.0, 0.7, 0), result(31.0, 0.7, 1), result(30.5, 0.7, 1, 'lean')]
    text = 'Before.\n\n<!-- quality, 1000 iterations: base lean -->\n| old |\n|---|\n\nAfter.\n'
    filled = fill(text, results)
    assert filled.startswith('Before.\n\n<!-- quality') and filled.endswith('|\n\nAfter.\n') and 'old' not in filled
    assert '| 29.500 ± 0.707 |  |' in filled and '| 29.500 | -0.500 (one seed) |' in filled
    assert fill(filled, reversed(results)) == filled
    for place, message in (
        ('quality, 1000 iterations: none', 'no result of none'),
        ('quality, 3000 iterations: base', 'no result of base'),
        ('speed, 1000 iterations: base', "'speed'"),
    ):
        with pytest.raises(UserError, match=message):
            fill(f'<!-- {place} -->\n', results)


@pytest.mark.parametrize('content', ['{"half', '[]', '{"a": 1}', '{"a": {"label": "x"}}'])
def test_a_damaged_file_of_results_is_named_and_stays(tmp_path, content):
    (tmp_path / 'docs').mkdir()
    (tmp_path / KEPT).write_text(content)
    with pytest.raises(UserError, match=r'ablation\.json: not a file of results'):
        keep(tmp_path, {'x': result(1.0, 0.1)})
    assert (tmp_path / KEPT).read_text() == content


def test_results_are_kept_a_line_a_run(tmp_path):
    (tmp_path / 'docs').mkdir()
    document = tmp_path / DOCUMENT
    document.write_text('<!-- quality, 1000 iterations: base -->\n')
    first = {f'ablation_base_12345678_1000_seed{seed}': result(30.0 + seed, 0.7, seed) for seed in (1, 0)}
    keep(tmp_path, first)
    assert read(tmp_path / KEPT) == first
    lines = (tmp_path / KEPT).read_text().splitlines()
    assert len(lines) == 4 and 'seed0' in lines[1] and 'seed1' in lines[2]
    assert '29.500 ± 0.707' in document.read_text()

    keep(tmp_path, {'ablation_base_abcdef01_1000_seed0': result(32.0, 0.7) | {'digest': 'abcdef01'}})
    kept = read(tmp_path / KEPT)  # by other options: no longer what `base` is
    assert sorted(r['label'] for r in kept.values()) == ['12345678/base', '12345678/base', 'base']
    assert '| 31.000 |' in document.read_text()

    document.write_text('<!-- quality, 1000 iterations: other -->\n')
    with pytest.raises(UserError, match='no result of other'):
        keep(tmp_path, {'x': result(1.0, 0.1, label='new')})
    assert read(tmp_path / KEPT) == kept


def test_measuring_a_net(tmp_path):
    from PIL import Image

    torch.manual_seed(0)
    (tmp_path / 'in').mkdir()
    Image.fromarray(torch.randint(256, (96, 80, 3), dtype=torch.uint8).numpy()).save(tmp_path / 'in/a.png')
    prepare([tmp_path / 'in'], tmp_path / 'set', [4], WholePictures())
    opt = {'scale': 4, 'network_g': {'type': 'IAFMNet', 'num_feat': 8, 'num_block': 1}, 'train': {'ie_opt': {}}}
    net = IAFMNet(4, num_feat=8, num_block=1)
    torch.save({'params': net.state_dict(), 'network_g': opt['network_g']}, tmp_path / 'net.pth')
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
    with pytest.raises(UserError, match='the same name'):
        ablate([str(tmp_path / 'a/x.yml'), str(tmp_path / 'b/x.yml')], 10, [0], [], tmp_path)


def test_changed_options_are_another_run():
    """Or it would go on from, and be measured by, the finished run of what it was before."""
    names = [Run('x', {'train': {'ema_decay': decay}}, 0, 10).name for decay in (0.999, 0.99, 0.999)]
    assert names[0] == names[2] != names[1]


def test_a_run_is_trained_measured_and_done_once(tmp_path, repo_root):
    """By an option file of the user's own, from its options to the tables."""
    (tmp_path / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    tiny.write_data(tmp_path)
    (tmp_path / 'set').mkdir()
    cv2.imwrite(str(tmp_path / 'set/a.png'), np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    opt = tiny.options('mine')
    del opt['datasets']['val'], opt['val']
    (tmp_path / 'mine.yml').write_text(yaml.safe_dump(opt))
    sets = [BenchmarkSet('set', tmp_path / 'set')]
    jobs = os.cpu_count()  # a thread for each: more than one is slow beside other tests
    ((name, found),) = ablate([str(tmp_path / 'mine.yml')], 4, [7], sets, tmp_path, jobs).items()
    assert (found['label'], found['iterations'], found['seed']) == ('mine', 4, 7) and name.endswith('_4_seed7')
    assert f'| {found["psnr"]["set"]:.2f} / ' in report([found])
    assert yaml.safe_load((tmp_path / f'results/ablation/{name}.yml').read_text()) == opt
    weights = tmp_path / 'experiments' / name / 'models/net_g_latest.pth'
    changed = weights.stat().st_mtime_ns, (tmp_path / f'results/ablation/{name}.log').stat().st_size
    assert ablate([str(tmp_path / 'mine.yml')], 4, [7], sets, tmp_path, jobs) == {name: json.loads(json.dumps(found))}
    assert (weights.stat().st_mtime_ns, (tmp_path / f'results/ablation/{name}.log').stat().st_size) == changed
