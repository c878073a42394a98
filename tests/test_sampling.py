"""The order of the data and its patches: functions of seed, epoch and position, whoever draws them."""

from __future__ import annotations

import collections
import os
import pickle
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import options, write_data
from torch.utils.data import DataLoader

from iafmsr.data.paired_dataset import PairedSRDataset
from iafmsr.data.reading import read_or_replace
from iafmsr.data.sampling import Draw, EpochSampler, random_patch, sample_random
from iafmsr.errors import UserError
from iafmsr.files.picture import UnreadableError
from iafmsr.training.batches import init_worker
from iafmsr.training.checks.data_files import check_dataset

FULL = os.environ.get('IAFMSR_FULL') == '1'


def epoch_of(sampler: EpochSampler, epoch: int) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


# -- the order --------------------------------------------------------------------------------------------------------
def test_an_epoch_draws_every_picture_as_often_as_the_ratio_says() -> None:
    draws = epoch_of(EpochSampler(range(7), ratio=3), 0)
    assert collections.Counter(map(int, draws)) == dict.fromkeys(range(7), 3)
    assert len({draw.key for draw in draws}) == 21  # the same picture again is another patch


def test_seed_and_epoch_change_the_order() -> None:
    orders = {
        tuple(map(int, epoch_of(EpochSampler(range(50), seed=seed), epoch))) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


@pytest.mark.parametrize('processes', [1, 2, 3])
def test_processes_share_the_draws_of_one(processes: int) -> None:
    """The same total batch is the same draws, however many processes make it, and no draw goes to two."""
    alone = epoch_of(EpochSampler(range(13), ratio=2, seed=5), 4)
    shares = [epoch_of(EpochSampler(range(13), processes, rank, 2, 5), 4) for rank in range(processes)]
    assert len({draw.key for share in shares for draw in share}) == sum(map(len, shares))
    assert {len(share) for share in shares} == {26 // processes}
    each = 2  # draws in the batch of a process
    for i in range(26 // processes // each):
        together = {draw.key for share in shares for draw in share[each * i : each * (i + 1)]}
        assert together == {draw.key for draw in alone[each * processes * i : each * processes * (i + 1)]}


def test_a_resumed_epoch_begins_where_it_stopped_and_the_next_is_whole() -> None:
    whole = [[draw.key for draw in epoch_of(EpochSampler(range(9)), epoch)] for epoch in (3, 4)]
    resumed = EpochSampler(range(9))
    resumed.resume(3, 5)
    assert [[draw.key for draw in epoch_of(resumed, epoch)] for epoch in (3, 4)] == [whole[0][5:], whole[1]]
    assert len(resumed) == 9


# -- patches ----------------------------------------------------------------------------------------------------------
def test_a_draw_is_an_index_that_keeps_its_key_on_the_way_to_a_worker() -> None:
    draw = pickle.loads(pickle.dumps(Draw(4, (1, 2, 3))))
    assert draw == 4 and draw.key == (1, 2, 3) and 'abcdef'[draw] == 'e'


def test_a_patch_is_the_same_in_lr_and_hr_and_in_numpy_and_torch() -> None:
    lr = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    hr = lr.repeat(4, 0).repeat(4, 1)
    for i in range(50):
        patch = random_patch(sample_random(i), 9, 12, 5)
        cut = patch.cut(lr)
        assert cut.shape == (5, 5, 3)
        assert np.array_equal(patch.cut(hr, 4), cut.repeat(4, 0).repeat(4, 1))
        assert np.array_equal(patch.cut(torch.from_numpy(lr)).numpy(), cut)


def test_patches_are_uniform_over_positions_and_turns() -> None:
    patches = [random_patch(sample_random(Draw(0, (0, 0, i))), 4, 3, 2) for i in range(9600)]
    counts = collections.Counter(patches)
    assert len(counts) == 3 * 2 * 8
    assert max(counts.values()) < 1.5 * 200 and min(counts.values()) > 0.6 * 200  # 7 standard deviations
    still = [random_patch(sample_random(i), 4, 3, 2, use_hflip=False, use_rot=False) for i in range(50)]
    assert not any(patch.hflip or patch.vflip or patch.transpose for patch in still)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match='patches of 5 do not fit into 12x4'):
        random_patch(random.Random(0), 4, 12, 5)


# -- the dataset ------------------------------------------------------------------------------------------------------
def train_set(root: Path) -> dict[str, Any]:
    opt = options('x')['datasets']['train'] | {'phase': 'train', 'scale': 4}
    return opt | {key: str(root / opt[key]) for key in ('dataroot_gt', 'dataroot_lq')}


@pytest.fixture(scope='session')
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('original')
    write_data(root)
    return root


@pytest.fixture
def data(tmp_path: Path, original: Path) -> dict[str, Any]:
    """Options of a train set of ten pairs."""
    return train_set(shutil.copytree(original, tmp_path / 'data'))


@pytest.mark.parametrize('changes', [{}, {'color': 'y', 'mean': [0.5], 'std': [2.0]}])
def test_whole_patches_are_basicsr_s_pictures(data: dict[str, Any], original: Path, changes: dict[str, Any]) -> None:
    whole = {'gt_size': 64, 'use_hflip': False, 'use_rot': False, **changes}
    ours = PairedSRDataset(data | whole)[3]
    theirs = PairedImageDataset(train_set(original) | whole)[3]
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6, rtol=0) for key in ('lq', 'gt'))
    assert all(ours[key] == theirs[key] for key in ('lq_path', 'gt_path'))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('persistent', [False, True])
