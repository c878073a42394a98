"""The train set in memory gives the batches that data workers give, whatever its place; what does not fit is said."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from PIL import Image
from tiny import TORCHRUN, finish, options, start, train, write_data
from torch.utils.data import DataLoader

from iafmsr.data import in_memory
from iafmsr.data.in_memory import InMemoryLoader, TrainSetInMemory, build_train_loader
from iafmsr.data.pixels import Pixels
from iafmsr.data.sampling import EpochSampler, random_patch, sample_random
from iafmsr.errors import UserError
from iafmsr.options.files import load_options
from iafmsr.training.checks.check import check_options

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with the package, LMDBs of ten pairs and a folder of HR pictures of many sizes."""
    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(root)
    (root / 'hr').mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (41 + 3 * i, 60 - 2 * i, 3), np.uint8)).save(root / f'hr/{i}.png')
    return root


def pairs(root: Path, **changes: Any) -> dict[str, Any]:
    """Options of the train set of pairs."""
    opt = options('x')['datasets']['train'] | {'phase': 'train', 'scale': 4, 'batch_size_per_gpu': 4}
    return opt | {key: str(root / opt[key]) for key in ('dataroot_gt', 'dataroot_lq')} | changes


def hr_only(root: Path, **changes: Any) -> dict[str, Any]:
    return pairs(root) | {
        'type': 'OnTheFlyDataset',
        'dataroot_gt': str(root / 'hr'),
        'io_backend': {'type': 'disk'},
        **changes,
    }


