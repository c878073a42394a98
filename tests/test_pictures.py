"""Picture files: what is read is what was kept, whatever the file's form; what is written is whole."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from iafmsr.errors import UserError
from iafmsr.files.names import list_pictures
from iafmsr.files.picture import Picture, UnreadableError, as_rgb8, fill_hidden
from iafmsr.files.reading import picture_size, read, read_picture, read_rgb8
from iafmsr.files.whole import check_writable, replace_file, write_whole
from iafmsr.files.writing import write


def noise(channels: int = 3, kind: type = np.uint8, height: int = 12, width: int = 17) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (height, width, channels), endpoint=True)
    return values.astype(kind)


def tiff(pixels: np.ndarray, **keywords) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **keywords)
    return buffer.getvalue()


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('compression', [None, 'zlib'])
@pytest.mark.parametrize('form', ['contig', 'separate', 'tiled', 'big', 'motorola'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_a_tiff_is_read_in_every_layout(kind: type, compression: str | None, form: str, channels: int) -> None:
    pixels = noise(channels, kind)
    separate = form == 'separate' and channels > 1
    content = tiff(
        pixels.transpose(2, 0, 1) if separate else pixels if channels > 1 else pixels[..., 0],
        photometric='rgb' if channels > 2 else 'minisblack',
        compression=compression,
        planarconfig=None if channels == 1 else 'separate' if separate else 'contig',
        extrasamples=None if channels % 2 else ['unassalpha'],
        tile=(16, 16) if form == 'tiled' else None,
        bigtiff=form == 'big',
        byteorder='>' if form == 'motorola' else '<',
    )
    found = read(content)
    count = channels - (channels + 1) % 2
    assert found.colour.dtype == kind and np.array_equal(found.colour, pixels[..., :count])
    assert (found.alpha is None) == (channels % 2 == 1)
    assert found.alpha is None or np.array_equal(found.alpha, pixels[..., count:])


@pytest.mark.skipif(os.environ.get('IAFMSR_FULL') != '1', reason='long form: scripts/test.sh --full')
@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16'])
def test_a_tiff_of_every_tag_is_read_as_it_is_shown(tmp_path: Path, mode: str) -> None:
    """Compression, photometric interpretation, predictor and orientation, as libtiff writes them."""
    image = Image.fromarray(noise(1, np.uint16)[..., 0]) if mode == 'I;16' else Image.fromarray(noise(3)).convert(mode)
    compressions = ('raw', 'tiff_lzw', 'packbits', 'tiff_adobe_deflate', 'tiff_deflate')
    pixels = np.asarray(image.convert({'P': 'RGB', 'CMYK': 'RGB', '1': 'L'}.get(mode, mode)))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    turns = [pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1]]
    turns += [turns[number].swapaxes(0, 1) for number in (0, 3, 2, 1)]
    for compression, orientation in product(compressions, range(1, 9)):
        image.save(tmp_path / 'a.tif', compression=compression, tiffinfo={274: orientation})
        found, shown = read(tmp_path / 'a.tif'), turns[orientation - 1]
        assert np.array_equal(found.colour, shown[..., : found.colour.shape[2]]), (compression, orientation)
        assert (found.alpha is None) == (not mode.endswith('A'))
        assert found.alpha is None or np.array_equal(found.alpha, shown[..., -1:])
        assert picture_size(tmp_path / 'a.tif') == found.colour.shape[:2]


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_min_is_white_is_no_negative(kind: type) -> None:
    pixels = noise(1, kind)
    content = tiff(np.iinfo(kind).max - pixels[..., 0], photometric='miniswhite')
    assert np.array_equal(read(content).colour, pixels)


def test_colours_that_alpha_was_multiplied_into_are_divided_again() -> None:
    pixels = np.full((4, 4, 4), 10000, np.uint16)
    pixels[..., 3] = 40000
    pixels[0] = 0
    found = read(tiff(pixels, photometric='rgb', extrasamples=['assocalpha']))
    assert (found.colour[1:] == round(65535 / 4)).all() and (found.alpha[1:] == 40000).all()
    assert not found.alpha[0].any()


def test_lzw_of_16_bits_is_read_where_one_decoder_is_right() -> None:
    pixels = noise(3, np.uint16)
    content = cv2.imencode(
        '.tif',
        np.ascontiguousarray(pixels[..., ::-1]),
        [cv2.IMWRITE_TIFF_COMPRESSION, 5],  # LZW, of which OpenCV 4 has no name
    )[1].tobytes()
    assert tifffile.TiffFile(io.BytesIO(content)).pages[0].compression == 5
    assert np.array_equal(read(content).colour, pixels)


@pytest.mark.parametrize(
    ('pixels', 'keywords', 'said'),
    [
        (noise(1)[..., 0].astype(np.float32), {'photometric': 'minisblack'}, '32-bit floating-point numbers'),
        (noise(1)[..., 0].astype(np.float16), {'photometric': 'minisblack'}, '16-bit floating-point numbers'),
        (noise(1)[..., 0].astype(np.int16), {'photometric': 'minisblack'}, '16-bit signed integers'),
        (noise(1)[..., 0].astype(np.int8), {'photometric': 'minisblack'}, '8-bit signed integers'),
        (noise(1)[..., 0].astype(np.uint32), {'photometric': 'minisblack'}, '32 bits'),
        (noise(4, np.uint16), {'photometric': 'separated'}, 'SEPARATED'),
        (noise(3, np.uint16), {'photometric': 'cielab'}, 'CIELAB'),
        (noise(3), {'photometric': 'rgb', 'extratags': [(50706, 'B', 4, (1, 4, 0, 0), True)]}, 'raw photograph'),
        (noise(1)[..., 0], {'photometric': 'minisblack', 'subfiletype': 1}, 'raw photograph'),
    ],
    ids=range(9),
)
def test_a_tiff_of_other_numbers_is_refused_by_name(
    tmp_path: Path, pixels: np.ndarray, keywords: dict, said: str
) -> None:
    path = tmp_path / 'a.tif'
    path.write_bytes(tiff(pixels, **keywords))
    with pytest.raises(UnreadableError, match=said) as caught:
        read(path)
    assert '\n' not in str(caught.value)


def test_a_tiff_cut_short_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    content = tiff(noise(3, np.uint16, 40, 60), photometric='rgb', rowsperstrip=8)
    path.write_bytes(content)
    assert picture_size(path) == (40, 60)
    path.write_bytes(content[:-1])
    for look in (read, picture_size):
        with pytest.raises(UnreadableError, match='incomplete'):
            look(path)


# ---------------------------------------------------------------- colours


def cmyk_profile() -> bytes:
    """A printer whose paper is orange whatever is printed on it: no formula knows that."""
    orange = (65535 * 70 // 100, 65535 * 66 // 100, 65535 * 70 // 100)  # CIE Lab of 16 bits
    curve = struct.pack('>2H', 0, 65535)
    table = (
        b'mft2'
        + bytes(4)
        + struct.pack('>4B', 4, 3, 2, 0)
        + struct.pack('>9i', *(65536 if i % 4 == 0 else 0 for i in range(9)))
        + struct.pack('>2H', 2, 2)
        + curve * 4
        + struct.pack('>3H', *orange) * 16
        + curve * 3
    )
    tags = {
        b'desc': b'desc' + bytes(4) + struct.pack('>I', 2) + b'a\0' + bytes(78),
        b'wtpt': b'XYZ ' + bytes(4) + struct.pack('>3i', 63190, 65536, 54061),
        b'A2B0': table,
        b'A2B1': table,
    }
    place, entries, content = 132 + 12 * len(tags), b'', b''
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        entries += name + struct.pack('>2I', place + len(content), len(value))
        content += value
    size = place + len(content)
    header = (
        struct.pack('>I', size)
        + bytes(4)
        + struct.pack('>I', 0x02400000)
        + b'prtrCMYKLab '
        + bytes(12)
        + b'acsp'
        + bytes(28)
        + struct.pack('>3i', 63190, 65536, 54061)
    )
    return header.ljust(128, b'\0') + struct.pack('>I', len(tags)) + entries + content


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_goes_by_its_profile(kind: str) -> None:
    profile, buffer = cmyk_profile(), io.BytesIO()
    pixels = Image.fromarray(noise(4), 'CMYK')
    pixels.save(buffer, kind, icc_profile=profile)
    found = read(buffer.getvalue())
    by_profile = ImageCms.profileToProfile(
        pixels,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile('sRGB'),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        'RGB',
    )
    colour = np.unique(found.colour.reshape(-1, 3), axis=0)
    assert len(colour) == 1 and np.abs(colour[0].astype(int) - np.asarray(by_profile)[0, 0]).max() <= 1
    assert found.profile == b''  # it is sRGB now


def test_cmyk_without_a_profile_goes_by_formula() -> None:
    buffer = io.BytesIO()
    Image.new('CMYK', (4, 4), (0, 0, 255, 0)).save(buffer, 'TIFF')
    assert (read(buffer.getvalue()).colour == (255, 255, 0)).all()


def test_colours_under_alpha_0_are_those_of_the_nearest_visible_pixel() -> None:
    pixels = noise(3, np.uint16, 9, 9)
    alpha = np.zeros((9, 9, 1), np.uint16)
    alpha[2, 3], alpha[7, 7] = 65535, 1
    filled = fill_hidden(Picture(pixels, alpha))
    assert np.array_equal(filled.alpha, alpha)
    rows, columns = np.mgrid[:9, :9]
    for row, column in zip(rows.flat, columns.flat, strict=True):
        near, far = sorted([(2, 3), (7, 7)], key=lambda place: np.hypot(row - place[0], column - place[1]))
        if np.hypot(row - near[0], column - near[1]) + 1 < np.hypot(row - far[0], column - far[1]):
            assert np.array_equal(filled.colour[row, column], pixels[near])
    for alpha in (np.zeros((9, 9, 1), np.uint16), np.ones((9, 9, 1), np.uint16)):
        assert np.array_equal(fill_hidden(Picture(pixels, alpha)).colour, pixels)


# ---------------------------------------------------------------- beside the pixels


@pytest.fixture(scope='module')
def rich() -> Picture:
    exif = Image.Exif()
    exif[0x0110], exif[0x013B] = 'camera', 'Zoë'.encode()
    exif[0x8769] = {0x829A: (1, 125), 0x9003: '2020:01:01 00:00:00', 0xA002: 17}
    exif[0x8825] = {1: 'N', 2: (1.0, 2.0, 3.0)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    return Picture(noise(), None, profile, exif.tobytes()[6:], (300.0, 150.0))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jpg', '.webp'])
def test_profile_exif_and_resolution_are_kept(tmp_path: Path, rich: Picture, suffix: str, kind: type) -> None:
    if kind is np.uint16 and suffix not in ('.png', '.tif'):
        return
    path = tmp_path / f'a{suffix}'
    write(Picture(noise(kind=kind), None, rich.profile, rich.exif, rich.dpi), path)
    found = read(path)
    write(found, path)  # and once more
    found = read(path)
    assert found.profile == rich.profile and found.dpi == pytest.approx(rich.dpi, rel=1e-3)
    exif = Image.Exif()
    exif.load(b'Exif\0\0' + found.exif)
    assert exif[0x013B].encode('latin-1').decode() == 'Zoë'
    assert exif[0x0110] == 'camera' and exif.get_ifd(0x8769)[0x9003] == '2020:01:01 00:00:00'
    assert exif.get_ifd(0x8769)[0x829A] in ((1, 125), 1 / 125)
    assert exif.get_ifd(0x8825)[1] == 'N'
    assert 0xA002 not in exif.get_ifd(0x8769)  # a width that is true no more
    with Image.open(path) as image:  # what other programs see
        assert suffix == '.webp' or image.info['dpi'] == pytest.approx(rich.dpi, rel=1e-3)
        assert image.info['icc_profile'] == rich.profile


def test_a_bmp_keeps_its_resolution(tmp_path: Path, rich: Picture) -> None:
    write(rich, tmp_path / 'a.bmp')
    assert read(tmp_path / 'a.bmp').dpi == pytest.approx(rich.dpi, rel=1e-3)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['png', 'late.png', 'jpg', 'tif', 'deep.tif', 'webp'])
def test_a_size_is_that_of_the_picture_as_shown(
    tmp_path: Path, suffix: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, exif = tmp_path / f'a.{suffix}', Image.Exif()
    exif[0x0112] = orientation
    if suffix == 'deep.tif':
        path.write_bytes(tiff(noise(kind=np.uint16), photometric='rgb', extratags=[(274, 'H', 1, orientation, True)]))
    else:
        Image.fromarray(noise()).save(path, exif=exif)
    if suffix == 'late.png':  # the chunk behind the pixels, where it may stand too
        content = path.read_bytes()
        start = content.index(b'eXIf') - 4
        chunk = content[start : start + 12 + struct.unpack('>I', content[start : start + 4])[0]]
        path.write_bytes(content.replace(chunk, b'')[:-12] + chunk + content[-12:])
    shown = read(path).colour.shape[:2]
    assert shown == ((17, 12) if orientation > 4 else (12, 17))
    monkeypatch.setattr(Image.Image, 'load', lambda image: pytest.fail('decoded for its size'))
    assert picture_size(path) == shown


# ---------------------------------------------------------------- 8-bit RGB


def test_one_rule_makes_8_bit_rgb_for_all(tmp_path: Path) -> None:
    pixels = noise(kind=np.uint16)
    write(Picture(pixels), tmp_path / 'deep.png')
    write(Picture(noise(1)), tmp_path / 'gray.png')
    write(Picture(noise(), np.full((12, 17, 1), 255, np.uint8)), tmp_path / 'opaque.png')
    write(Picture(noise()), tmp_path / 'plain.png')
    write(Picture(noise()), tmp_path / 'other.bmp')
    for name, wanted in (
        ('deep', pixels >> 8),
        ('gray', noise(1).repeat(3, 2)),
        ('opaque', noise()),
        ('plain', noise()),
        ('other', noise()),
    ):
        path = next(tmp_path.glob(f'{name}.*'))
        assert np.array_equal(read_rgb8(path.read_bytes()), wanted), name
        assert read_rgb8(path.read_bytes()).flags.writeable, name  # or torch warns
        assert torch.equal(read_picture(path), torch.from_numpy(wanted.astype(np.uint8)).permute(2, 0, 1)), name
    write(Picture(noise(), noise(1)), tmp_path / 'seen through.png')
    write(Picture(noise(kind=np.uint16) >> 4), tmp_path / 'twelve.png')
    keyed = Image.new('RGB', (4, 4), (1, 2, 3))
    keyed.save(tmp_path / 'keyed.png', transparency=(1, 2, 3))
    for name, said in (
        ('seen through', 'has transparent pixels'),
        ('keyed', 'has transparent pixels'),
        ('twelve', '16 bits a channel with values of at most 40'),
    ):
        path = tmp_path / f'{name}.png'
        for look in (lambda path=path: read_rgb8(path.read_bytes()), lambda path=path: read_picture(path)):
            with pytest.raises(UnreadableError, match=said):
                look()
    assert as_rgb8(Picture(np.zeros((2, 2, 1), np.uint16))).colour.max() == 0  # black is black


# ---------------------------------------------------------------- files


def test_pipes_and_links_to_nowhere_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'gone.png').symlink_to('nowhere')
    assert [picture.path.name for picture in list_pictures([tmp_path])] == ['gone.png', 'pipe.png']
    for look in (read, picture_size, read_picture):
        with pytest.raises(UnreadableError, match='not a file'):
            look(tmp_path / 'pipe.png')
        with pytest.raises(UnreadableError, match=r'cannot be read \(No such file'):
            look(tmp_path / 'gone.png')


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        'import os, signal, sys\nfrom pathlib import Path\nfrom iafmsr.files import whole\n'
        'def stop(number):\n    print("begun", flush=True)\n    signal.pause()\n'
        'os.fsync = stop\nwhole.replace_file(Path(sys.argv[1]), b"half")'
    )
    process = subprocess.Popen([sys.executable, '-c', code, str(tmp_path / 'a.png')], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b'begun\n'
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith('.a.png.') and partial.name.endswith('.partial')
    check_writable(tmp_path / 'b.png')
    assert list(tmp_path.iterdir()) == [partial]
    process.send_signal(signal.SIGKILL)
    process.wait()
    check_writable(tmp_path / 'b.png')
    assert list(tmp_path.iterdir()) == []


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ('é' * 125 + '.png')
    check_writable(path)
    write_whole(path, b'content')
    assert path.read_bytes() == b'content' and len(list(tmp_path.iterdir())) == 1
    for path in (tmp_path / ('é' * 126 + '.png'), tmp_path / ('a' * 256) / 'a.png'):
        with pytest.raises(UserError, match=r'cannot be written \(File name too long\)'):
            check_writable(path)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a'
    replace_file(path, b'old')

    def refuse(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', refuse)
    with pytest.raises(OSError, match='No space'):
        replace_file(path, b'new')
    with pytest.raises(UserError, match=r'a: cannot be written \(No space left on device\)'):
        write_whole(path, b'new')
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