def test_samples_do_not_depend_on_workers(data: dict[str, Any], workers: int, persistent: bool) -> None:
    dataset, sampler = PairedSRDataset(data), EpochSampler(range(10), seed=1)
    loader = DataLoader(
        dataset, batch_size=5, sampler=sampler, num_workers=workers, persistent_workers=persistent and workers > 0
    )
    got = []
    for epoch in range(2):  # a persistent worker was started before the second
        sampler.set_epoch(epoch)
        got += [batch['gt'] for batch in loader]
    expected = [dataset[draw]['gt'] for epoch in range(2) for draw in epoch_of(sampler, epoch)]
    assert torch.equal(torch.cat(got), torch.stack(expected))


def test_folders_are_read_in_the_order_of_names(data: dict[str, Any], tmp_path: Path) -> None:
    for folder, size in (('hr', 32), ('lr', 8)):
        (tmp_path / folder).mkdir()
        for name in 'dbca':
            cv2.imwrite(str(tmp_path / folder / f'{name}.png'), np.zeros((size, size, 3), np.uint8))
    data |= {'dataroot_gt': str(tmp_path / 'hr'), 'dataroot_lq': str(tmp_path / 'lr'), 'io_backend': {'type': 'disk'}}
    assert [Path(PairedSRDataset(data)[i]['gt_path']).stem for i in range(4)] == list('abcd')


# -- broken data ------------------------------------------------------------------------------------------------------
def rewrite(root: str, key: str, value: bytes | None) -> None:
    with lmdb.open(root, sync=False) as env, env.begin(write=True) as transaction:
        transaction.delete(key.encode()) if value is None else transaction.put(key.encode(), value)


@pytest.mark.parametrize('value, reason', [(None, 'no such key'), (b'', 'empty'), (b'noise', 'not a picture')])
def test_an_unreadable_picture_is_named_and_replaced_by_the_next(
    data: dict[str, Any], value: bytes | None, reason: str
) -> None:
    rewrite(data['dataroot_lq'], '003', value)
    dataset = PairedSRDataset(data)
    sample, expected = dataset[Draw(3, (0, 0, 8))], dataset[Draw(4, (0, 0, 8))]
    assert torch.equal(sample['gt'], expected['gt']) and expected['unreadable'] == ''
    assert sample['unreadable'].startswith(f'{data["dataroot_lq"]}, key 003: {reason}')


