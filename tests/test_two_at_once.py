"""Two processes on one folder: one of them is refused in a line, and nothing is mixed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files import lock
from iafmsr.files.lock import folder_lock
from iafmsr.files.reading import read_picture
from iafmsr.ops.resize import imresize, mod_crop
from iafmsr.tools.benchmark.cache import Cache
from iafmsr.tools.prepare.download import Source, download
from iafmsr.tools.prepare.forms import Form, SubImages, WholePictures
from iafmsr.tools.prepare.preparation import prepare
from iafmsr.tools.prepare.stores import partial
from iafmsr.tools.prepare.teacher_pictures import add_teacher

SMALL = SubImages(crop_size=48, step=24, min_size=24)
IN_USE = f'process {os.getpid()} is using it'


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


def test_a_lock_by_the_means_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be tried elsewhere: msvcrt locks bytes at the place of the file."""
    import fcntl

    def locking(number: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1) and os.lseek(number, 0, os.SEEK_CUR) > 2**20
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, 'Permission denied') from None

    msvcrt = SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setattr(lock, 'sys', SimpleNamespace(platform='win32'))
    monkeypatch.setattr(lock, 'msvcrt', msvcrt, raising=False)
    with folder_lock(tmp_path / 'run'), pytest.raises(UserError, match=IN_USE), folder_lock(tmp_path / 'run'):
        pass
    with folder_lock(tmp_path / 'run', wait=True):
        pass


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
    assert all(('is using it' in said) == (code == 2) and 'Traceback' not in said for said, code in ends), ends
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


FORM = '--crop-size 48 --step 24 --min-size 24'
WRITERS = {
    'upscale': 'upscale in --output out --weights x.pth --device cpu',
    'upscale to a file': 'upscale in/00.png --output out/a.png --weights x.pth --device cpu',
    'inspect': 'inspect in --downscale --output out --weights x.pth',
    'export .pth': 'export --weights x.pth --output out/y.pth',
    'export .onnx': 'export --weights x.pth --output out/y.onnx',
    'benchmark': 'benchmark g=x.pth --data . --sets in --scale 2 --cache {root}/out --output out/a.md',
    'prepare': f'prepare --input in --output out --scale 2 {FORM}',
    'prepare --whole': 'prepare --input in --output out --scale 2 --whole',
    'prepare --teacher': f'prepare --input in --output out --scale 2 {FORM} --teacher x.pth',
}


@pytest.mark.skipif(os.environ.get('IAFMSR_FULL') != '1', reason='long form: scripts/test.sh --full')
@pytest.mark.parametrize('words', WRITERS.values(), ids=list(WRITERS))
def test_every_command_twice_at_once_leaves_what_it_leaves_alone(
    tmp_path: Path, repo_root: Path, weights: Path, words: str
) -> None:
    """One of the two does it, the other does too or is refused in a line; three times, since it is a matter of time."""
    for seed in range(8):
        picture(tmp_path / f'in/{seed:02d}.png', seed)
    command = [sys.executable, '-m', 'iafmsr', *words.format(root=tmp_path).split()]
    where = {'cwd': tmp_path, 'env': os.environ | {'PYTHONPATH': str(repo_root)}, 'text': True}

    def left() -> dict[str, bytes]:
        """Pages and tables tell times, and an LMDB's file where its pages happen to lie."""
        found = {str(path.relative_to(tmp_path)): path for path in (tmp_path / 'out').rglob('*') if path.is_file()}
        assert not [name for name in found if 'partial' in name or '.lock' in name]
        changing = ('.mdb', '.html', '.md', '.onnx')
        return {name: b'' if name.endswith(changing) else path.read_bytes() for name, path in found.items()}

    subprocess.run(command, check=True, capture_output=True, **where)
    alone = left()
    assert alone
    for _ in range(3):
        shutil.rmtree(tmp_path / 'out')
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where) for _ in range(2)]
        said = [process.communicate()[1] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes[0] == 0 and codes[1] in (0, 2) and 'Traceback' not in ''.join(said), said
        assert left() == alone


# -- what is there ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('change', [lambda path: picture(path, 9), lambda path: path.write_bytes(b'')])
def test_pictures_of_the_same_name_and_size_are_told_apart(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """A BMP has the size of any other of as many pixels: a scale that is added later must be of the same pictures."""
    source = picture(tmp_path / 'in/a.bmp', 1)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], SMALL)
    change(source)
    with pytest.raises(UserError, match=r"made from other pictures \('a.bmp' differs\)"):
        prepare([tmp_path / 'in'], tmp_path / 'out', [4], SMALL)


@pytest.mark.parametrize('form', [SMALL, WholePictures()])
@pytest.mark.parametrize('begun', [False, True])
def test_what_is_there_is_checked_by_its_content(tmp_path: Path, form: Form, begun: bool) -> None:
    """A picture of LR that is another one's, in a set that is finished, or was when the process ended."""
    for number in range(2):
        picture(tmp_path / f'in/{number}.png', number)
        picture(tmp_path / f'else/{number}.png', number + 5)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], form)
    prepare([tmp_path / 'else'], tmp_path / 'other', [2], form)
    lr = tmp_path / 'out' / form.folder(2)
    shutil.rmtree(lr)
    shutil.copytree(tmp_path / 'other' / form.folder(2), partial(lr) if begun else lr)
    before = visible(tmp_path / 'out')
    with pytest.raises(UserError, match=r'X2\S*/\S+ was not made from \S+/in/0.png; choose another output folder'):
        prepare([tmp_path / 'in'], tmp_path / 'out', [2, 4], form)
    assert visible(tmp_path / 'out') == before


def test_a_record_of_sizes_alone_is_taken(tmp_path: Path) -> None:
    source = picture(tmp_path / 'in/a.png', 1)
    prepare([tmp_path / 'in'], tmp_path / 'out', [2], SMALL)
    record = json.loads((tmp_path / 'out/prepare.json').read_text())
    record['pictures'] = {'a.png': source.stat().st_size}
    (tmp_path / 'out/prepare.json').write_text(json.dumps(record))
    prepare([tmp_path / 'in'], tmp_path / 'out', [4], SMALL)
    source.write_bytes(source.read_bytes() + b' ')
    with pytest.raises(UserError, match='made from other pictures'):
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
