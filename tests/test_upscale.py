"""``iafmsr upscale``: any picture, many pictures, bad pictures."""

from __future__ import annotations

import errno
import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from iafmsr.archs import SAFMN, IAFMNet
from iafmsr.cli import main
from iafmsr.data.pictures import UnreadableError
from iafmsr.errors import UserError
from iafmsr.inference.pictures import Picture, read, write
from iafmsr.inference.tiles import Enlarger
from iafmsr.inference.upscale import Upscaler
from iafmsr.nets import files as named_files
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import TrainedNet

Upscale = Callable[..., int]
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net of scale 2 that has learned nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    network = {'scale': 2, 'num_feat': 8, 'num_block': 1}
    torch.save({'params': IAFMNet(**network).state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, path)
    return path


@pytest.fixture
def upscale(weights: Path, tmp_path: Path) -> Upscale:
    """Runs the command on paths below tmp_path."""
    def run(*arguments: str | Path) -> int:
        return main(['upscale', *map(str, arguments), '--weights', str(weights), '--device', 'cpu'])
    return run


def noise(height: int = 12, width: int = 17, channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (height, width, channels), endpoint=True)
    return values.astype(kind)


def save(path: Path, pixels: np.ndarray, **keywords) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, **keywords)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---------------------------------------------------------------- kinds of pictures

@pytest.mark.parametrize('suffix', ['.png', '.tif', '.webp', '.jpg', '.bmp'])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, kind: type, channels: int) -> None:
    pixels = noise(channels=channels, kind=kind)
    picture = Picture(pixels[..., :3], pixels[..., 3:] if channels == 4 else None)
    path = tmp_path / f'a{suffix}'
    fits = (kind is np.uint8 or suffix in ('.png', '.tif')) and (channels < 4 or suffix not in ('.jpg', '.bmp'))
    if not fits:
        with pytest.raises(UserError, match='holds'):
            write(picture, path)
        assert files(tmp_path) == []
        return
    write(picture, path)
    again = read(path)
    assert again.colour.dtype == kind and (again.alpha is None) == (channels < 4)
    if suffix in ('.png', '.tif', '.bmp'):
        assert np.array_equal(again.colour, picture.colour)
        assert picture.alpha is None or np.array_equal(again.alpha, picture.alpha)
    elif suffix != '.webp' or channels > 1:  # WebP has no gray
        assert again.colour.shape == picture.colour.shape


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif'])
def test_a_picture_is_the_right_way_up(tmp_path: Path, upscale: Upscale, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, 'camera'
    path = save(tmp_path / f'a{suffix}', noise(), exif=exif)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read(path).colour, shown)
    assert upscale(path, tmp_path / 'out') == 0
    with Image.open(tmp_path / 'out' / path.name) as image:
        assert np.asarray(ImageOps.exif_transpose(image)).shape == (2 * shown.shape[0], 2 * shown.shape[1], 3)
        assert image.getexif().get(0x0112, 1) == 1
        assert suffix == '.tif' or image.getexif()[0x0110] == 'camera'


def test_sixteen_bit_colour_is_turned_too(tmp_path: Path) -> None:
    pixels, exif = noise(kind=np.uint16), Image.Exif()
    exif[0x0112] = 6
    content = cv2.imencodeWithMetadata('.png', pixels[..., ::-1], [cv2.IMAGE_METADATA_EXIF],
                                       [np.frombuffer(exif.tobytes()[6:], np.uint8)])[1]
    (tmp_path / 'a.png').write_bytes(content)
    assert np.array_equal(read(tmp_path / 'a.png').colour, np.rot90(pixels, -1))


