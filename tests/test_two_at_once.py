"""Two processes on one folder: one of them is refused in a line, and nothing is mixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.files.reading import read_picture
from iafmsr.ops.resize import imresize, mod_crop
from iafmsr.tools.benchmark.cache import Cache
from iafmsr.tools.prepare.download import Source, download
from iafmsr.tools.prepare.forms import Form, SubImages, WholePictures
from iafmsr.tools.prepare.preparation import prepare
from iafmsr.tools.prepare.teacher_pictures import add_teacher

SMALL = SubImages(crop_size=48, step=24, min_size=24)
IN_USE = f'process {os.getpid()} is at work in it'


def picture(path: Path, seed: int, size: int = 96) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = {'scale': 2, 'num_feat': 8, 'num_block': 1}
    torch.save(
        {'params': IAFMNet(**network).state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, tmp_path / 'x.pth'
    )
    return tmp_path / 'x.pth'


def visible(folder: Path) -> set[Path]:
    return set(folder.rglob('*'))


# -- the lock --------------------------------------------------------------------------------------------------------
def test_a_lock_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path('new/folder'), Path('new'), Path()):
        with folder_lock(folder):
            for other in (folder, folder.resolve()):
                with pytest.raises(UserError, match=IN_USE), folder_lock(other):
                    pass
        with folder_lock(folder):
            pass
    assert visible(tmp_path) == {tmp_path / 'new'}
    assert not list(tmp_path.parent.glob(f'.{tmp_path.name}.lock'))


def test_a_folder_below_one_without_rights_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'share/out').mkdir(parents=True)
    refuse_files_in(tmp_path / 'share', monkeypatch)
    with folder_lock(tmp_path / 'share/out'):
        with pytest.raises(UserError, match=IN_USE), folder_lock(tmp_path / 'share/out'):
            pass
    assert visible(tmp_path / 'share') == {tmp_path / 'share/out'}


def refuse_files_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without rights; root, who may run the tests, has all of them."""
    opened = open

    def refuse(file, *args, **kwargs):
        if isinstance(file, Path) and file.parent == folder:
            raise PermissionError(13, os.strerror(13), str(file))
        return opened(file, *args, **kwargs)

    monkeypatch.setattr('builtins.open', refuse)


def test_a_lock_that_is_waited_for_comes_when_it_is_free(tmp_path: Path) -> None:
    """Of many processes that add to a number, each sees the one before."""
    code = (
        'from pathlib import Path; from iafmsr.files.lock import folder_lock\n'
        f'number = Path({str(tmp_path / "number")!r})\n'
        'for _ in range(200):\n'
        f'    with folder_lock(Path({str(tmp_path / "held")!r}), wait=True):\n'
        '        number.write_text(str(int(number.read_text()) + 1))'
    )
    (tmp_path / 'number').write_text('0')
    processes = [subprocess.Popen([sys.executable, '-c', code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / 'number').read_text() == '800'


# -- commands --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('form', [SMALL, WholePictures()])
def test_a_second_preparation_is_refused(tmp_path: Path, form: Form) -> None:
    picture(tmp_path / 'in/a.png', 1)
    with folder_lock(tmp_path / 'out'):
        before = visible(tmp_path)
        with pytest.raises(UserError, match=f'out: {IN_USE}'):
            prepare([tmp_path / 'in'], tmp_path / 'out', [2], form)
        assert visible(tmp_path) == before
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], form)
    with folder_lock(tmp_path / 'out'):  # what has nothing to do disturbs nobody
        assert prepare([tmp_path / 'in'], tmp_path / 'out', [2], form).pictures == 1