def test_pictures_that_do_not_fit_together_are_unreadable(data: dict[str, Any]) -> None:
    shutil.rmtree(data['dataroot_lq'])
    shutil.copytree(data['dataroot_gt'], data['dataroot_lq'])
    with pytest.raises(UserError, match='10 pictures in a row cannot be read.*is 64x64, not 4 times the LR picture'):
        PairedSRDataset(data)[0]


def test_an_lmdb_cut_short_under_a_run_is_named(data: dict[str, Any]) -> None:
    dataset = PairedSRDataset(data)
    assert dataset[0]['unreadable'] == ''
    file = Path(data['dataroot_gt'], 'data.mdb')
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(UserError, match='train_gt.lmdb, key 000: data.mdb has become shorter'):
        dataset[0]


def test_an_error_in_a_worker_stays_one_line(data: dict[str, Any]) -> None:
    shutil.rmtree(data['dataroot_lq'])
    shutil.copytree(data['dataroot_gt'], data['dataroot_lq'])
    with pytest.raises(UserError) as info:
        next(iter(DataLoader(PairedSRDataset(data), num_workers=1)))
    assert str(info.value).startswith('10 pictures in a row') and '\n' not in str(info.value)


def test_a_replacement_keeps_the_draw() -> None:
    seen = []

    def read(index: int) -> dict[str, Any]:
        seen.append((int(index), index.key))
        if index != 0:
            raise UnreadableError(f'{index} is bad')
        return {}

    assert read_or_replace(Draw(8, (1, 2, 3)), 10, read) == {'unreadable': '8 is bad\n9 is bad'}
    assert seen == [(8, (1, 2, 3)), (9, (1, 2, 3)), (0, (1, 2, 3))]


PNG = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), st.floats(0, 1.5)


@settings(max_examples=1000 if FULL else 40, deadline=None, database=None, derandomize=True)
@given(*PNG)
def test_a_damaged_picture_is_read_or_replaced(original: Path, changes: list[tuple[float, int]], length: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        opt = train_set(shutil.copytree(original, Path(folder, 'data')))
        with lmdb.open(opt['dataroot_gt'], sync=False) as env, env.begin(write=True) as transaction:
            png = bytearray(transaction.get(b'003'))
            for where, value in changes:
                png[min(int(where * len(png)), len(png) - 1)] = value
            transaction.put(b'003', bytes(png[: int(length * len(png))] if length < 1 else png))
        sample = PairedSRDataset(opt)[3]
        assert sample['gt'].shape == (3, 32, 32)
        assert 'key 003' in sample['unreadable'] or sample['gt_path'] == '003'


@settings(max_examples=1000 if FULL else 5, deadline=None, database=None, derandomize=True)
@given(*PNG, st.sampled_from(['gt', 'lq']))
def test_a_damaged_lmdb_is_read_refused_or_named(
    original: Path, changes: list[tuple[float, int]], length: float, side: str
) -> None:
    """As a run does it: the check first, then a data worker; no crash of ours, no hang, no traceback but our line."""
    with tempfile.TemporaryDirectory() as folder:
        opt = train_set(shutil.copytree(original, Path(folder, 'data')))
        file = Path(opt[f'dataroot_{side}'], 'data.mdb')
        content = bytearray(file.read_bytes())
        for where, value in changes:
            content[min(int(where * len(content)), len(content) - 1)] = value
        file.write_bytes(content[: int(length * len(content))] if length < 1 else content)
        _, faults = check_dataset(opt, 4, 'train')
        if faults:
            assert all('\n' not in fault and 'lmdb' in fault for fault in faults)
            return
        loader = DataLoader(
            PairedSRDataset(opt),
            batch_size=10,
            num_workers=1,
            timeout=60,
            worker_init_fn=lambda i: init_worker(i, 1, 0, 0),
        )
        try:
            assert next(iter(loader))['gt'].shape == (10, 3, 32, 32)
        except UserError as error:
            assert 'cannot be read' in str(error)
        except RuntimeError as error:  # what `safe_run` makes a line of
            assert 'DataLoader worker' in str(error) and 'timed out' not in str(error)
