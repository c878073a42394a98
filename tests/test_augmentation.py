"""Other colours and synthetic patches: the right values, each draw its own, whoever makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import finish, options, start, train, write_data
from torch import Tensor

from iafmsr.bridge.basicsr_api import build_dataset
from iafmsr.data.augmentation import Augmentation, recoloured, synthetic_pair
from iafmsr.data.in_memory import InMemoryLoader, TrainSetInMemory
from iafmsr.data.sampling import Draw, EpochSampler, sample_random
from iafmsr.ops.resize import imresize
from iafmsr.training.checks.check import check_options

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with the package, LMDBs of ten pairs and a folder of HR pictures."""
    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(root)
    (root / 'hr').mkdir()
    for i in range(5):
        Image.fromarray(smooth(60, i).permute(1, 2, 0).numpy()).save(root / f'hr/{i}.png')
    return root


def smooth(side: int, seed: int) -> Tensor:
    """A picture of soft blobs, uint8 (3, side, side), in 30 to 225: its LR is not clipped."""
    values = np.random.default_rng(seed).integers(30, 226, (6, 6, 3), np.uint8)
    return torch.from_numpy(cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR)).permute(2, 0, 1)


def pairs(root: Path, **changes: Any) -> dict[str, Any]:
    opt = options('x')['datasets']['train'] | {'phase': 'train', 'scale': 4}
    return opt | {key: str(root / opt[key]) for key in ('dataroot_gt', 'dataroot_lq')} | changes


def hr_only(root: Path, **changes: Any) -> dict[str, Any]:
    return pairs(root) | {
        'type': 'OnTheFlyDataset',
        'dataroot_gt': str(root / 'hr'),
        'io_backend': {'type': 'disk'},
        **changes,
    }


def levels(values: Tensor) -> Tensor:
    return (255 * values).round().to(torch.uint8)


def samples(opt: dict[str, Any], draws: list[Draw]) -> list[dict[str, Any]]:
    dataset = build_dataset(opt)
    with dataset.reading():  # closed at the end: a process opens an LMDB once
        return [dataset[draw] for draw in draws]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_other_colours_commute_with_the_reduction(scale: int) -> None:
    """Within one level; two where the roundings to 8 bits (two in each reduction, one in each new colour) add up."""
    errors = []
    for draw in range(40):
        gt = smooth(24 * scale, draw)
        patches = {'lq': imresize(gt, Fraction(1, scale)), 'gt': gt, 'teacher': gt}
        new = recoloured(sample_random(draw), patches)
        errors.append((new['lq'].int() - imresize(new['gt'], Fraction(1, scale)).int()).abs())
        assert torch.equal(new['teacher'], new['gt'])
    errors = torch.stack(errors)
    assert errors.max() <= 2 and (errors > 1).double().mean() < 1e-3


def test_a_channel_becomes_an_affine_function_of_one_channel_and_nothing_clips() -> None:
    """All permutations occur, contrasts of both signs up to almost one, and black and white stay apart."""
    ramp = torch.arange(256, dtype=torch.uint8)
    orders, slopes = set(), []
    for draw in range(300):
        gt = torch.stack([ramp, ramp.roll(85), ramp.roll(170)])[:, None]  # all values; the channels differ
        new = recoloured(sample_random(draw), {'gt': gt})['gt'].double()
        order = []
        for channel in new[:, 0]:
            fits = [np.polyfit(old.double(), channel, 1, full=True)[:2] for old in gt[:, 0]]
            best = min(range(3), key=lambda i: fits[i][1][0])
            assert fits[best][1][0] <= 256 * 0.25 + 1e-6  # a straight line, up to rounding: a clipped one is none
            order.append(best)
            slopes.append(fits[best][0][0])
        if all(abs(slope) > 0.05 for slope in slopes[-3:]):  # of a flat channel nobody can tell
            orders.add(tuple(order))
    assert orders == set(itertools.permutations(range(3)))
    assert min(slopes) < -0.95 and max(slopes) > 0.95 and max(map(abs, slopes)) <= 1.01
    assert 0.4 < np.mean(np.array(slopes) > 0) < 0.6


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_synthetic_pair_is_flat_and_its_lr_is_its_reduction(scale: int) -> None:
    shares, colours = [], set()
    for draw in range(60):
        lq, gt = synthetic_pair(sample_random(draw), 16, scale)
        assert lq.shape == (3, 16, 16) and gt.shape == (3, 16 * scale, 16 * scale) and lq.dtype == torch.uint8
        assert torch.equal(imresize(gt, Fraction(1, scale))[:, 2:-2, 2:-2], lq[:, 2:-2, 2:-2])
        found, counts = gt.flatten(1).unique(dim=1, return_counts=True)
        shares.append(counts.max().item() / counts.sum().item())
        colours.add(tuple(found[:, counts.argmax()].tolist()))
    assert np.mean(shares) > 0.5 and 1.0 in shares and min(shares) < 0.7
    assert len(colours) > 40
    pure = sum(set(colour) <= {0, 128, 255} for colour in colours)
    assert 0.2 * len(colours) < pure < 0.8 * len(colours)