def test_two_preparations_at_once_leave_right_pairs(tmp_path: Path, repo_root: Path) -> None:
    names = [f'{number:02d}' for number in range(24)]
    for seed, name in enumerate(names):
        picture(tmp_path / f'in/{name}.png', seed, 192)
    command = [sys.executable, str(repo_root / 'scripts/data_preparation/prepare.py'), '--whole', '--scale', '2']
    command += ['--input', str(tmp_path / 'in'), '--output', str(tmp_path / 'out'), '--workers', '2']
    processes = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {'PYTHONPATH': str(repo_root)}, cwd='/'
        )
        for _ in range(2)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    codes = sorted(code for _, code in ends)
    assert codes[0] == 0 and codes[1] in (0, 2), ends
    assert all(('is at work in it' in said) == (code == 2) and 'Traceback' not in said for said, code in ends), ends
    for name in names:
        hr = read_picture(tmp_path / f'in/{name}.png')
        assert read_picture(tmp_path / f'out/HR/{name}.png').equal(hr)
        lq = read_picture(tmp_path / f'out/LR_bicubic/X2/{name}x2.png')
        assert lq.equal(imresize(mod_crop(hr, 2), Fraction(1, 2)))


def test_a_second_teacher_is_refused(tmp_path: Path, weights: Path) -> None:
    picture(tmp_path / 'in/a.png', 1)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], SMALL)
    with folder_lock(tmp_path / 'out'):
        before = visible(tmp_path)
        with pytest.raises(UserError, match=f'out: {IN_USE}'):
            add_teacher([tmp_path / 'in'], tmp_path / 'out', SMALL, str(weights))
        assert visible(tmp_path) == before


def test_a_second_download_is_refused(tmp_path: Path) -> None:
    source = Source('DIV2K', 'http://127.0.0.1:9/x.zip', 'HR', 1)
    with folder_lock(tmp_path / 'DIV2K'), pytest.raises(UserError, match=f'DIV2K: {IN_USE}'):
        download(source, tmp_path)


@pytest.mark.parametrize('out', ['out', 'out.png'])
def test_a_second_upscaling_is_refused(
    tmp_path: Path, weights: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / 'a.png', 1, 16)
    arguments = ['upscale', str(source), '--output', str(tmp_path / out), '--weights', str(weights), '--device', 'cpu']
    with folder_lock(tmp_path / out), pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert f'iafmsr: error: {tmp_path / out}: {IN_USE}' in capsys.readouterr().err
    assert main(arguments) == 0
    assert not list(tmp_path.rglob('.*'))


# -- what is there ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('change', [lambda path: picture(path, 9), lambda path: path.write_bytes(b'')])
def test_pictures_of_the_same_name_and_size_are_told_apart(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """A BMP has the size of any other of as many pixels: a scale that is added later must be of the same pictures."""
    source = picture(tmp_path / 'in/a.bmp', 1)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], SMALL)
    change(source)
    with pytest.raises(UserError, match=r"made of other pictures \('a.bmp' differs\)"):
        prepare([tmp_path / 'in'], tmp_path / 'out', [4], SMALL)


def test_a_record_of_sizes_alone_is_taken(tmp_path: Path) -> None:
    source = picture(tmp_path / 'in/a.png', 1)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], SMALL)
    record = json.loads((tmp_path / 'out/prepare.json').read_text())
    record['pictures'] = {'a.png': source.stat().st_size}
    (tmp_path / 'out/prepare.json').write_text(json.dumps(record))
    prepare([tmp_path / 'in'], tmp_path / 'out', [4], SMALL)
    source.write_bytes(source.read_bytes() + b' ')
    with pytest.raises(UserError, match='made of other pictures'):
        prepare([tmp_path / 'in'], tmp_path / 'out', [3], SMALL)


def test_results_of_two_benchmarks_are_kept(tmp_path: Path) -> None:
    first, second = Cache(tmp_path / 'cache'), Cache(tmp_path / 'cache')
    for cache, key, value in ((first, 'a', 1), (second, 'b', 2)):
        assert cache.get('subject', key) is None
        cache.put('subject', key, value)
    first.save()
    second.save()
    assert [Cache(tmp_path / 'cache').get('subject', key) for key in 'ab'] == [1, 2]
    assert not list(tmp_path.rglob('.*'))
