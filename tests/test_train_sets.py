"""Which patches a training sees: of several folders, of 16 bits, by weights, of growing size, mixed with each other."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import option_cases
import pytest
import torch
from option_cases import DELETE, changed
from tiny import finish, options, start, train, write_data

from iafmsr.archs import SAFMN, IAFMNet
from iafmsr.bridge.basicsr_api import build_dataset
from iafmsr.data.augmentation import mix
from iafmsr.data.in_memory import TrainSetInMemory
from iafmsr.data.sampling import Draw, EpochSampler
from iafmsr.data.weights import gradient_weights, read_weights
from iafmsr.files.picture import UnreadableError
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.trained import to_gray
from iafmsr.ops.resize import imresize
from iafmsr.training.batches import Batches
from iafmsr.training.curriculum import value_at
from iafmsr.training.picture_weights import weights_of

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with LMDBs of ten pairs, and two folders of HR pictures of 16 bits and their LR."""
    base = tmp_path_factory.mktemp('data')
    (base / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(base)
    rng = np.random.default_rng(1)
    for folder in ('a', 'b'):
        for name in range(3):
            hr = cv2.resize(rng.integers(0, 65536, (8, 8, 3), np.uint16), (64, 64), interpolation=cv2.INTER_LINEAR)
            lr = cv2.resize(hr, (16, 16), interpolation=cv2.INTER_AREA)
            for side, picture in (('hr', hr), ('lr', lr)):
                (base / folder / side).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(base / folder / side / f'{name}.png'), picture)
    return base


def section(data: Path, kind: str = 'PairedSRDataset', **changes: Any) -> dict[str, Any]:
    """Options of a train set of the two folders."""
    opt = options('x')['datasets']['train'] | {
        'phase': 'train',
        'scale': 4,
        'type': kind,
        'io_backend': {'type': 'disk'},
    }
    opt |= {'dataroot_gt': [str(data / f'{f}/hr') for f in 'ab'], 'dataroot_lq': [str(data / f'{f}/lr') for f in 'ab']}
    if kind == 'OnTheFlyDataset':
        del opt['dataroot_lq']
    return opt | changes


# -- several folders, 16 bits -----------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', ['PairedSRDataset', 'OnTheFlyDataset'])
def test_several_folders_are_one_after_the_other(data: Path, kind: str) -> None:
    both = build_dataset(section(data, kind))
    for part, folder in enumerate('ab'):
        names = ('dataroot_gt', 'dataroot_lq')[: 2 if kind == 'PairedSRDataset' else 1]
        roots = {key: str(data / folder / side) for key, side in zip(names, ('hr', 'lr'), strict=False)}
        alone = build_dataset(section(data, kind) | roots)
        for number in range(3):
            found, expected = (d[Draw(n, (0, 0, 7))] for d, n in ((both, 3 * part + number), (alone, number)))
            assert torch.equal(found['gt'], expected['gt']) and torch.equal(found['lq'], expected['lq'])
            assert found['gt_path'] == expected['gt_path']


def test_lmdbs_with_the_same_keys_are_told_apart(data: Path) -> None:
    """Here the validation's, which has keys of the training's; with a teacher, and in memory as from the disk."""
    opt = section(data, io_backend={'type': 'lmdb'})
    opt |= {
        f'dataroot_{side}': [str(data / f'{phase}_{side}.lmdb') for phase in ('train', 'val')] for side in ('gt', 'lq')
    }
    opt['dataroot_teacher'] = opt['dataroot_gt']
    dataset = build_dataset(opt)
    assert len(dataset) == 12 and dataset.names(0) == dataset.names(10)
    draws = [Draw(n, (0, 0, n)) for n in range(12)]
    memory = TrainSetInMemory(dataset, CPU, CPU).batch(draws)
    with dataset.reading():
        samples = [dataset[draw] for draw in draws]
    for key in ('lq', 'gt', 'teacher'):
        assert torch.equal(memory[key], torch.stack([sample[key] for sample in samples]))
    assert not torch.equal(samples[0]['gt'], samples[10]['gt'])
    assert torch.equal(samples[10]['gt'], samples[10]['teacher'])