def test_shares_are_kept_and_the_patch_is_the_same() -> None:
    gt = smooth(32, 0)
    patches = {'lq': imresize(gt, Fraction(1, 4)), 'gt': gt, 'teacher': gt // 2}
    augmentation = Augmentation(4, colour_augment=0.5, synthetic=0.2)
    kinds = []
    for number in range(2000):
        changed = augmentation.changed(Draw(0, (0, 0, number)), patches)
        if changed:
            assert changed.keys() == patches.keys()
            kinds.append('synthetic' if torch.equal(changed['gt'], changed['teacher']) else 'colour')
    assert kinds.count('synthetic') == pytest.approx(400, abs=70)  # four standard deviations
    assert kinds.count('colour') == pytest.approx(800, abs=90)
    assert not any(Augmentation(4).changed(Draw(0, (0, 0, number)), patches) for number in range(100))


@pytest.mark.parametrize('kind', [pairs, hr_only])
def test_a_sample_without_augmentation_is_what_it_was(root: Path, kind: Callable[..., Any]) -> None:
    """The augmentation has its own stream: what it leaves alone is the patch of a run without it."""
    draws = [Draw(i % 5, (0, 0, i)) for i in range(100)]
    plain, mixed = (
        samples(kind(root, **changes), draws) for changes in ({}, {'colour_augment': 0.3, 'synthetic': 0.3})
    )
    same = {key: [torch.equal(a[key], b[key]) for a, b in zip(plain, mixed, strict=True)] for key in ('lq', 'gt')}
    assert same['lq'] == same['gt'] and 30 < sum(same['gt']) < 70  # 49 are expected


@pytest.mark.parametrize('kind', [pairs, hr_only])
def test_lr_and_hr_of_a_sample_have_the_same_new_colours(root: Path, kind: Callable[..., Any]) -> None:
    """By the mean of a patch, which no turn changes and the reduction hardly."""
    for sample in samples(kind(root, colour_augment=1), [Draw(i % 5, (0, 0, i)) for i in range(20)]):
        assert (sample['lq'].mean((1, 2)) - sample['gt'].mean((1, 2))).abs().max() < 0.03
        assert torch.equal(levels(sample['gt']).float() / 255, sample['gt'])  # 8 bits, as a file has


@pytest.mark.parametrize('kind', [pairs, hr_only])
def test_batches_from_memory_are_those_of_the_dataset(root: Path, kind: Callable[..., Any]) -> None:
    dataset = build_dataset(kind(root, colour_augment=0.4, synthetic=0.3))
    memory = TrainSetInMemory(dataset, CPU, CPU)
    for batch in InMemoryLoader(memory, 5, EpochSampler(dataset, ratio=8, seed=1)):
        assert batch.keys() == {'lq', 'gt', 'lq_path', 'gt_path', 'unreadable'}
    draws = list(EpochSampler(dataset, ratio=8, seed=1))
    batch, expected = memory.batch(draws), samples(kind(root, colour_augment=0.4, synthetic=0.3), draws)
    for key in ('lq', 'gt'):
        assert torch.equal(batch[key], torch.stack([sample[key] for sample in expected]))


def test_shares_outside_0_to_1_and_augmented_validation_are_refused(root: Path) -> None:
    opt = options('x', datasets__train__colour_augment=1.5, datasets__train__synthetic='half')
    opt['datasets']['val'] |= {'type': 'PairedSRDataset', 'synthetic': 0.5}
    assert check_options(opt, True, str(root), files=False).faults == [
        'datasets.train.colour_augment: must be a number from 0 to 1, got 1.5',
        "datasets.train.synthetic: must be a number from 0 to 1, got 'half'",
        'datasets.val.synthetic: is only for training',
    ]
    opt = options('x')
    opt['datasets']['train'] = hr_only(Path(), name='x', synthetic=-1, num_worker_per_gpu=1)
    del opt['datasets']['train']['phase'], opt['datasets']['train']['scale'], opt['datasets']['train']['dataroot_lq']
    faults = check_options(opt, True, str(root), files=False).faults
    assert 'datasets.train.synthetic: must be a number from 0 to 1, got -1' in faults


def losses(log: str) -> list[str]:
    return [line.partition('l_ie:')[2] for line in log.splitlines() if 'l_ie:' in line]


def test_a_run_with_augmentation_stops_and_resumes_to_the_bit(root: Path) -> None:
    """With data workers all through, and stopped with the set in memory."""
    changes = {'datasets__train__colour_augment': 0.4, 'datasets__train__synthetic': 0.3, 'total_iter': 8}
    code, straight = train(root, options('straight', **changes))
    assert code == 0, straight
    opt = options('stopped', datasets__train__in_memory='host', **changes)
    code, first = finish(start(root, opt, '--auto_resume'), lambda line: 'iter:       4,' in line)
    assert code == 75, first
    code, second = train(root, opt, '--auto_resume')
    assert code == 0, second
    assert len(losses(straight)) == 8 and losses(first) + losses(second) == losses(straight)
