"""``iafmsr upscale``: any picture, many pictures, bad pictures."""

from __future__ import annotations

import errno
import io
import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

import iafmsr
from iafmsr.archs import SAFMN, IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.picture import Picture, UnreadableError
from iafmsr.files.reading import read
from iafmsr.files.writing import write
from iafmsr.nets import files as named_files
from iafmsr.nets import loading
from iafmsr.nets.loading import load_net
from iafmsr.nets.tiles import Enlarger
from iafmsr.nets.trained import TrainedNet
from iafmsr.ops.resize import imresize
from iafmsr.tools.inference.upscale import Upscaler

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
    """Runs the command on paths below tmp_path: pictures, OUT, options."""

    def run(*arguments: str | Path) -> int:
        words = list(map(str, arguments))
        last = next((i for i, word in enumerate(words) if word.startswith('--')), len(words)) - 1
        words[last : last + 1] = ['--output', words[last]]
        return main(['upscale', *words, '--weights', str(weights), '--device', 'cpu'])

    return run


@pytest.fixture(scope='module')
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net whose second block is routed; half of the positions of noise reach the threshold of half of the budget."""
    torch.manual_seed(0)
    path, network = tmp_path_factory.mktemp('weights') / 'routed.pth', {'num_feat': 8, 'num_block': 2, 'num_routed': 1}
    net = IAFMNet(**network)
    lq = torch.from_numpy(noise(40, 60)).permute(2, 0, 1)[None] / 255
    idm = net.local_map(lq).detach()
    net.router.thresholds.copy_(torch.quantile(idm.flatten(), 1 - torch.arange(1, 21) / 20))
    torch.save({'params': net.state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, path)
    return path


def test_a_budget_is_the_work_of_the_routed_blocks(routed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lq = save(tmp_path / 'in.png', noise(40, 60))

    def result(name: str, *options: str) -> np.ndarray:
        words = ['upscale', str(lq), '--output', str(tmp_path / name), '--weights', str(routed), '--device', 'cpu']
        assert main([*words, *options]) == 0
        return cv2.imread(str(tmp_path / name))

    whole, half = result('whole.png'), result('half.png', '--budget', '0.5')
    assert np.array_equal(whole, result('one.png', '--budget', '1'))
    assert np.array_equal(half, result('tiles.png', '--budget', '0.5', '--tile', '16'))
    net = load_net(routed).net
    net.budget = 0.5
    with torch.no_grad():
        expected = net(torch.from_numpy(noise(40, 60)).permute(2, 0, 1)[None] / 255)[0]
    assert np.abs(half[..., ::-1] - (expected.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()).max() <= 1
    assert not np.array_equal(half, whole)


@pytest.mark.parametrize('value', ['0', '1.1', 'half', '-0.3'])
def test_a_budget_out_of_range_is_one_line(value: str, weights: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(['upscale', 'a.png', '--output', str(tmp_path), '--weights', str(weights), f'--budget={value}'])
    assert stopped.value.code == 2 and f'{value}: must be above 0 and at most 1' in capsys.readouterr().err


def test_a_budget_of_a_net_that_has_none_is_refused(upscale: Upscale, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        upscale(save(tmp_path / 'a.png', noise()), tmp_path / 'b.png', '--budget', '0.5')
    assert 'no routed blocks' in capsys.readouterr().err


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
        with pytest.raises(UserError, match='cannot hold'):
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
        assert image.getexif()[0x0110] == 'camera'


@pytest.mark.skipif(not hasattr(cv2, 'imencodeWithMetadata'), reason='OpenCV 4 writes no EXIF')
def test_sixteen_bit_colour_is_turned_too(tmp_path: Path) -> None:
    pixels, exif = noise(kind=np.uint16), Image.Exif()
    exif[0x0112] = 6
    content = cv2.imencodeWithMetadata(
        '.png', pixels[..., ::-1], [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif.tobytes()[6:], np.uint8)]
    )[1]
    (tmp_path / 'a.png').write_bytes(content)
    assert np.array_equal(read(tmp_path / 'a.png').colour, np.rot90(pixels, -1))


def test_gray_alpha_and_bits_stay(tmp_path: Path, upscale: Upscale) -> None:
    inputs = {
        'gray.png': noise(channels=1),
        'alpha.png': noise(channels=4),
        'palette.gif': noise(),
        'gray.jpg': noise(channels=1),
    }
    for name, pixels in inputs.items():
        save(tmp_path / 'in' / name, pixels)
    cv2.imwrite(str(tmp_path / 'in/deep.png'), noise(kind=np.uint16))
    cv2.imwrite(str(tmp_path / 'in/deep_gray.tif'), noise(channels=1, kind=np.uint16))
    cv2.imwrite(str(tmp_path / 'in/deep_alpha.png'), noise(channels=4, kind=np.uint16))
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    results = {name: read(tmp_path / 'out' / name) for name in files(tmp_path / 'out')}
    assert {
        name: (str(picture.colour.dtype), picture.colour.shape[2], picture.alpha is not None)
        for name, picture in results.items()
    } == {
        'gray.png': ('uint8', 1, False),
        'gray.jpg': ('uint8', 1, False),
        'alpha.png': ('uint8', 3, True),
        'palette.png': ('uint8', 3, False),
        'deep.png': ('uint16', 3, False),
        'deep_gray.tif': ('uint16', 1, False),
        'deep_alpha.png': ('uint16', 3, True),
    }
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
    names = ('a.png', 'a.jpg', 'a.webp', 'a.tif')
    for name in names:
        save(tmp_path / 'in' / name, noise(), icc_profile=profile, dpi=(300, 300))
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    for name in names:
        with Image.open(tmp_path / 'out' / name) as image:
            assert image.info['icc_profile'] == profile
            assert name == 'a.webp' or image.info['dpi'] == pytest.approx((300, 300), rel=1e-4)


def test_alpha_is_bicubic_and_hidden_colours_do_not_bleed(tmp_path: Path, upscale: Upscale) -> None:
    """A disc on a transparent ground: whatever lies under alpha 0, the result is the same and has no holes."""
    rows, columns = np.mgrid[:48, :48]
    disc = (rows - 24) ** 2 + (columns - 24) ** 2 < 300
    for name, hidden in (('black', 0), ('white', 255)):
        pixels = np.full((48, 48, 4), 128, np.uint8)
        pixels[~disc] = (hidden, hidden, hidden, 0)
        pixels[disc, 3] = 255
        save(tmp_path / f'in/{name}.png', pixels)
    save(tmp_path / 'in/gray.png', noise(24, 24, 1))
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    black, white = (read(tmp_path / f'out/{name}.png') for name in ('black', 'white'))
    assert np.array_equal(black.colour, white.colour)
    plane = imresize(torch.from_numpy(255 * disc.astype(np.float32)), 2).clamp(0, 255).round()
    assert np.array_equal(black.alpha[..., 0], plane.numpy())
    inner = (rows - 24) ** 2 + (columns - 24) ** 2 < 200
    assert (black.alpha[..., 0][inner.repeat(2, 0).repeat(2, 1)] == 255).all()


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


def test_any_scale_is_the_nets_result_resized(tmp_path: Path, upscale: Upscale, weights: Path, capsys) -> None:
    write(Picture(noise()), tmp_path / 'a.png')
    upscale(tmp_path / 'a.png', tmp_path / 'net.png')
    upscale(tmp_path / 'a.png', tmp_path / 'sr.png', '--outscale', '1.5')
    net, sr = (np.asarray(Image.open(tmp_path / name)) for name in ('net.png', 'sr.png'))
    factor = Fraction(3, 2) / Fraction(net.shape[0], noise().shape[0])
    expected = imresize(torch.from_numpy(net).permute(2, 0, 1).float(), factor).clamp(0, 255).round()
    assert sr.shape[0] == math.ceil(1.5 * noise().shape[0])
    assert np.abs(sr - expected.permute(1, 2, 0).numpy()).max() == 0
    assert np.array_equal(iafmsr.upscale(noise(), weights, outscale=1.5), sr)
    for scale in ('0', 'x', '1.234', '17'):
        with pytest.raises(SystemExit):
            main(['upscale', 'a.png', '--output', 'b.png', '--outscale', scale])
        assert f'--outscale {scale}: must be a scale in (0, 16]' in capsys.readouterr().err


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
    assert '1 upscaled, 1 skipped (the results exist), 0 failed' in capsys.readouterr().out
    assert upscale(tmp_path / 'in', tmp_path / 'out', '--overwrite') == 0
    assert (tmp_path / 'out/a.png').read_bytes() == (tmp_path / 'out/b.png').read_bytes()


def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_log(
    tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    from iafmsr.tools.inference.command import _Log

    with tqdm(total=2, file=_Log(), mininterval=0, bar_format='{percentage:.0f}% {elapsed}<{remaining}') as bar:
        bar.update(1)
        print('a line', file=sys.stderr)
        bar.update(1)
    assert [re.sub('[0-9:?]+', '#', line) for line in log.getvalue().splitlines()] == [
        '#% #<#',
        '#% #<#',
        'a line',
        '#% #<#',
        '#% #<#',
    ]


@pytest.mark.parametrize(
    ('names', 'out', 'said'),
    [
        (('one/a.png',), 'one', 'one/a.png would be overwritten by its own result'),
        (('one/a.gif', 'two/a.png'), 'two', 'two/a.png would be overwritten by'),
    ],
)
def test_no_result_takes_the_place_of_a_picture(
    tmp_path: Path, upscale: Upscale, names: tuple[str, ...], out: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    paths = [save(tmp_path / name, noise()) for name in names]
    before = [path.read_bytes() for path in paths]
    with pytest.raises(SystemExit) as stop:
        upscale(*(path.parent for path in paths), tmp_path / out, '--overwrite')
    assert stop.value.code == 2 and said in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before


def test_two_pictures_of_one_stem_have_two_results(tmp_path: Path, upscale: Upscale) -> None:
    for name in ('a.gif', 'a.png', 'a.jpg', 'b.gif'):
        save(tmp_path / 'in' / name, noise())
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    assert files(tmp_path / 'out') == ['a.gif.png', 'a.jpg', 'a.png', 'b.png']
    assert upscale(tmp_path / 'in', tmp_path / 'webp', '--format', 'webp') == 0
    assert files(tmp_path / 'webp') == ['a.jpg.webp', 'a.png.webp', 'a.webp', 'b.webp']


def test_only_the_pair_of_one_name_is_refused(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    for name in ('one/a.png', 'two/a.png', 'two/b.png'):
        save(tmp_path / name, noise())
    assert upscale(tmp_path / 'one', tmp_path / 'two', tmp_path / 'out') == 2
    captured = capsys.readouterr()
    assert (
        files(tmp_path / 'out') == ['b.png'] and '1 upscaled, 0 skipped (the results exist), 2 failed' in captured.out
    )
    assert [line.split(':')[2].rpartition('/')[0][-3:] for line in captured.err.splitlines()] == ['one', 'two']
    assert captured.err.count('would both become') == 2


def test_what_is_no_picture_is_passed_over_in_one_line(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture
) -> None:
    save(tmp_path / 'in/img01.png', noise())
    save(tmp_path / 'in/img02.jpg', noise())
    save(tmp_path / 'in/sub/img03.png', noise())
    for name in ('img01.txt', 'img02.xmp', 'img02.NEF', 'notes.txt', 'README'):
        (tmp_path / 'in' / name).write_text('no picture')
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 0
    assert files(tmp_path / 'out') == ['img01.png', 'img02.jpg']
    assert capsys.readouterr().err.splitlines() == [
        'iafmsr: skipped files that are not named as pictures: .nef 1, .txt 2, .xmp 1, no suffix 1',
        'iafmsr: skipped 1 sub-folder (use --recursive to include them)',
    ]


def test_a_tree_is_mirrored_and_its_results_are_no_inputs(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture
) -> None:
    names = ['a.png', 'x/a.png', 'x/y/b.jpg', '.hidden/c.png']
    for name in names:
        save(tmp_path / 'in' / name, noise())
    for there in (0, 3):
        assert upscale(tmp_path / 'in', tmp_path / 'in/out', '--recursive') == 0
        assert f'{3 - there} upscaled, {there} skipped (the results exist), 0 failed' in capsys.readouterr().out
    out = tmp_path / 'in/out'
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()) == names[:3]


def test_names_that_look_like_patterns(tmp_path: Path, upscale: Upscale) -> None:
    save(tmp_path / 'a[1].png', noise())
    save(tmp_path / 'in [2024]/b.png', noise())
    assert upscale(tmp_path / 'a[1].png', tmp_path / 'in [2024]/*.png', tmp_path / 'in [2024]', tmp_path / 'out') == 0
    assert files(tmp_path / 'out') == ['a[1].png', 'b.png']


def test_names_that_are_too_long(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'a.png', noise())
    assert upscale(tmp_path / ('b' * 300), tmp_path / 'a.png', tmp_path / 'out') == 1
    assert re.fullmatch(r'iafmsr: error: \S+/b{300}: \S.*\n', capsys.readouterr().err)
    for arguments in ([tmp_path / 'a.png', tmp_path / ('c' * 300)], [tmp_path, tmp_path / ('c' * 300)]):
        with pytest.raises(SystemExit) as stop:
            upscale(*arguments)
        assert stop.value.code == 2
        assert re.fullmatch(
            r'iafmsr: error: \S+: cannot be written \(File name too long\)', capsys.readouterr().err.splitlines()[-1]
        )


@pytest.mark.parametrize(
    ('out', 'said'),
    [
        (
            'results_v1.2',
            r'results_v1.2: .2 files cannot be written, only .*; end the name of a new folder with /',
        ),
        ('a.gif', r'a.gif: .gif files cannot be written'),
        ('a.jpgg', r'a.jpgg: .jpgg files cannot be written'),
    ],
)
def test_a_file_of_an_unknown_kind_is_refused_before_the_net_is_read(
    tmp_path: Path,
    upscale: Upscale,
    out: str,
    said: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path / 'a.png', noise())
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(loading, 'load_net', lambda *_: pytest.fail('read'))
        upscale(tmp_path / 'a.png', tmp_path / out)
    assert stop.value.code == 2 and re.search(said, capsys.readouterr().err)
    assert files(tmp_path) == ['a.png']
    if out == 'results_v1.2':
        assert upscale(tmp_path / 'a.png', f'{tmp_path / out}/') == 0
        assert files(tmp_path / out) == ['a.png']


@pytest.mark.parametrize(
    ('pixels', 'target', 'said'),
    [
        (noise(2, 8192), 'b.webp', 'cannot hold 16384x4 pixels; .png can'),
        (noise(2, 32751), 'b.jpg', 'cannot hold 65502x4 pixels; .png can'),
        (noise(channels=4), 'b.jpg', 'cannot hold transparency; use one of .png .tif .tiff .webp'),
        (noise(channels=4), 'b.bmp', 'cannot hold transparency'),
        (
            noise(channels=1, kind=np.uint16),
            'b.jpg',
            'cannot hold 16 bits, which the picture has; use one of .png .tif',
        ),
    ],
    ids=range(5),
)
def test_a_kind_that_cannot_hold_the_result_is_known_before_the_net_works(
    tmp_path: Path,
    upscale: Upscale,
    said: str,
    pixels: np.ndarray,
    target: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path / 'a.png', pixels)
    monkeypatch.setattr(Enlarger, '__call__', lambda *_: pytest.fail('worked in vain'))
    assert upscale(tmp_path / 'a.png', tmp_path / target) == 1
    assert f'{target}: {Path(target).suffix} {said}' in capsys.readouterr().err
    assert files(tmp_path) == ['a.png']


def test_kind_and_quality_of_results_can_be_chosen(tmp_path: Path, upscale: Upscale) -> None:
    save(tmp_path / 'in/a.png', noise(60, 80))
    sizes = {}
    for quality in ('30', '95'):
        assert upscale(tmp_path / 'in', tmp_path / quality, '--format', 'jpg', '--quality', quality) == 0
        sizes[quality] = (tmp_path / quality / 'a.jpg').stat().st_size
    assert sizes['30'] < 0.7 * sizes['95']


# ---------------------------------------------------------------- bad input


def bad_inputs(folder: Path) -> None:
    """Seven files that are no pictures, or not whole ones, though their names say so; three that are not named as
    pictures; three rare but good pictures."""
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
    (folder / 'page.jpg').write_bytes(b'%PDF-1.4\n' + bytes(100))
    (folder / 'raw.tif').write_bytes(b'II*\0' + bytes(100))
    save(folder / 'dot.png', noise(1, 1))
    save(folder / 'line.png', noise(10, 30000))
    save(folder / 'good.png', noise())


def test_each_bad_picture_has_a_line_and_the_rest_goes_on(
    tmp_path: Path, upscale: Upscale, capfd: pytest.CaptureFixture
) -> None:
    bad_inputs(tmp_path / 'in')
    assert upscale(tmp_path / 'in', tmp_path / 'out') == 7
    out, err = capfd.readouterr()
    assert '3 upscaled, 0 skipped (the results exist), 7 failed' in out
    lines = [line for line in err.splitlines() if line.startswith('iafmsr: error: ')]
    named = [re.fullmatch(r'iafmsr: error: \S+/in/(\S+): \S.+', line)[1] for line in lines]
    assert named == ['cut.jpg', 'cut.png', 'empty.png', 'float.tif', 'page.jpg', 'raw.tif', 'text.png']
    assert 'Traceback' not in err
    assert files(tmp_path / 'out') == ['dot.png', 'good.png', 'line.png']
    assert read(tmp_path / 'out/dot.png').colour.shape == (2, 2, 3)
    assert read(tmp_path / 'out/line.png').colour.shape == (20, 60000, 3)


@pytest.mark.parametrize(
    ('kind', 'keywords'),
    [
        ('PNG', {}),
        ('JPEG', {}),
        ('JPEG', {'progressive': True}),
        ('TIFF', {}),
        ('TIFF', {'compression': 'tiff_lzw'}),
        ('WEBP', {}),
        ('BMP', {}),
        ('GIF', {}),
        ('PPM', {}),
        ('.png', {}),
        ('.tif', {}),
    ],
    ids=str,
)
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
        path.write_bytes(content[: int(share * len(content))])
        try:
            assert np.array_equal(read(path).colour, whole)
        except UnreadableError as error:
            assert '\n' not in str(error)


def test_names_that_are_no_text_and_things_that_are_no_files(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'in'
    save(folder / 'a.png', noise()).rename(os.fsdecode(os.fsencode(folder) + b'/\xff.png'))
    Path(os.fsdecode(os.fsencode(folder) + b'/\xfe.png')).write_text('no picture')
    (folder / 'zero.png').symlink_to('/dev/zero')
    (folder / 'gone.png').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe.png')
    assert upscale(folder, tmp_path / 'out') == 4
    err = capsys.readouterr().err
    assert r'/\udcfe.png: not a picture' in err and '/zero.png: not a file' in err and '/pipe.png: not a file' in err
    assert '/gone.png: cannot be read (No such file or directory)' in err
    assert len(files(tmp_path / 'out')) == 1


def test_a_picture_of_more_pixels_than_pillow_lets_pass(
    tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    save(tmp_path / 'a.png', noise())
    assert upscale(tmp_path / 'a.png', tmp_path / 'out') == 0


def test_a_full_stdout_is_a_line(tmp_path: Path, weights: Path) -> None:
    save(tmp_path / 'a.png', noise())
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            [
                sys.executable,
                *f'-m iafmsr upscale {tmp_path}/a.png --output {tmp_path}/out --weights {weights}'.split(),
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (
        2,
        'iafmsr: error: the output cannot be written (No space left on device)\n',
    )
    assert files(tmp_path / 'out') == ['a.png']


def test_what_is_not_there(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / 'a.png', noise())
    (tmp_path / 'nothing').mkdir()
    inputs = [tmp_path / name for name in ('b.png', '*.tif', 'nothing', 'a.png')]
    assert upscale(*inputs, tmp_path / 'o') == 3
    err = capsys.readouterr().err
    assert 'b.png: no such file' in err and '*.tif: no such file' in err and 'nothing: no picture in this folder' in err
    assert files(tmp_path / 'o') == ['a.png']


def test_a_folder_that_cannot_be_listed(
    tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As the next test, for those who run tests as root, to whom no folder is closed."""
    save(tmp_path / 'closed/a.png', noise())
    save(tmp_path / 'b.png', noise())
    listed = os.scandir

    def scandir(path: str | Path) -> Iterator[os.DirEntry]:
        if Path(path).name == 'closed':
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    assert upscale(tmp_path / 'closed', tmp_path / 'b.png', tmp_path / 'out') == 1
    assert 'closed: cannot be read (Permission denied)' in capsys.readouterr().err
    assert files(tmp_path / 'out') == ['b.png']


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


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, upscale: Upscale, capfd: pytest.CaptureFixture
) -> None:
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


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--tile', '-1'], '--tile -1: must be at least 8'),
        (['--tile', '7'], '--tile 7: must be at least 8'),
        (['--quality', '0'], '--quality 0: must be a whole number from 1 to 100'),
        (['--weights', 'missing.pth'], '--weights missing.pth: no such file'),
    ],
)
def test_wrong_options(
    tmp_path: Path, upscale: Upscale, arguments: list[str], said: str, capsys: pytest.CaptureFixture, weights: Path
) -> None:
    save(tmp_path / 'a.png', noise())
    with pytest.raises(SystemExit) as stop:
        main(
            ['upscale', str(tmp_path / 'a.png'), '--output', str(tmp_path / 'o'), '--weights', str(weights), *arguments]
        )
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f'iafmsr: error: {said}') and err.count('\n') == 1
    assert files(tmp_path / 'o') == []


