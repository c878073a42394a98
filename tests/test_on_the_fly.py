"""Pairs made on the fly are those that preparation stores, drawn deterministically."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.data import build_dataloader, build_dataset
from PIL import Image
from torch import Tensor

from iafmsr.data.on_the_fly import OnTheFlyDataset, lr_patch
from iafmsr.data.sampling import Draw, EpochSampler
from iafmsr.errors import UserError
from iafmsr.ops.resize import imresize
from iafmsr.options.files import load_options
from iafmsr.tools.prepare.forms import SubImages
from iafmsr.tools.prepare.preparation import prepare
from iafmsr.tools.profiling.loading_speed import measure_loading
from iafmsr.training.checks.check import check_options


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of sizes that no scale divides, under names with spaces and letters beyond ASCII."""
    folder = tmp_path / 'HR ü'
    folder.mkdir()
    for i, name in enumerate(('a', 'b c', 'Ä.日本')):
        Image.fromarray(picture(61 + i, 53 + 2 * i, i)).save(folder / f'{name}.png')
    return folder


def options(root: Path, **more) -> dict:
    return {
        'name': 'test',
        'type': 'OnTheFlyDataset',
        'dataroot_gt': str(root),
        'io_backend': {'type': 'disk'},
        'phase': 'train',
        'scale': 4,
        'gt_size': 32,
        'use_hflip': True,
        'use_rot': True,
        **more,
    }


def turns(image: Tensor) -> list[Tensor]:
    """The eight turns of a square picture (3, H, W)."""
    return [
        t.flip(2) if f else t
        for t, f in itertools.product((torch.rot90(image, k, (1, 2)) for k in range(4)), (False, True))
    ]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_patch_of_lr_is_the_patch_of_the_whole_lr(scale):
    """Bit for bit, at the picture's borders and everywhere else."""
    hr = torch.from_numpy(picture(scale * 19, scale * 23)).permute(2, 0, 1)
    whole = imresize(hr, Fraction(1, scale))
    for size in (1, 7, 19):
        for top, left in itertools.product(range(0, 19 - size + 1), range(0, 23 - size + 1)):
            assert torch.equal(lr_patch(hr, scale, top, left, size), whole[:, top : top + size, left : left + size])


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('cache_mib', [0, 1])
def test_pairs_are_patches_of_the_pairs_that_preparation_makes(folder, scale, cache_mib):
    """On the scale's grid, both turned alike."""
    dataset = build_dataset(options(folder, scale=scale, gt_size=12 * scale, cache_mib=cache_mib))
    assert len(dataset.cached) == 3 * cache_mib
    seen = set()
    for epoch, index in itertools.product(range(8), range(3)):
        pair = dataset[Draw(index, (0, epoch, index))]
        lq, gt = ((255 * pair[key]).round().to(torch.uint8) for key in ('lq', 'gt'))
        assert lq.shape == (3, 12, 12) and gt.shape == (3, 12 * scale, 12 * scale)
        hr = torch.from_numpy(np.array(Image.open(pair['gt_path']))).permute(2, 0, 1)
        hr = hr[:, : hr.shape[1] // scale * scale, : hr.shape[2] // scale * scale]
        lr = imresize(hr, Fraction(1, scale))
        places = [
            (top, left, turn)
            for top in range(lr.shape[1] - 11)
            for left in range(lr.shape[2] - 11)
            for turn, turned in enumerate(turns(lr[:, top : top + 12, left : left + 12]))
            if torch.equal(turned, lq)
        ]
        assert len(places) == 1
        top, left, turn = places[0]
        original = hr[:, scale * top : scale * (top + 12), scale * left : scale * (left + 12)]
        assert torch.equal(turns(original)[turn], gt)
        seen.add(turn)
    assert len(seen) > 4


def test_folder_and_lmdb_give_the_same_pairs(folder, tmp_path):
    prepare([folder], tmp_path / 'sub', [4], SubImages(crop_size=48, step=48, min_size=48))
    lmdb = OnTheFlyDataset(options(tmp_path / 'sub/HR_sub.lmdb', io_backend={'type': 'lmdb'}))
    crops = tmp_path / 'crops'
    crops.mkdir()
    for i, source in enumerate(lmdb.sources):
        Image.fromarray(source.read().permute(1, 2, 0).numpy()).save(crops / f'{i:03d}.png')
    disk = OnTheFlyDataset(options(crops))
    assert len(lmdb) == len(disk) > 3
    for i in range(len(disk)):
        assert torch.equal(lmdb[i]['lq'], disk[i]['lq']) and torch.equal(lmdb[i]['gt'], disk[i]['gt'])


@pytest.mark.parametrize('io', ['disk', 'lmdb'])
def test_pairs_are_a_function_of_seed_epoch_and_index_whatever_the_workers(folder, tmp_path, io):
    root = folder
    if io == 'lmdb':
        prepare([folder], tmp_path / 'sub', [4], SubImages(crop_size=48, step=48, min_size=48))
        root = tmp_path / 'sub/HR_sub.lmdb'

    def epoch(workers: int, number: int, cache_mib: int) -> list[Tensor]:
        dataset = build_dataset(options(root, io_backend={'type': io}, cache_mib=cache_mib))
        sampler = EpochSampler(dataset, ratio=4, seed=3)
        sampler.set_epoch(number)
        loading = {'num_worker_per_gpu': workers, 'batch_size_per_gpu': 4}
        loader = build_dataloader(dataset, options(root) | loading, num_gpu=1, sampler=sampler, seed=0)
        return [batch[key] for batch in loader for key in ('lq', 'gt')]

    first = epoch(0, 0, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, epoch(2, 0, 0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, epoch(0, 1, 1), strict=True))


def test_memory_for_pictures_is_bounded(folder):
    first = 61 * 53 * 3
    dataset = OnTheFlyDataset(options(folder, cache_mib=(first + 100) / 2**20))
    assert len(dataset.cached) == 1
    assert sum(picture.numel() for picture in dataset.cached.values()) <= first + 100


def test_validation_gives_whole_pictures(folder):
    dataset = OnTheFlyDataset(options(folder, phase='val', scale=3))
    pair = dataset[0]
    assert pair['gt'].shape == (3, 60, 51) and pair['lq'].shape == (3, 20, 17)
    hr = (255 * pair['gt']).round().to(torch.uint8)
    assert torch.equal((255 * pair['lq']).round().to(torch.uint8), imresize(hr, Fraction(1, 3)))


def test_pictures_of_every_kind_are_read_as_preparation_reads_them(tmp_path):
    rgb = picture(40, 40)
    Image.fromarray(rgb).convert('CMYK').save(tmp_path / 'cmyk.tif')
    Image.fromarray(rgb).convert('P').save(tmp_path / 'palette.png')
    Image.fromarray(rgb[..., 0]).save(tmp_path / 'gray.png')
    Image.fromarray(np.dstack([rgb, np.full((40, 40), 255, np.uint8)])).save(tmp_path / 'opaque.png')
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(tmp_path / 'sixteen.png')
    dataset = OnTheFlyDataset(options(tmp_path))
    assert len(dataset) == 5
    for i in range(5):
        assert dataset[i]['gt'].shape == (3, 32, 32)


@pytest.mark.parametrize('cache_mib', [0, 1])
def test_what_is_no_whole_picture_is_left_out_by_name(folder, cache_mib, caplog):
    """At the start where the file's header tells; else, when it is drawn, with the next picture in its place."""
    (folder / 'empty.png').touch()
    whole = (folder / 'a.png').read_bytes()
    (folder / 'aa truncated.png').write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(31, 90)).save(folder / 'small.png')
    dataset = OnTheFlyDataset(options(folder, cache_mib=cache_mib))
    names = [Path(source.name).name for source in dataset.sources]
    assert names == ['a.png', 'aa truncated.png', 'b c.png', 'Ä.日本.png']
    left_out = {Path(record.message.partition(': left out')[0]).name for record in caplog.records}
    assert left_out == {'empty.png', 'small.png'}
    pairs = [dataset[i] for i in range(4)]
    assert [Path(pair['gt_path']).name for pair in pairs] == ['a.png', 'b c.png', 'b c.png', 'Ä.日本.png']
    assert [bool(pair['unreadable']) for pair in pairs] == [False, True, False, False]
    assert f'{folder}/aa truncated.png: cannot be decoded' in pairs[1]['unreadable']
    with pytest.raises(UserError, match='aa truncated.png: cannot be decoded'):
        OnTheFlyDataset(options(folder, phase='val'))[1]


