"""Preparation keeps its promises: right pairs, whole sets, nothing lost by an interruption, bad files named."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from PIL import Image

from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.names import PictureFile, list_pictures
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size, read_picture
from iafmsr.ops.resize import imresize, mod_crop
from iafmsr.tools.prepare import forms, preparation, stores
from iafmsr.tools.prepare.degradation import BLOCKS, BLUR, blockiness
from iafmsr.tools.prepare.forms import SubImages, WholePictures
from iafmsr.tools.prepare.preparation import prepare

SMALL = SubImages(crop_size=48, step=24, min_size=24)


def save_picture(path, height, width, seed=0):
    """Smooth noise, different everywhere: a crop from a wrong place shows."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    save_picture(folder / 'a.png', 101, 130, seed=1)
    save_picture(folder / 'b c.é.png', 60, 37, seed=2)
    return folder


def read_lmdb(path):
    """key -> uint8 picture (h, w, 3), and the lines of meta_info.txt."""
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        entries = {key.decode(): value for key, value in transaction.cursor()}
    return entries, (path / 'meta_info.txt').read_text().splitlines()


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def snapshot(folder):
    """Content of all finished LMDBs below a folder."""
    return {path.name: read_lmdb(path) for path in sorted(folder.glob('*.lmdb'))}


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_sub_images_are_crops_of_the_whole_pictures_pair(pictures, tmp_path):
    prepare([pictures], tmp_path / 'out', [2, 3, 4], SMALL)
    hr = read_picture(pictures / 'a.png')
    entries, meta = {}, {}
    for scale in (1, 2, 3, 4):
        entries[scale], meta[scale] = read_lmdb(tmp_path / 'out' / SMALL.folder(scale))
    boxes = SMALL.boxes(101, 130)
    assert boxes[0] == (0, 0, 48, 48) and boxes[-1] == (48, 72, 48, 48)  # 96x120 is what the grid of 12 reaches
    assert [key for key in entries[1] if key.startswith('a_')] == [f'a_s{n:03d}' for n in range(1, len(boxes) + 1)]
    for scale in (1, 2, 3, 4):
        whole = hr if scale == 1 else imresize(mod_crop(hr, scale), Fraction(1, scale))
        whole = whole.permute(1, 2, 0).numpy()
        for n, (top, left, height, width) in enumerate(boxes, 1):
            crop = whole[top // scale : (top + height) // scale, left // scale : (left + width) // scale]
            np.testing.assert_array_equal(decode(entries[scale][f'a_s{n:03d}']), crop)
            assert f'a_s{n:03d}.png ({height // scale},{width // scale},3) 1' in meta[scale]
        assert len(meta[scale]) == len(entries[scale]) == len(boxes) + 2  # the narrow picture gives 2 of 48x36


@pytest.mark.parametrize(
    ('size', 'starts'),
    [(480, [0]), (491, [0]), (492, [0, 12]), (720, [0, 240]), (1356, [0, 240, 480, 720, 876]), (100, [0])],
)
def test_the_last_crop_is_flush_with_the_border(size, starts):
    assert sorted({top for top, _, _, _ in SubImages(480, 240, 96).boxes(size, 480)}) == starts


def test_every_pixel_of_the_grid_is_in_a_crop():
    covered = np.zeros((1104, 828), dtype=bool)
    for top, left, height, width in SubImages().boxes(1115, 830):
        covered[top : top + height, left : left + width] = True
    assert covered.all()


def test_basicsr_trains_from_the_lmdbs(pictures, tmp_path):
    prepare([pictures], tmp_path / 'out', [3], SMALL)
    dataset = build_dataset(
        {
            'name': 'x',
            'type': 'PairedImageDataset',
            'phase': 'train',
            'scale': 3,
            'gt_size': 36,
            'use_hflip': False,
            'use_rot': False,
            'dataroot_gt': str(tmp_path / 'out/HR_sub.lmdb'),
            'io_backend': {'type': 'lmdb'},
            'dataroot_lq': str(tmp_path / 'out/LR_bicubic_X3_sub.lmdb'),
        }
    )
    report = json.loads((tmp_path / 'out/prepare.json').read_text())['report']
    assert len(dataset) == report['pieces']
    for pair in (dataset[i] for i in range(len(dataset))):
        assert pair['gt'].shape == (3, 36, 36) and pair['lq'].shape == (3, 12, 12)
        again = imresize((255 * pair['gt']).round().to(torch.uint8), Fraction(1, 3)) / 255
        inside = (..., slice(2, -2), slice(2, -2))  # where the kernel does not reach over the crop's border
        assert (again - pair['lq'])[inside].abs().max() < 1e-6


def test_basicsr_validates_on_whole_pictures(pictures, tmp_path):
    prepare([pictures], tmp_path / 'out', [4], WholePictures())
    dataset = build_dataset(
        {
            'name': 'x',
            'type': 'PairedImageDataset',
            'phase': 'val',
            'scale': 4,
            'filename_tmpl': '{}x4',
            'dataroot_gt': str(tmp_path / 'out/HR'),
            'dataroot_lq': str(tmp_path / 'out/LR_bicubic/X4'),
            'io_backend': {'type': 'disk'},
        }
    )
    assert {pair['gt'].shape for pair in dataset} == {(3, 100, 128), (3, 60, 36)}
    assert decode((tmp_path / 'out/HR/a.png').read_bytes()).shape == (101, 130, 3)


def test_a_scale_can_be_added_later(pictures, tmp_path):
    together, apart = tmp_path / 'together', tmp_path / 'apart'
    prepare([pictures], together, [2, 4], SMALL)
    prepare([pictures], apart, [4], SMALL)
    hr_before = tree(apart / 'HR_sub.lmdb')
    prepare([pictures], apart, [2], SMALL)
    assert tree(apart / 'HR_sub.lmdb') == hr_before
    assert snapshot(apart) == snapshot(together)


def test_a_second_run_reads_no_picture_and_writes_nothing(pictures, tmp_path, monkeypatch):
    (pictures / 'tiny.png').write_bytes(b'')
    first = prepare([pictures], tmp_path / 'out', [4], SMALL)
    before = tree(tmp_path / 'out')
    monkeypatch.setattr(preparation, 'read_picture', lambda path: pytest.fail('read again'))
    monkeypatch.setattr(preparation, 'picture_size', lambda path: pytest.fail('read again'))
    assert prepare([pictures], tmp_path / 'out', [4], SMALL) == first
    assert tree(tmp_path / 'out') == before


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(pictures, tmp_path, monkeypatch):
    for n in range(6):
        save_picture(pictures / f'{n}.png', 60, 60, seed=10 + n)
    prepare([pictures], tmp_path / 'undisturbed', [2, 4], SMALL)

    add, calls = stores.LmdbStore.add, []

    def interrupted_add(self, items):
        calls.append(items)
        if len(calls) == 8:  # the third picture is in HR and not yet in LR
            raise KeyboardInterrupt
        add(self, items)

    monkeypatch.setattr(stores.LmdbStore, 'add', interrupted_add)
    with pytest.raises(KeyboardInterrupt):
        prepare([pictures], tmp_path / 'out', [2, 4], SMALL)
    assert not list((tmp_path / 'out').glob('*.lmdb'))

    monkeypatch.setattr(stores.LmdbStore, 'add', add)
    read = []
    monkeypatch.setattr(preparation, 'read_picture', lambda path: read.append(path.name) or read_picture(path))
    monkeypatch.setattr(preparation, '_bytes_per_pixel', lambda *_: 1.0)
    monkeypatch.setattr(preparation, '_check_content', lambda *_: None)
    prepare([pictures], tmp_path / 'out', [2, 4], SMALL)
    assert len(read) == 6  # of 8 pictures, two were whole
    assert snapshot(tmp_path / 'out') == snapshot(tmp_path / 'undisturbed')
    assert not list((tmp_path / 'out').glob('*.partial'))


def test_a_run_that_dies_between_two_renames_is_finished_by_the_next(pictures, tmp_path, monkeypatch):
    png = (pictures / 'a.png').read_bytes()
    (pictures / 'truncated.png').write_bytes(png[: len(png) // 2])
    prepare([pictures], tmp_path / 'undisturbed', [2, 4], SMALL)
    finish, calls = stores.LmdbStore.finish, []

    def dying_finish(self):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(self)

    monkeypatch.setattr(stores.LmdbStore, 'finish', dying_finish)
    with pytest.raises(KeyboardInterrupt):
        prepare([pictures], tmp_path / 'out', [2, 4], SMALL)
    report = prepare([pictures], tmp_path / 'out', [2, 4], SMALL)
    assert set(report.unreadable) == {'truncated.png'}
    assert snapshot(tmp_path / 'out') == snapshot(tmp_path / 'undisturbed')


def test_kill_9_leaves_nothing_that_looks_whole_and_a_rerun_finishes(tmp_path, repo_root):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for n in range(24):
        save_picture(folder / f'{n}.png', 240, 240, seed=n)
    out = tmp_path / 'out'
    command = [sys.executable, f'{repo_root}/scripts/data_preparation/prepare.py', '--input', folder, '--output', out]
    command += '--scale 4 --crop-size 96 --step 48 --min-size 96'.split()
    process = subprocess.Popen(
        [*command, '--workers', '1'], stderr=subprocess.DEVNULL, env={**os.environ, 'PYTHONPATH': str(repo_root)}
    )
    begun = out / 'HR_sub.lmdb.partial' / 'data.mdb'
    deadline = time.monotonic() + 60
    while not (begun.exists() and begun.stat().st_size > 400_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(out.glob('*.lmdb'))

    form = SubImages(96, 48, 96)
    prepare([folder], out, [4], form)
    prepare([folder], tmp_path / 'undisturbed', [4], form)
    assert snapshot(out) == snapshot(tmp_path / 'undisturbed')


def test_the_map_grows(pictures, tmp_path, monkeypatch):
    prepare([pictures], tmp_path / 'roomy', [2], SMALL)
    monkeypatch.setattr(stores, '_FIRST_MAP_BYTES', 16 * 4096)
    prepare([pictures], tmp_path / 'out', [2], SMALL)
    assert snapshot(tmp_path / 'out') == snapshot(tmp_path / 'roomy')
    assert (tmp_path / 'out/HR_sub.lmdb/data.mdb').stat().st_size > 16 * 4096


def test_a_disk_too_small_is_refused_before_anything_is_written(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10_000))
    with pytest.raises(UserError, match='needed.*free'):
        prepare([pictures], tmp_path / 'out', [4], SMALL)
    assert not (tmp_path / 'out').exists()


def test_the_estimate_is_near_what_is_written(pictures, tmp_path, capsys):
    for n in range(20):
        save_picture(pictures / f'{n}.png', 200, 300, seed=n)
    prepare([pictures], tmp_path / 'out', [2, 3, 4], SubImages(192, 96, 24))
    written = sum(len(png) for entries, _ in snapshot(tmp_path / 'out').values() for png in entries.values())
    estimate = float(capsys.readouterr().err.split('about ')[1].split(' GB')[0])
    assert written < estimate * 1e9 + 5e6 < 1.5 * written + 1e7


@pytest.mark.parametrize(
    'bad', [{'inputs': ['missing']}, {'scales': [5]}, {'scales': []}, {'workers': 0}, {'output': 'pictures/a.png/out'}]
)
def test_a_bad_argument_is_one_line_that_names_it(pictures, tmp_path, bad):
    arguments = {'inputs': [pictures], 'output': 'out', 'scales': [4], 'form': SMALL, **bad}
    arguments['inputs'] = [tmp_path / folder for folder in arguments['inputs']]
    arguments['output'] = tmp_path / arguments['output']
    with pytest.raises(UserError, match=r'missing|\[5\]|\[\]|workers|a\.png') as error:
        prepare(**arguments)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('values', [(100, 240, 24), (480, 0, 24), (480, 250, 24), (48, 24, 49), (48, 24, 0)])
def test_a_form_off_the_grid_is_refused(values):
    with pytest.raises(UserError, match='|'.join(map(str, values))):
        SubImages(*values)


def test_an_empty_folder_and_a_clash_of_names_are_refused(tmp_path, pictures):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='empty'):
        list_pictures([tmp_path / 'empty'])
    save_picture(pictures / 'a.jpg', 60, 60)
    with pytest.raises(UserError, match=r'a\.jpg.*a\.png'):
        list_pictures([pictures])


def test_other_pictures_or_settings_are_refused(pictures, tmp_path):
    prepare([pictures], tmp_path / 'out', [4], SMALL)
    before = tree(tmp_path / 'out')
    with pytest.raises(UserError, match='72'):
        prepare([pictures], tmp_path / 'out', [4], SubImages(72, 24, 24))
    with pytest.raises(UserError, match='WholePictures'):
        prepare([pictures], tmp_path / 'out', [4], WholePictures())
    save_picture(pictures / 'new.png', 60, 60)
    with pytest.raises(UserError, match=r'new\.png'):
        prepare([pictures], tmp_path / 'out', [4], SMALL)
    assert tree(tmp_path / 'out') == before


def test_sets_that_were_made_otherwise_are_not_touched(pictures, tmp_path):
    (tmp_path / 'out/HR').mkdir(parents=True)
    with pytest.raises(UserError, match='out/HR'):
        prepare([pictures], tmp_path / 'out', [4], WholePictures())
    assert list((tmp_path / 'out').rglob('*')) == [tmp_path / 'out/HR']


def test_keys_are_safe_and_injective(tmp_path):
    stems = [
        'a',
        'a b',
        'a%20b',
        'a_b',
        'a.b',
        'a%2Eb',
        'a-b',
        '\u00e4',
        'a\u0308',
        '鳥',
        'a\tb',
        os.fsdecode(b'\xff'),
        '_s001',
    ]
    keys = [PictureFile(tmp_path / f'{stem}.png', 0).key for stem in stems]
    assert len(set(keys)) == len(set(stems)) == len(stems)
    for key in keys:
        assert key.isascii() and key.isprintable() and not set(key) & set('. /')


def test_names_that_are_not_utf_8_do_no_harm(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    save_picture(folder / 'x.png', 60, 60)
    os.rename(os.fsencode(folder / 'x.png'), os.fsencode(folder) + b'/\xff\xfe.png')
    (folder / os.fsdecode(b'\xfa.png')).write_bytes(b'')
    report = prepare([folder], tmp_path / 'out', [4], SMALL)
    assert (report.pictures, len(report.unreadable)) == (1, 1)
    assert '%FF%FE_s001' in read_lmdb(tmp_path / 'out/HR_sub.lmdb')[0]
    assert prepare([folder], tmp_path / 'out', [4], SMALL) == report


def rgb(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize('kind', ['L', 'LA', 'P', '1', 'RGBA', 'I;16'])
def test_other_kinds_of_pictures_become_rgb(tmp_path, kind):
    values = rgb()
    image = {
        'L': lambda: Image.fromarray(values[..., 0]),
        'LA': lambda: Image.merge('LA', [Image.fromarray(values[..., 0]), Image.new('L', (40, 30), 255)]),
        'P': lambda: Image.fromarray(values).quantize(256),
        '1': lambda: Image.fromarray(values[..., 0]).convert('1'),
        'RGBA': lambda: Image.fromarray(np.dstack([values, np.full((30, 40), 255, np.uint8)])),
        'I;16': lambda: Image.fromarray(values[..., 0].astype(np.uint16) * 256 + 255),
    }[kind]()
    assert image.mode == kind
    image.save(tmp_path / 'x.png')
    expected = values if kind == 'RGBA' else values[..., :1].repeat(3, 2)
    if kind in ('P', '1'):
        expected = np.asarray(image.convert('RGB'))
    result = read_picture(tmp_path / 'x.png')
    assert result.dtype == torch.uint8 and result.shape == (3, 30, 40)
    np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_cmyk_is_converted(tmp_path):
    Image.new('CMYK', (40, 30), (255, 0, 0, 0)).save(tmp_path / 'x.jpg', quality=95)
    assert (read_picture(tmp_path / 'x.jpg').float().mean((1, 2)) - torch.tensor([0.0, 255, 255])).abs().max() < 3


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.kron(rgb(3)[:3, :4], np.ones((16, 16, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    image.save(tmp_path / 'turned.png', exif=exif)
    assert picture_size(tmp_path / 'turned.png') == (64, 48)
    np.testing.assert_array_equal(
        read_picture(tmp_path / 'turned.png').permute(1, 2, 0).numpy(), np.rot90(np.asarray(image), -1)
    )


def broken_files(folder):
    save_picture(folder / 'whole.png', 96, 96)
    png = (folder / 'whole.png').read_bytes()
    (folder / 'truncated.png').write_bytes(png[: len(png) // 2])
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    (folder / 'flipped.png').write_bytes(flipped)
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'text.jpg').write_text('not a picture')
    Image.fromarray(rgb()).resize((96, 96)).save(folder / 'x.jpg')
    (folder / 'short.jpg').write_bytes((folder / 'x.jpg').read_bytes()[:-400])
    (folder / 'x.jpg').unlink()
    Image.fromarray(np.dstack([rgb(), rgb()[..., 0]])).resize((96, 96)).save(folder / 'glass.png')
    Image.fromarray(np.ones((96, 96), np.float32)).save(folder / 'float.tif')
    return {'truncated.png', 'flipped.png', 'empty.png', 'text.jpg', 'short.jpg', 'glass.png', 'float.tif'}


def test_broken_and_senseless_files_are_named_and_left_out(tmp_path, capsys):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    broken = broken_files(folder)
    save_picture(folder / 'small.png', 20, 96)
    report = prepare([folder], tmp_path / 'out', [4], SMALL)
    lines = capsys.readouterr().err.splitlines()
    assert set(report.unreadable) == broken and set(report.unused) == {'small.png'}
    for name in broken | {'small.png'}:
        assert sum(f'/{name}: ' in line for line in lines) == 1
    assert {key.split('_')[0] for key in read_lmdb(tmp_path / 'out/HR_sub.lmdb')[0]} == {'whole'}


def test_nothing_usable_is_an_error(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    broken_files(folder)
    (folder / 'whole.png').unlink()
    with pytest.raises(UserError, match='none of the'):
        prepare([folder], tmp_path / 'out', [4], SMALL)
    assert not list((tmp_path / 'out').glob('*.lmdb'))
    with pytest.raises(UnreadableError, match='empty file'):
        read_picture(folder / 'empty.png')


@pytest.mark.parametrize(('break_one', 'code'), [(False, 0), (True, 1)])
def test_the_command_says_by_its_exit_code_that_a_file_was_broken(pictures, tmp_path, break_one, code):
    if break_one:
        (pictures / 'broken.png').write_bytes(b'')
    folders = ['--input', str(pictures), '--output', str(tmp_path / 'out')]
    for _ in range(2):  # the second time there is nothing to do
        arguments = ['--scale', '4', '--crop-size', '48', '--step', '24', '--min-size', '24']
        assert main(['prepare', *folders, *arguments]) == code


def test_the_command_reports_a_mistake_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(['prepare', '--input', str(tmp_path / 'nowhere'), '--output', 'out'])
    assert end.value.code == 2
    assert capsys.readouterr().err == f'iafmsr: error: no such folder: {tmp_path}/nowhere\n'


def test_the_grid_serves_every_scale():
    assert all(side % scale == 0 for scale in forms.SCALES for box in SubImages().boxes(1000, 777) for side in box)


def test_sets_whose_record_has_no_report_are_refused(pictures, tmp_path):
    prepare([pictures], tmp_path / 'out', [2], SMALL)
    path = tmp_path / 'out/prepare.json'
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {'report': None}))
    with pytest.raises(UserError, match='prepare.json is damaged'):
        prepare([pictures], tmp_path / 'out', [2], SMALL)


# -- nested folders, and the report -----------------------------------------------------------------------------------
def test_pictures_of_nested_folders_are_prepared(tmp_path, capsys):
    """As ImageNet and LSDIR lay them out."""
    for folder, name in (('train/n01', 'n01_1.JPEG'), ('train/n02', 'n02_7.JPEG'), ('train/n02/deep', '0000001.png')):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        save_picture(tmp_path / folder / name, 48, 48)
    (tmp_path / 'train/notes.txt').write_text('no picture')
    flags = ['--input', str(tmp_path / 'train'), '--output', str(tmp_path / 'out'), '--scale', '4']
    sizes = ['--crop-size', '48', '--step', '24', '--min-size', '24']
    with pytest.raises(SystemExit):
        main(['prepare', *flags, *sizes])
    says = f'no pictures in {tmp_path}/train, only in its sub-folders: use --recursive'
    assert capsys.readouterr().err == f'iafmsr: error: {says}\n' and not (tmp_path / 'out').exists()
    assert main(['prepare', *flags, *sizes, '--recursive']) == 0
    assert sorted(read_lmdb(tmp_path / 'out/HR_sub.lmdb')[0]) == ['0000001_s001', 'n01_1_s001', 'n02_7_s001']


def test_blocks_are_found_wherever_their_grid_begins():
    plain = np.add.outer(np.arange(64.0), np.arange(64.0))
    assert blockiness(plain) == pytest.approx(0, abs=1e-6)
    blocks = plain + 6 * np.add.outer(np.arange(64) // 8, np.arange(64) // 8)
    assert min(blockiness(blocks[start:, start:]) for start in range(8)) > 1
    assert blockiness(plain + 6 * (np.arange(64) // 8)) < 0.1  # stripes are no blocks


@pytest.mark.parametrize(
    ('kind', 'says'),
    [('sharp', 'bicubic LR suits'), ('blocks', 'enlarge the JPEG blocks of'), ('blurred', 'enlarge the blur of')],
)
def test_the_report_says_whether_a_bicubic_net_suits_a_folder(tmp_path, capsys, kind, says):
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (240, 240, 3), np.uint8)
        picture = cv2.GaussianBlur(noise, (0, 0), 2.0 if kind == 'blurred' else 0.6)
        Image.fromarray(picture).save(tmp_path / f'{number}.jpg', quality=30 if kind == 'blocks' else 100)
    assert main(['prepare', '--input', str(tmp_path), '--report']) == 0
    out = capsys.readouterr().out
    assert out.startswith('3 of 3 pictures measured') and says in out
    assert f'{BLOCKS:5.2f}' in out and f'{BLUR:5.2f}' in out