def test_a_precision_that_the_cpu_has_not_is_refused(
    tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    save(tmp_path / 'a.png', noise(40, 60))
    assert upscale(tmp_path / 'a.png', tmp_path / 'fp32.png', '--precision', 'fp32') == 0
    for has in (False, True):
        monkeypatch.setattr('iafmsr.nets.in_engine.has', lambda precision, device, has=has: has)
        with nullcontext() if has else pytest.raises(SystemExit, match='2'):
            upscale(tmp_path / 'a.png', tmp_path / 'bf16.png', '--precision', 'bf16')
        assert ('precision bf16: this cpu does not support it' in capsys.readouterr().err) != has
    assert (tmp_path / 'fp32.png').read_bytes() != (tmp_path / 'bf16.png').read_bytes()


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


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_out_of_memory_means_smaller_tiles(weights: Path, error: Exception) -> None:
    trained, said, shares = load_net(weights), [], []
    pixels = noise(100, 150)
    upscaler = Upscaler(Limited(trained, 100, error), 0, False, said.append)
    result = upscaler(Picture(pixels), shares.append).colour
    different = np.abs(result.astype(int) - Enlarger(trained, torch.device('cpu'))(pixels, 0))
    assert different.max() <= 1 and (different > 0).mean() < 1e-4
    assert said == [
        'out of memory: continuing with tiles of 72 pixels',
        'out of memory: continuing with tiles of 32 pixels',
    ]
    assert sum(shares) == pytest.approx(1)
    assert upscaler.tile == 32  # what follows is spared the attempts
    hopeless = Upscaler(Limited(trained, 8, error), 0, False, said.append)
    with pytest.raises(UserError, match='out of memory, even in small tiles'):
        hopeless(Picture(pixels))
    assert hopeless.tile == 0  # but not for what failed all the same


def test_a_result_that_does_not_fit_is_named_with_its_size(weights: Path) -> None:
    said: list[str] = []
    upscaler = Upscaler(Enlarger(load_net(weights), torch.device('cpu')), 64, False, said.append)
    vast = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2**23, 2**23, 3))
    with pytest.raises(UserError, match=r'^out of memory: a result of 16777216x16777216 pixels takes 844424.9 GB$'):
        upscaler._in_memory(vast, said.append)
    assert (upscaler.tile, said) == (64, [])