@pytest.mark.parametrize('kind', ['PairedSRDataset', 'OnTheFlyDataset'])
def test_all_16_bits_reach_the_network(data: Path, kind: str) -> None:
    """HR to the bit, also with other colours; without the option it has 8 bits."""
    hr = torch.from_numpy(cv2.imread(str(data / 'a/hr/0.png'), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float64))
    whole = {'gt_size': 64, 'use_hflip': False, 'use_rot': False}
    sample = build_dataset(section(data, kind, bit_depth=16, **whole))[0]
    assert (sample['gt'].permute(1, 2, 0).double() - hr / 65535).abs().max() < 1e-7
    assert (65535 * sample['lq'] - (65535 * sample['lq']).round()).abs().max() < 0.01
    expected = imresize(sample['gt'].double(), Fraction(1, 4)).clamp(0, 1)
    assert (sample['lq'] - expected).abs().max() < (1e-5 if kind == 'OnTheFlyDataset' else 0.05)
    shallow = build_dataset(section(data, kind, **whole))[0]['gt']
    assert torch.equal((255 * shallow).round() / 255, shallow) and not torch.equal(shallow, sample['gt'])
    new = build_dataset(section(data, kind, bit_depth=16, colour_augment=1, **whole))[0]
    assert (255 * new['gt'] - (255 * new['gt']).round()).abs().max() > 0.1 and 0 <= new['gt'].min() <= new[
        'gt'
    ].max() <= 1