def test_gray_alpha_and_bits_stay(tmp_path: Path, upscale: Upscale) -> None:
    inputs = {
        'gray.png': noise(channels=1), 'alpha.png': noise(channels=4), 'palette.gif': noise(),
        'gray.jpg': noise(channels=1)}
    for name, pixels in inputs.items():
        save(tmp_path / 'in' / name, pixels)
    cv2.imwrite(str(tmp_path / 'in/deep.png'), noise(kind=np.uint16))
    cv2.imwrite(str(tmp_path / 'in/deep_gray.tif'), noise(channels=1, kind=np.uint16))
    cv2.imwrite(str(tmp_path / 'in/deep_alpha.png'), noise(channels=4, kind=np.uint16))
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    results = {name: read(tmp_path / 'out' / name) for name in files(tmp_path / 'out')}
    assert {name: (str(picture.colour.dtype), picture.colour.shape[2], picture.alpha is not None)
            for name, picture in results.items()} == {
        'gray.png': ('uint8', 1, False), 'gray.jpg': ('uint8', 1, False), 'alpha.png': ('uint8', 3, True),
        'palette.png': ('uint8', 3, False), 'deep.png': ('uint16', 3, False), 'deep_gray.tif': ('uint16', 1, False),
        'deep_alpha.png': ('uint16', 3, True)}
    assert all(picture.colour.shape[:2] == (24, 34) for picture in results.values())
    assert results['alpha.png'].alpha.std() > 1


def test_opaque_alpha_stays_opaque(tmp_path: Path, upscale: Upscale) -> None:
    pixels = noise(channels=4)
    pixels[..., 3] = 255
    save(tmp_path / 'a.png', pixels)
    assert upscale(tmp_path / 'a.png', tmp_path / 'b.png') == 0
    result = read(tmp_path / 'b.png')
    assert (result.alpha == 255).all() and result.alpha.shape == (24, 34, 1)


def test_the_colour_profile_is_kept(tmp_path: Path, upscale: Upscale) -> None:
    from PIL import ImageCms
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    for name in ('a.png', 'a.jpg', 'a.webp'):
        save(tmp_path / 'in' / name, noise(), icc_profile=profile)
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    for name in ('a.png', 'a.jpg', 'a.webp'):
        with Image.open(tmp_path / 'out' / name) as image:
            assert image.info['icc_profile'] == profile


def test_the_result_is_what_the_net_makes(tmp_path: Path, upscale: Upscale, weights: Path) -> None:
    pixels = noise(33, 41)
    save(tmp_path / 'a.png', pixels)
    assert upscale(tmp_path / 'a.png', tmp_path / 'b.png', '--tile', '16') == 0
    net = IAFMNet(scale=2, num_feat=8, num_block=1).eval()
    net.load_state_dict(torch.load(weights)['params'])
    with torch.inference_mode():
        wanted = net(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0].clamp(0, 1).permute(1, 2, 0) * 255
    assert np.abs(read(tmp_path / 'b.png').colour - wanted.numpy()).max() <= 0.501


# ---------------------------------------------------------------- many pictures

def test_files_folders_and_patterns(tmp_path: Path, upscale: Upscale) -> None:
    for name in ('one.png', 'folder/two.png', 'folder/.hidden.png', 'folder/sub/three.png', 'deep/er/four.png'):
        save(tmp_path / name, noise())
    assert upscale(tmp_path / 'one.png', tmp_path / 'folder', tmp_path / 'deep/**/*.png', tmp_path / 'out') == 0
    assert files(tmp_path / 'out') == ['four.png', 'one.png', 'two.png']


def test_one_file_to_one_file_of_another_kind(tmp_path: Path, upscale: Upscale) -> None:
    save(tmp_path / 'a.png', noise())
    assert upscale(tmp_path / 'a.png', tmp_path / 'new/b.jpg') == 0
    with Image.open(tmp_path / 'new/b.jpg') as image:
        assert image.format == 'JPEG' and image.size == (34, 24)