def test_another_error_is_not_taken_for_want_of_memory(weights: Path) -> None:
    with pytest.raises(RuntimeError, match='shapes'):
        Upscaler(Limited(load_net(weights), 8, RuntimeError('shapes')), 0, False, print)(Picture(noise()))


# ---------------------------------------------------------------- nets


def test_a_net_that_tiles_do_not_suit_says_so_of_a_picture_larger_than_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({'params': SAFMN(scale=2, dim=8, n_blocks=1).state_dict()}, tmp_path / 'safmn.pth')
    save(tmp_path / 'a.png', noise())
    for tile, said in (('16', True), ('17', False)):  # the picture is 17 wide
        options = f'--weights {tmp_path}/safmn.pth --tile {tile} --overwrite'
        main(f'upscale {tmp_path}/a.png --output {tmp_path}/o {options}'.split())
        assert ('SAFMN may use the whole picture' in capsys.readouterr().err) == said


def test_a_gray_net_takes_gray_pictures_and_colours_one_by_one(tmp_path: Path) -> None:
    network = {'scale': 2, 'num_feat': 8, 'num_block': 1, 'num_in_ch': 1, 'num_out_ch': 1}
    torch.manual_seed(0)
    net = IAFMNet(**network).eval()
    torch.save({'params': net.state_dict(), 'network_g': {'type': 'IAFMNet', **network}}, tmp_path / 'gray.pth')
    for channels in (1, 3):
        pixels = noise(33, 41, channels)
        save(tmp_path / 'a.png', pixels)
        options = f'--output {tmp_path}/{channels}.png --weights {tmp_path}/gray.pth --tile 16'
        main(f'upscale {tmp_path}/a.png {options}'.split())
        with torch.inference_mode():
            wanted = net(torch.from_numpy(pixels).permute(2, 0, 1)[:, None] / 255)[:, 0].clamp(0, 1) * 255
        found = read(tmp_path / f'{channels}.png').colour
        assert np.abs(found - wanted.permute(1, 2, 0).numpy()).max() <= 0.501