def test_no_data_is_said_in_one_line(tmp_path, folder):
    for root, more, message in [
        (tmp_path / 'none', {}, 'no such folder'),
        (tmp_path / 'none.lmdb', {'io_backend': {'type': 'lmdb'}}, 'not an LMDB'),
        (folder, {'gt_size': 100}, 'no picture is large enough'),
        (folder, {'gt_size': 30}, 'gt_size: 30 is no multiple'),
    ]:
        with pytest.raises(UserError, match=message) as error:
            OnTheFlyDataset(options(root, **more))
        assert '\n' not in str(error.value)


def test_an_option_file_trains_from_hr_alone(repo_root):
    opt = load_options(repo_root / 'options/train_IAFMNet_x4_hr_only.yml')
    assert not check_options(opt, True, str(repo_root), files=False).faults
    ours, theirs = opt['datasets'].pop('train'), load_options(repo_root / 'options/train_IAFMNet_x4.yml')
    pairs = theirs['datasets'].pop('train')
    assert ours['type'] == 'OnTheFlyDataset' and {'dataroot_lq'} == pairs.keys() - ours.keys()
    assert opt | {'name': theirs['name']} == theirs
    opt['datasets']['train'] = ours | {'cache_mb': 64}
    assert check_options(opt, True, str(repo_root), files=False).faults == [
        'datasets.train.cache_mb: unknown key (did you mean cache_mib?)'
    ]


def test_loading_is_measured_beside_training(folder, repo_root, tmp_path):
    file = tmp_path / 'small.yml'
    file.write_text(
        yaml.safe_dump(
            {
                'base': str(repo_root / 'options/train_IAFMNet_x4_hr_only.yml'),
                'datasets': {
                    'train': {'dataroot_gt': str(folder), 'gt_size': 32, 'total_batch_size': 2, 'num_worker_per_gpu': 1}
                },
                'network_g': {'type': 'SAFMN', 'scale': 4, 'dim': 8, 'n_blocks': 1},
                'train': {'ie_opt': None},
            }
        )
    )
    speed = measure_loading(str(file), repo_root, batches=3, iterations=1)
    assert (speed.dataset, speed.workers, speed.batch) == ('OnTheFlyDataset', 1, 2)
    assert speed.start_s > 0 and speed.load_ms > 0 and speed.train_ms > 0
    folder.rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='datasets.train.dataroot_gt: .*: no such folder'):
        measure_loading(str(file), repo_root)