def test_what_exists_is_not_made_again(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    for name in ('a.png', 'b.png'):
        save(tmp_path / 'in' / name, noise())
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/a.png').write_bytes(b'mine')
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    assert (tmp_path / 'out/a.png').read_bytes() == b'mine'
    assert '1 upscaled, 1 there already, 0 failed' in capsys.readouterr().out
    assert upscale(tmp_path / 'in', tmp_path / 'out', '--overwrite') == 0
    assert (tmp_path / 'out/a.png').read_bytes() == (tmp_path / 'out/b.png').read_bytes()


def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_log(tmp_path: Path, upscale: Upscale,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / 'in/a.png', noise())
    (tmp_path / 'in/b.png').touch()

    class Stream(io.StringIO):
        terminal = True

        def isatty(self) -> bool:
            return self.terminal

    monkeypatch.setattr(sys, 'stderr', terminal := Stream())
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 1
    assert re.search(r'1/2 a.png:\s+0%\|.*\|.*<', terminal.getvalue())
    monkeypatch.setattr(sys, 'stderr', log := Stream())
    log.terminal = False
    from iafmsr.inference.command import _Log
    with tqdm(total=2, file=_Log(), mininterval=0, bar_format='{percentage:.0f}% {elapsed}<{remaining}') as bar:
        bar.update(1)
        print('a line', file=sys.stderr)
        bar.update(1)
    assert [re.sub('[0-9:?]+', '#', line) for line in log.getvalue().splitlines()] == [
        '#% #<#', '#% #<#', 'a line', '#% #<#', '#% #<#']


@pytest.mark.parametrize(('names', 'out', 'said'), [
    (('one/a.gif', 'two/a.png'), 'out', 'would both become'), (('one/a.png',), 'one', 'overwritten by its own result'),
])
def test_no_result_takes_the_place_of_another_picture(tmp_path: Path, upscale: Upscale, names: tuple[str, ...],
                                                      out: str, said: str, capsys: pytest.CaptureFixture) -> None:
    paths = [save(tmp_path / name, noise()) for name in names]
    before = [path.read_bytes() for path in paths]
    with pytest.raises(SystemExit) as stop:
        upscale(*(path.parent for path in paths), tmp_path / out, '--overwrite')
    assert stop.value.code == 2 and said in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before


# ---------------------------------------------------------------- bad input

def bad_inputs(folder: Path) -> None:
    """Eight files that are no pictures, or not whole ones, and three rare but good pictures."""
    content = io.BytesIO()
    Image.fromarray(noise(40, 60)).save(content, 'PNG')
    jpeg = io.BytesIO()
    Image.fromarray(noise(40, 60)).save(jpeg, 'JPEG')
    folder.mkdir()
    (folder / 'empty.png').touch()
    (folder / 'text.png').write_text('no picture')
    (folder / 'cut.png').write_bytes(content.getvalue()[:2000])
    (folder / 'cut.jpg').write_bytes(jpeg.getvalue()[:1000])
    (folder / 'video.mp4').write_bytes(b'\0\0\0\x18ftypmp42\0\0\0\0mp42isom' + bytes(3000))
    (folder / 'page.pdf').write_bytes(b'%PDF-1.4\n' + bytes(100))
    Image.fromarray(noise()[..., 0].astype(np.float32)).save(folder / 'float.tif')
    (folder / 'net.pth').write_bytes(b'PK\x03\x04' + bytes(100))
    save(folder / 'dot.png', noise(1, 1))
    save(folder / 'line.png', noise(10, 30000))
    save(folder / 'good.png', noise())


def test_each_bad_picture_has_a_line_and_the_rest_goes_on(tmp_path: Path, upscale: Upscale,
                                                          capfd: pytest.CaptureFixture) -> None:
    bad_inputs(tmp_path / 'in')
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 8
    out, err = capfd.readouterr()
    assert '3 upscaled, 0 there already, 8 failed' in out
    lines = [line for line in err.splitlines() if line.startswith('iafmsr: error: ')]
    named = [re.fullmatch(r'iafmsr: error: \S+/in/(\S+): \S.+', line)[1] for line in lines]
    assert named == ['cut.jpg', 'cut.png', 'empty.png', 'float.tif', 'net.pth', 'page.pdf', 'text.png', 'video.mp4']
    assert 'Traceback' not in err
    assert files(tmp_path / 'out') == ['dot.png', 'good.png', 'line.png']
    assert read(tmp_path / 'out/dot.png').colour.shape == (2, 2, 3)
    assert read(tmp_path / 'out/line.png').colour.shape == (20, 60000, 3)


@pytest.mark.parametrize(('kind', 'keywords'), [
    ('PNG', {}), ('JPEG', {}), ('JPEG', {'progressive': True}), ('TIFF', {}), ('TIFF', {'compression': 'tiff_lzw'}),
    ('WEBP', {}), ('BMP', {}), ('GIF', {}), ('PPM', {}), ('.png', {}), ('.tif', {})], ids=str)
def test_a_picture_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path, kind: str, keywords: dict) -> None:
    if kind.startswith('.'):
        content = cv2.imencode(kind, noise(40, 60, kind=np.uint16))[1].tobytes()
    else:
        stream = io.BytesIO()
        Image.fromarray(noise(40, 60)).save(stream, kind, **keywords)
        content = stream.getvalue()
    path = tmp_path / 'a'
    path.write_bytes(content)
    whole = read(path).colour
    for share in (0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.99):
        path.write_bytes(content[:int(share * len(content))])
        try:
            assert np.array_equal(read(path).colour, whole)
        except UnreadableError as error:
            assert '\n' not in str(error)