# ---------------------------------------------------------------- start-up


def test_upscaling_starts_without_basicsr_and_help_without_torch() -> None:
    code = (
        'import sys\nfrom iafmsr.cli import main\n'
        'try:\n    main(["upscale", "--help"])\nexcept SystemExit:\n    pass\n'
        'assert "torch" not in sys.modules\n'
        'import iafmsr.tools.inference.upscale, iafmsr.archs.iafmnet_arch\n'
        'assert not {"basicsr", "torchvision", "scipy", "skimage", "matplotlib"} & set(sys.modules)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '--weights FILE' in done.stdout


def test_a_picture_that_is_not_there_is_one_line_at_once(tmp_path: Path) -> None:
    """Before PyTorch is imported, which takes seconds, and before the network is read."""
    (tmp_path / 'net.pth').touch()
    code = (
        'import sys\nfrom iafmsr.cli import main\n'
        'code = main("upscale photo.jpg --output photo_x4.png --weights net.pth".split())\n'
        'assert "torch" not in sys.modules\nsys.exit(code)'
    )
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == 'iafmsr: error: photo.jpg: no such file\n'


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'iafmsr', 'upscale', 'a.png', '--output', 'o', '--weights', 'no.pth'],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    names = ', '.join(sorted(path.stem for path in named_files.FOLDER.glob('*.pth')))
    others = f', and none of the names {names}' if names else ''
    assert (done.returncode, done.stderr) == (2, f'iafmsr: error: --weights no.pth: no such file{others}\n')


def test_unreadable_is_said_of_a_file_that_vanished(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match='cannot be read'):
        read(tmp_path / 'gone.png')