def epoch(loader: Any, number: int = 0) -> list[dict[str, Any]]:
    loader.sampler.set_epoch(number)
    return list(loader)


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    return len(ours) == len(theirs) > 0 and all(
        a.keys() == b.keys()
        and all(torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize('kind', [pairs, hr_only])
@pytest.mark.parametrize('turns', [True, False])
def test_batches_are_those_of_data_workers_to_the_bit(root: Path, kind: Any, turns: bool) -> None:
    opt = kind(root, use_hflip=turns, use_rot=turns)
    dataset = build_dataset(opt)
    workers = build_dataloader(dataset, opt, sampler=EpochSampler(dataset, ratio=3, seed=7), seed=0)
    ours = build_train_loader(
        build_dataset(opt | {'in_memory': 'host'}),
        opt | {'in_memory': 'host'},
        num_gpu=0,
        sampler=EpochSampler(dataset, ratio=3, seed=7),
        seed=0,
    )
    assert isinstance(ours, InMemoryLoader) and isinstance(workers, DataLoader)
    assert len(ours) == len(workers)
    for number in range(3):
        assert same(epoch(ours, number), epoch(workers, number))
    assert not same(epoch(ours, 0), epoch(ours, 1))


def test_a_picture_that_small_patches_do_not_fit_into_is_replaced_as_workers_do_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, unit in (('hr', 4), ('lr', 1)):
        (tmp_path / folder).mkdir()
        for i, side in enumerate((12, 5, 16)):
            Image.fromarray(rng.integers(0, 256, (unit * side, unit * 14, 3), np.uint8)).save(
                tmp_path / folder / f'{i}.png'
            )
    opt = pairs(
        tmp_path,
        dataroot_gt=str(tmp_path / 'hr'),
        dataroot_lq=str(tmp_path / 'lr'),
        io_backend={'type': 'disk'},
        batch_size_per_gpu=3,
    )
    dataset = build_dataset(opt)
    memory = TrainSetInMemory(dataset, CPU, CPU)
    ours = epoch(InMemoryLoader(memory, 3, EpochSampler(dataset, ratio=4)))
    assert same(ours, epoch(build_dataloader(dataset, opt, sampler=EpochSampler(dataset, ratio=4))))
    assert any('1.png: patches of 8 do not fit into 14x5' in line for batch in ours for line in batch['unreadable'])


def test_an_unreadable_picture_is_replaced_as_workers_do_it(root: Path, tmp_path: Path) -> None:
    write_data(tmp_path)
    for key, value in ((b'004', b'noise'), (b'005', b'')):
        with lmdb.open(str(tmp_path / 'train_lq.lmdb')) as env, env.begin(write=True) as transaction:
            transaction.put(key, value)
    opt = pairs(tmp_path, num_worker_per_gpu=0)
    dataset = build_dataset(opt)
    ours = epoch(InMemoryLoader(TrainSetInMemory(dataset, CPU, CPU), 4, EpochSampler(dataset, ratio=2)))
    assert same(ours, epoch(build_dataloader(dataset, opt, sampler=EpochSampler(dataset, ratio=2))))
    assert any(
        'key 004: not a picture' in line and 'key 005: empty' in line for batch in ours for line in batch['unreadable']
    )


def test_a_picture_of_another_size_than_listed_is_unreadable(tmp_path: Path) -> None:
    write_data(tmp_path)
    listing = tmp_path / 'train_lq.lmdb/meta_info.txt'
    listing.write_text(listing.read_text().replace('003.png (16,16', '003.png (17,16'))
    memory = TrainSetInMemory(build_dataset(pairs(tmp_path)), CPU, CPU)
    assert list(memory.faults) == [3] and 'has not the size' in memory.faults[3]


def test_nothing_readable_is_one_line(tmp_path: Path) -> None:
    write_data(tmp_path)
    shutil.copytree(tmp_path / 'train_gt.lmdb', tmp_path / 'train_lq.lmdb', dirs_exist_ok=True)
    memory = TrainSetInMemory(build_dataset(pairs(tmp_path)), CPU, CPU)
    with pytest.raises(UserError, match='10 pictures in a row cannot be read, the first: .*is 64x64, not 4 times'):
        memory.batch([0, 1])
    (tmp_path / 'train_gt.lmdb/data.mdb').write_bytes(b'noise')
    with pytest.raises(UserError, match='train_gt.lmdb: MDB_INVALID'):
        TrainSetInMemory(build_dataset(pairs(tmp_path)), CPU, CPU)


@pytest.mark.parametrize('scale', [1, 3])
def test_the_two_ways_of_cutting_are_patch_cut(scale: int) -> None:
    """That of a GPU, run here, and that of a CPU."""
    sizes = [(9 * scale, 12 * scale), (7 * scale, 6 * scale), (20 * scale, 8 * scale)]
    pixels = Pixels(sizes, torch.randint(0, 256, (Pixels.count(sizes) + 5,), dtype=torch.uint8))
    numbers = [i % 3 for i in range(48)]
    patches = [
        random_patch(sample_random(i), sizes[n][0] // scale, sizes[n][1] // scale, 6) for i, n in enumerate(numbers)
    ]
    assert len({(patch.hflip, patch.vflip, patch.transpose) for patch in patches}) == 8
    expected = torch.stack(
        [patch.cut(pixels.picture(n), scale).permute(2, 0, 1) for n, patch in zip(numbers, patches, strict=True)]
    )
    for cut in (pixels.cut, pixels._cut_each, pixels._cut_at_once):
        assert torch.equal(cut(numbers, patches, scale), expected)


def test_an_odd_last_batch_is_left_out_and_a_resume_goes_on_in_the_epoch(root: Path) -> None:
    dataset = build_dataset(pairs(root))
    loader = InMemoryLoader(TrainSetInMemory(dataset, CPU, CPU), 4, EpochSampler(dataset))
    whole = epoch(loader)
    assert len(loader) == len(whole) == 2  # of ten samples
    loader.sampler.resume(0, 4)
    assert same(list(loader), whole[1:])


@pytest.mark.parametrize('kind', [pairs, hr_only])
def test_a_set_larger_than_memory_is_said_with_its_numbers_and_read_as_drawn(
    root: Path, kind: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger('basicsr').propagate = True
    opt = kind(root, in_memory='gpu', num_worker_per_gpu=0)
    monkeypatch.setattr(in_memory, 'available_bytes', lambda: 2**14)
    dataset = build_dataset(opt)
    loader = build_train_loader(dataset, opt, num_gpu=0, sampler=EpochSampler(dataset), seed=0)
    assert isinstance(loader, DataLoader) and epoch(loader)
    if kind is hr_only:
        assert loader.dataset.cached and not dataset.cached  # its own cache, which it did without before
    (line,) = {record.message for record in caplog.records if 'in_memory' in record.message}
    assert line == (
        'in_memory: gpu: the set takes 0.00 GiB, but there is no GPU; host memory has 0.00 GiB free, of '
        'which at most 80% are used: data workers read the pictures when they are needed'
    )


def test_options_are_checked(root: Path) -> None:
    opt = options('x', datasets__train__in_memory='ram', datasets__train__color='y')
    opt['datasets']['val'] |= {'type': 'PairedSRDataset', 'in_memory': 'host'}
    faults = check_options(opt, True, str(root), files=False).faults
    assert [fault.partition(':')[0] for fault in faults] == [
        'datasets.train.in_memory',
        'datasets.train.color',
        'datasets.val.in_memory',
        'datasets.train',  # luma alone has one channel, the network takes three
    ]
    good = options('x', datasets__train__in_memory='gpu')
    assert not check_options(good, True, str(root), files=False).faults
    hr = load_options(Path(__file__).parent.parent / 'options/train_IAFMNet_x4_hr_only.yml')
    hr['datasets']['train']['in_memory'] = 'ram'
    assert check_options(hr, True, str(root), files=False).faults == [
        "datasets.train.in_memory: must be ~, host or gpu, got 'ram'"
    ]


# Run by torchrun: two processes have one memory; rank 1 reads its half of the pictures into it.
TWO_RANKS = """
import sys

sys.path.insert(0, sys.argv[2])
import iafmsr
iafmsr.register()
import torch
import torch.distributed as dist
from basicsr.data import build_dataset
from basicsr.utils import options as basicsr_options
from pathlib import Path
from test_in_memory import CPU, pairs
from iafmsr.data.in_memory import TrainSetInMemory

basicsr_options.init_dist('pytorch')
memory = TrainSetInMemory(build_dataset(pairs(Path(sys.argv[1]))), CPU, CPU)
assert sorted(memory.faults) == [3, 4], memory.faults
dist.barrier()
if dist.get_rank() == 0:
    memory.lr.flat[0] = 77
dist.barrier()
assert memory.lr.flat[0, 0] == 77
torch.save({side: pixels.flat.clone() for side, pixels in memory.pixels.items()},
           f'{sys.argv[1]}/rank{dist.get_rank()}.pth')
dist.barrier()
"""


def test_processes_of_a_machine_have_one_memory(tmp_path: Path) -> None:
    write_data(tmp_path)
    with lmdb.open(str(tmp_path / 'train_lq.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'003', b'noise')
        transaction.put(b'004', b'noise')
    (tmp_path / 'two_ranks.py').write_text(TWO_RANKS)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(tmp_path / 'two_ranks.py'), str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
    )
    assert done.returncode == 0, done.stderr
    alone = TrainSetInMemory(build_dataset(pairs(tmp_path)), CPU, CPU)
    alone.lr.flat[0] = 77
    readable = [n for n in range(10) if n not in (3, 4)]
    for rank in range(2):
        pixels = torch.load(tmp_path / f'rank{rank}.pth')
        for side, kept in alone.pixels.items():
            theirs = Pixels(kept.sizes, pixels[side].flatten())
            assert all(torch.equal(theirs.picture(n), kept.picture(n)) for n in readable)


def losses(log: str) -> list[str]:
    return [line.partition('l_ie:')[2] for line in log.splitlines() if 'l_ie:' in line]


def test_a_run_with_the_set_in_memory_is_the_run_with_workers_stops_and_resumes(root: Path) -> None:
    code, log = train(root, options('workers', total_iter=8))
    assert code == 0, log
    opt = options('memory', total_iter=8, datasets__train__in_memory='gpu')
    code, first = finish(start(root, opt, '--auto_resume'), lambda line: 'iter:       4,' in line)
    assert code == 75, first
    code, second = train(root, opt, '--auto_resume')
    assert code == 0, second
    assert 'in_memory: gpu: 0.00 GiB of pixels in host memory (there is no GPU)' in first
    assert len(losses(log)) == 8 and losses(first) + losses(second) == losses(log)