def test_names_that_are_no_text_and_things_that_are_no_files(tmp_path: Path, upscale: Upscale,
                                                             capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / 'in'
    save(folder / 'a.png', noise()).rename(os.fsdecode(os.fsencode(folder) + b'/\xff.png'))
    Path(os.fsdecode(os.fsencode(folder) + b'/\xfe.png')).write_text('no picture')
    (folder / 'zero.png').symlink_to('/dev/zero')
    (folder / 'gone.png').symlink_to('nowhere')
    assert upscale(folder, tmp_path / 'out') == 3
    err = capsys.readouterr().err
    assert r'/\udcfe.png: not a picture' in err and '/zero.png: not a file' in err
    assert '/gone.png: cannot be read (No such file or directory)' in err
    assert len(files(tmp_path / 'out')) == 1


def test_a_side_longer_than_the_format_allows(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'a.webp', noise(8, 9000))
    save(tmp_path / 'b.png', noise())
    assert upscale(tmp_path / 'a.webp', tmp_path / 'b.png', tmp_path / 'out') == 1
    assert 'a.webp: .webp cannot hold 18000x16 pixels; .png can' in capsys.readouterr().err
    assert files(tmp_path / 'out') == ['b.png']


def test_what_is_not_there(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'a.png', noise())
    (tmp_path / 'nothing').mkdir()
    inputs = [tmp_path / name for name in ('b.png', '*.tif', 'nothing', 'a.png')]
    assert upscale(*inputs, tmp_path / 'o') == 3
    err = capsys.readouterr().err
    assert 'b.png: no such file' in err and '*.tif: no such file' in err and 'nothing: an empty folder' in err
    assert files(tmp_path / 'o') == ['a.png']


def test_a_folder_that_cannot_be_listed(tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture) -> None:
    """As the next test, for those who run tests as root, to whom no folder is closed."""
    save(tmp_path / 'closed/a.png', noise())
    save(tmp_path / 'b.png', noise())
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == 'closed':
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(Path, 'iterdir', iterdir)
    assert upscale(tmp_path / 'closed', tmp_path / 'b.png', tmp_path / 'out') == 1
    assert 'closed: cannot be read (Permission denied)' in capsys.readouterr().err
    assert [path.name for path in listed(tmp_path / 'out')] == ['b.png']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may do everything')
def test_folders_without_rights(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'closed/a.png', noise())
    save(tmp_path / 'b.png', noise())
    (tmp_path / 'closed').chmod(0o000)
    (tmp_path / 'fixed').mkdir(0o555)
    try:
        assert upscale(tmp_path / 'closed', tmp_path / 'b.png', tmp_path / 'out') == 1
        assert 'closed: cannot be read (Permission denied)' in capsys.readouterr().err
        with pytest.raises(SystemExit) as stop:
            upscale(tmp_path / 'b.png', tmp_path / 'fixed')
        assert stop.value.code == 2 and 'cannot be written (Permission denied)' in capsys.readouterr().err
    finally:
        (tmp_path / 'closed').chmod(0o700)
    assert files(tmp_path / 'fixed') == []


def test_an_out_that_cannot_be_a_folder(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'in/a.png', noise())
    (tmp_path / 'out').write_text('a file')
    with pytest.raises(SystemExit) as stop:
        upscale(tmp_path / 'in', tmp_path / 'out')
    assert stop.value.code == 2
    assert re.fullmatch(r'iafmsr: error: \S+/out/a.png: cannot be written \(.+\)\n', capsys.readouterr().err)
    assert (tmp_path / 'out').read_text() == 'a file'


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file may grow beyond a size: the system refuses to write on, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, upscale: Upscale,
                                                 capfd: pytest.CaptureFixture) -> None:
    save(tmp_path / 'in/large.png', noise(60, 80))
    save(tmp_path / 'in/small.png', noise(4, 4))
    save(tmp_path / 'old.png', noise(60, 80))
    with disk_with_room_for(3000):
        assert upscale(tmp_path / 'in', tmp_path / 'out') == 1
        (tmp_path / 'out/old.png').write_bytes(b'older')
        assert upscale(tmp_path / 'old.png', tmp_path / 'out', '--overwrite') == 1
    err = capfd.readouterr().err
    assert re.search(rf'out/large.png: cannot be written \({os.strerror(errno.EFBIG)}\)\n', err)
    assert files(tmp_path / 'out') == ['old.png', 'small.png']
    assert (tmp_path / 'out/old.png').read_bytes() == b'older'