# -- weights ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('processes', [1, 2])
def test_pictures_are_drawn_in_proportion_to_their_weights(processes: int) -> None:
    weights = torch.tensor([0.0, 1.0, 3.0])
    samplers = [EpochSampler(range(3), processes, rank, 2000, 5, weights) for rank in range(processes)]
    draws = [draw for sampler in samplers for draw in sampler]
    counts = Counter(map(int, draws))
    assert sum(counts.values()) == 6000 and counts[0] == 0
    assert counts[2] == pytest.approx(4500, abs=140)  # four standard deviations
    assert len({draw.key for draw in draws}) == 6000  # each draw is another patch
    samplers[0].resume(0, 100)
    assert [draw.key for draw in samplers[0]] == [draw.key for draw in draws[100 : 6000 // processes]]


def test_weights_come_from_the_gradient_or_from_a_file(data: Path, tmp_path: Path) -> None:
    dataset = build_dataset(section(data))
    found = gradient_weights(dataset)
    for number, name in enumerate(sorted((data / 'a/lr').iterdir())):
        gray = cv2.imread(str(name)).astype(np.float64).mean(-1)
        expected = np.abs(np.diff(gray, axis=0)).mean() + np.abs(np.diff(gray, axis=1)).mean()
        assert found[number] == pytest.approx(expected)
    (tmp_path / 'w.txt').write_text('0.png 1\n1.png 2.5\n\n2.png 0\n'.replace('\n\n', '\n'))
    names = [dataset.names(n)['gt_path'] for n in range(len(dataset))]
    assert read_weights(tmp_path / 'w.txt', names).tolist() == [1, 2.5, 0, 1, 2.5, 0]


@pytest.mark.parametrize('kind', ['IAFMNet', 'gray'])
def test_weights_come_from_the_density_of_a_network(data: Path, tmp_path: Path, kind: str) -> None:
    """The mean of the map of each LR picture; the least one of the others where it cannot be read."""
    torch.manual_seed(0)
    channels = 1 if kind == 'gray' else 3
    network = {'num_feat': 8, 'num_block': 1, 'num_in_ch': channels, 'num_out_ch': channels}
    net = IAFMNet(**network).eval()
    torch.save({'params': net.state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, tmp_path / 'n.pth')
    dataset = build_dataset(section(data))
    expected = []
    for index in range(6):
        lq = dataset.read_pictures(index)['lq'].permute(2, 0, 1)[None] / 255
        expected.append(net(to_gray(lq) if channels == 1 else lq, return_density=True)[1].idm.mean().item())
    found = weights_of(dataset, str(tmp_path / 'n.pth'))
    assert found.tolist() == pytest.approx(expected, rel=1e-5) and len(set(found.tolist())) == 6

    def broken(index: int, read: Any = dataset.read_pictures) -> Any:
        if index == 2:
            raise UnreadableError('broken')
        return read(index)

    dataset.read_pictures = broken  # type: ignore[method-assign]
    expected[2] = min(expected[:2] + expected[3:])
    assert weights_of(dataset, str(tmp_path / 'n.pth')).tolist() == pytest.approx(expected, rel=1e-5)


# -- a curriculum -----------------------------------------------------------------------------------------------------
def test_a_value_holds_from_its_iteration_on() -> None:
    steps = {5.0: 'b', 9.0: 'c'}
    assert [value_at(steps, i, 'a') for i in (1, 4, 5, 8, 9, 99)] == ['a', 'a', 'b', 'b', 'c', 'c']


@pytest.mark.parametrize('memory', [None, 'host'])
def test_patches_grow_at_the_iteration_that_says_so_also_after_a_resume(data: Path, memory: str | None) -> None:
    """An epoch of ten pictures twice has five batches of four."""
    opt = options('x', datasets__train__in_memory=memory, datasets__train__batch_size_per_gpu=4)
    opt |= {'world_size': 1, 'rank': 0, 'dist': False}
    opt['train']['curriculum'] = {'gt_size': {4: 40, 8: 64}}
    opt['datasets']['train'] |= {'phase': 'train', 'scale': 4, 'num_worker_per_gpu': 0}
    for side in ('gt', 'lq'):
        opt['datasets']['train'][f'dataroot_{side}'] = str(data / f'train_{side}.lmdb')
    with Batches(opt) as batches:
        straight = [next(batches) for _ in range(9)]
    assert [batch['gt'].shape[-1] for batch in straight] == [32] * 3 + [40] * 4 + [64] * 2
    assert [batch['lq'].shape[-1] for batch in straight] == [8] * 3 + [10] * 4 + [16] * 2
    with Batches(opt, 6) as batches:
        assert all(torch.equal(next(batches)['gt'], batch['gt']) for batch in straight[6:])


# -- mixing -----------------------------------------------------------------------------------------------------------
def test_mixup_is_a_mean_that_commutes_with_the_reduction() -> None:
    gt = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    before = {'lq': imresize(gt, Fraction(1, 4)), 'gt': gt, 'teacher': gt / 2, 'lq_path': list('abcd')}
    batch = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in before.items()}
    mix(batch, random.Random(0), mixup=1)
    shares = ((batch['gt'] - gt) / (gt.roll(-1, 0) - gt)).flatten(1)
    assert shares.std(1).max() < 1e-6 and shares.mean(1).std() > 0.05 and 0 <= shares.min() <= shares.max() <= 1
    torch.testing.assert_close(imresize(batch['gt'], Fraction(1, 4)), batch['lq'])
    torch.testing.assert_close(batch['teacher'], batch['gt'] / 2)


def test_cutmix_takes_a_rectangle_of_the_next_sample_in_lr_and_hr_alike() -> None:
    numbers = torch.arange(4.0).view(4, 1, 1, 1)
    shares = []
    for seed in range(200):
        batch = {'lq': numbers.expand(4, 3, 10, 10).clone(), 'gt': numbers.expand(4, 3, 40, 40).clone()}
        mix(batch, random.Random(seed), cutmix=1)
        assert torch.equal(batch['lq'].repeat_interleave(4, 2).repeat_interleave(4, 3), batch['gt'])
        for place, picture in enumerate(batch['lq'][:, 0]):
            inside = picture == (place + 1) % 4
            assert torch.equal(picture[~inside], numbers[place].expand(int((~inside).sum()), 1, 1).flatten())
            rows, columns = inside.any(1), inside.any(0)
            assert torch.equal(inside, rows[:, None] & columns)  # one rectangle
            shares.append(inside.double().mean().item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05) and min(shares) < 0.05 and max(shares) > 0.95


def test_mixing_keeps_its_shares() -> None:
    kinds: Counter[str] = Counter()
    source = random.Random(0)
    for _ in range(500):
        batch = {'lq': torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8).clone()}
        mix(batch, source, mixup=0.2, cutmix=0.5)
        for place, picture in enumerate(batch['lq']):
            values = picture.unique()
            kinds['none' if values.tolist() == [place] else 'mixup' if (values % 1).any() else 'cutmix'] += 1
    assert kinds['mixup'] == pytest.approx(400, abs=72) and kinds['cutmix'] == pytest.approx(800, abs=120)


def lines(log: str) -> list[str]:
    return [line.partition('l_ie:')[2] for line in log.splitlines() if 'l_ie:' in line]


def test_a_run_with_all_of_it_stops_and_resumes_to_the_bit(data: Path) -> None:
    changes = {
        f'datasets__train__{key}': value
        for key, value in {'mixup': 0.3, 'cutmix': 0.3, 'picture_weights': 'gradient'}.items()
    }
    changes['train__curriculum'] = {'gt_size': {3: 40, 6: 64}, 'k': {4: 0.2}}
    code, straight = train(data, options('straight', 8, **changes))
    assert code == 0, straight
    opt = options('stopped', 8, datasets__train__in_memory='host', **changes)
    code, first = finish(start(data, opt, '--auto_resume'), lambda line: 'iter:       4,' in line)
    assert code == 75, first
    code, second = train(data, opt, '--auto_resume')
    assert code == 0 and 'Not an exact resume' not in second, second
    assert len(lines(straight)) == 8 and lines(first) + lines(second) == lines(straight)
    shares = [float(line.partition('active: ')[2].split()[0]) for line in lines(straight)]
    assert max(shares[:3]) < 0.06 and min(shares[3:]) > 0.15
    saved = load_checkpoint(data / 'experiments/stopped/models/net_g_latest.pth')
    assert saved['network_g']['k'] == 0.2


# -- what is refused --------------------------------------------------------------------------------------------------
SETS = 'datasets.train.'
OURS = {SETS + 'type': 'PairedSRDataset'}


@pytest.mark.parametrize(
    ('changes', 'culprit'),
    [
        (
            {SETS + 'dataroot_gt': ['data/gt.lmdb', 'data/gt.lmdb']},
            'dataroot_gt: a list is only for training with PairedSR',
        ),
        (OURS | {SETS + 'dataroot_gt': ['data/gt.lmdb'] * 2}, 'dataroot_gt: all lists must have the same length'),
        (OURS | {SETS + 'dataroot_gt': []}, 'dataroot_gt: must be the path of a folder or LMDB, or a list of paths'),
        (OURS | {f'{SETS}dataroot_{s}': [f'data/{s}.lmdb', 'x.lmdb'] for s in ('gt', 'lq')}, 'x.lmdb: no such folder'),
        (OURS | {SETS + 'bit_depth': 12}, 'bit_depth: must be 8 or 16, got 12'),
        (OURS | {SETS + 'bit_depth': 16, SETS + 'in_memory': 'host'}, 'bit_depth: 16 cannot be used with in_memory'),
        (OURS | {SETS + 'picture_weights': 'data/w.txt'}, 'data/w.txt: cannot be read'),
        (OURS | {SETS + 'mixup': 2}, 'mixup: must be a number from 0 to 1, got 2'),
        (OURS | {'train.curriculum': {'gt_size': {5: 30}}}, 'curriculum.gt_size: 30 is no multiple of the scale, 4'),
        (OURS | {'train.curriculum': {'gt_size': {5: 80}}}, 'gt_size: patches of 80 do not fit into 00, 48x64'),
        (
            OURS | {'train.curriculum': {'gt_size': 64}},
            'curriculum.gt_size: must be iterations, each with the value that',
        ),
        ({'train.curriculum': {'gt_size': {5: 40}}}, 'curriculum.gt_size: PairedImageDataset cuts patches of one size'),
        ({'train.curriculum': {'k': {5: 1.5}}}, 'curriculum.k: must be iterations, each with the value that'),
        (
            {'train.curriculum': {'k': {5: 0.5}}, 'network_g': {'type': 'SAFMN', 'scale': 4}, 'train.ie_opt': DELETE},
            'train.curriculum.k: SAFMN has no share of active sites',
        ),
        ({SETS + 'num_worker_per_gpu': 1000000}, 'num_worker_per_gpu: must be a whole number from 0 to 256'),
    ],
)
def test_what_cannot_be_is_refused(refused: Callable[..., list[str]], changes: dict[str, Any], culprit: str) -> None:
    assert all(culprit in line for line in refused(changed(**changes)))


@pytest.mark.parametrize(
    ('text', 'culprit'),
    [
        ('00 1\n', 'no weight for 01 and 6 other pictures'),
        ('00 -1\n', 'line 1: must be a name and a weight from 0'),
        ('00\n', 'line 1: must be a name and a weight from 0'),
        (''.join(f'{i:02d} 0\n' for i in range(8)), 'all weights are 0'),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    root: Path, refused: Callable[..., list[str]], text: str, culprit: str
) -> None:
    (root / 'data/w.txt').write_text(text)
    (line,) = refused(changed(**OURS, **{SETS + 'picture_weights': 'data/w.txt'}))
    assert 'datasets.train.picture_weights' in line and culprit in line


def test_a_network_without_a_density_gives_no_weights(root: Path, refused: Callable[..., list[str]]) -> None:
    torch.save({'params': SAFMN(dim=8, n_blocks=1).state_dict()}, root / 'data/safmn.pth')
    for file, says in (('safmn', 'safmn.pth: its network has no density'), ('none', 'none.pth: no such file')):
        (line,) = refused(changed(**OURS, **{SETS + 'picture_weights': f'data/{file}.pth'}))
        assert line.startswith('x.yml: datasets.train.picture_weights: ') and line.endswith(says)