def test_more_failures_than_an_exit_code_holds(tmp_path: Path, upscale: Upscale) -> None:
    (tmp_path / 'in').mkdir()
    for number in range(130):
        (tmp_path / f'in/{number}.png').touch()
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 100


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--tile', '-1'], '--tile -1: at least 8'), (['--tile', '7'], '--tile 7: at least 8'),
    (['--weights', 'missing.pth'], '--weights missing.pth: no such file'),
])
def test_wrong_options(tmp_path: Path, upscale: Upscale, arguments: list[str], said: str,
                       capsys: pytest.CaptureFixture, weights: Path) -> None:
    save(tmp_path / 'a.png', noise())
    with pytest.raises(SystemExit) as stop:
        main(['upscale', str(tmp_path / 'a.png'), str(tmp_path / 'o'), '--weights', str(weights), *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f'iafmsr: error: {said}') and err.count('\n') == 1
    assert files(tmp_path / 'o') == []


@pytest.mark.parametrize('has', [False, True])
def test_a_precision_that_the_cpu_has_not_is_replaced_and_said(tmp_path: Path, upscale: Upscale, has: bool,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr('iafmsr.inference.command._has', lambda precision: has)
    save(tmp_path / 'a.png', noise(40, 60))
    assert upscale(tmp_path / 'a.png', tmp_path / 'fp32.png', '--precision', 'fp32') == 0
    assert upscale(tmp_path / 'a.png', tmp_path / 'bf16.png', '--precision', 'bf16') == 0
    same = (tmp_path / 'fp32.png').read_bytes() == (tmp_path / 'bf16.png').read_bytes()
    assert same != has and ('--precision bf16: this CPU has no arithmetic for it' in capsys.readouterr().err) != has


# ---------------------------------------------------------------- memory

class Limited(Enlarger):
    """Pretends that tiles above a size do not fit into memory."""

    def __init__(self, trained: TrainedNet, largest: int, error: Exception) -> None:
        super().__init__(trained, torch.device('cpu'))
        self.largest, self.error = largest, error

    def _run(self, function, lq, **maps):
        if function is self.trained.net and max(lq.shape) > self.largest:
            raise self.error
        return super()._run(function, lq, **maps)


@pytest.mark.parametrize('error', [
    MemoryError(), torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ...")])
def test_out_of_memory_means_smaller_tiles(weights: Path, error: Exception) -> None:
    trained, said, shares = load_net(weights), [], []
    pixels = noise(100, 150)
    upscaler = Upscaler(Limited(trained, 100, error), 0, False, said.append)
    result = upscaler(Picture(pixels), shares.append).colour
    different = np.abs(result.astype(int) - Enlarger(trained, torch.device('cpu'))(pixels, 0))
    assert different.max() <= 1 and (different > 0).mean() < 1e-4
    assert said == ['out of memory: goes on in tiles of 72 pixels', 'out of memory: goes on in tiles of 32 pixels']
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(UserError, match='out of memory, even in small tiles'):
        Upscaler(Limited(trained, 8, error), 0, False, said.append)(Picture(pixels))


def test_another_error_is_not_taken_for_want_of_memory(weights: Path) -> None:
    with pytest.raises(RuntimeError, match='shapes'):
        Upscaler(Limited(load_net(weights), 8, RuntimeError('shapes')), 0, False, print)(Picture(noise()))


# ---------------------------------------------------------------- nets

def test_a_net_that_tiles_do_not_suit_says_so_of_a_picture_larger_than_one(tmp_path: Path,
                                                                           capsys: pytest.CaptureFixture) -> None:
    torch.save({'params': SAFMN(scale=2, dim=8, n_blocks=1).state_dict()}, tmp_path / 'safmn.pth')
    save(tmp_path / 'a.png', noise())
    for tile, said in (('16', True), ('17', False)):  # the picture is 17 wide
        main(['upscale', str(tmp_path / 'a.png'), str(tmp_path / 'o'), '--weights', str(tmp_path / 'safmn.pth'),
              '--tile', tile, '--overwrite'])
        assert ('SAFMN may look at the whole picture' in capsys.readouterr().err) == said


def test_a_gray_net_takes_gray_pictures_and_colours_one_by_one(tmp_path: Path) -> None:
    network = {'scale': 2, 'num_feat': 8, 'num_block': 1, 'num_in_ch': 1, 'num_out_ch': 1}
    torch.manual_seed(0)
    net = IAFMNet(**network).eval()
    torch.save({'params': net.state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, tmp_path / 'gray.pth')
    for channels in (1, 3):
        pixels = noise(33, 41, channels)
        save(tmp_path / 'a.png', pixels)
        main(['upscale', str(tmp_path / 'a.png'), str(tmp_path / f'{channels}.png'), '--weights',
              str(tmp_path / 'gray.pth'), '--tile', '16'])
        with torch.inference_mode():
            wanted = net(torch.from_numpy(pixels).permute(2, 0, 1)[:, None] / 255)[:, 0].clamp(0, 1) * 255
        found = read(tmp_path / f'{channels}.png').colour
        assert np.abs(found - wanted.permute(1, 2, 0).numpy()).max() <= 0.501


# ---------------------------------------------------------------- start-up

def test_upscaling_starts_without_basicsr_and_help_without_torch() -> None:
    code = ('import sys\nfrom iafmsr.cli import main\n'
            'try:\n    main(["upscale", "--help"])\nexcept SystemExit:\n    pass\n'
            'assert "torch" not in sys.modules\n'
            'import iafmsr.inference.upscale, iafmsr.archs.iafmnet_arch\n'
            'assert not {"basicsr", "torchvision", "scipy", "skimage", "matplotlib"} & set(sys.modules)\n')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '--weights FILE' in done.stdout


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, '-m', 'iafmsr', 'upscale', 'a.png', 'o', '--weights', 'no.pth'],
                          capture_output=True, text=True, cwd=ROOT)
    names = ', '.join(sorted(path.stem for path in named_files.FOLDER.glob('*.pth')))
    others = f', and none of the names {names}' if names else ''
    assert (done.returncode, done.stderr) == (2, f'iafmsr: error: --weights no.pth: no such file{others}\n')


def test_unreadable_is_said_of_a_file_that_vanished(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match='cannot be read'):
        read(tmp_path / 'gone.png')
