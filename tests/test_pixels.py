"""Depth and transparency: what is not 8 bits of visible colour is said in a line by every way into training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import option_cases
import pytest
import tifffile
from basicsr.metrics import calculate_ssim
from option_cases import changed, write_lmdb, write_pictures
from PIL import Image

from iafmsr.files.reading import is_deep, read_picture
from iafmsr.tools.prepare.forms import WholePictures
from iafmsr.tools.prepare.preparation import prepare

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
SIZES = {'gt': (64, 48), 'lq': (16, 12)}


def noise(size: tuple[int, int], kind: type = np.uint8, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (*size, channels), endpoint=True)
    return values.astype(kind)


def deep(path: Path, size: tuple[int, int], peak: int = 65535) -> None:
    values = noise(size, np.uint16) // (65536 // (peak + 1))
    tifffile.imwrite(path, values) if path.suffix == '.tif' else cv2.imwrite(str(path), values)


def glass(path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(noise(size, channels=4)).save(path)


def opaque(path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(np.dstack([noise(size), np.full(size, 255, np.uint8)])).save(path)


def floating(path: Path, size: tuple[int, int]) -> None:
    tifffile.imwrite(path, noise(size).astype(np.float32))


Write = Callable[[Path, tuple[int, int]], None]


@pytest.fixture
def folders(root: Path) -> Callable[..., dict[str, Any]]:
    """Options of a training on folders of eight pairs, of which the fourth HR picture is another kind."""

    def make(write: Write, suffix: str, kind: str) -> dict[str, Any]:
        for side, size in SIZES.items():
            (root / side).mkdir()
            for number in range(8):
                path = root / side / f'{number}{suffix}'
                if side == 'gt' and number == 3:
                    write(path, size)
                else:
                    Image.fromarray(noise(size)).save(path)
        return changed(
            **{
                'datasets.train.dataroot_gt': 'gt',
                'datasets.train.dataroot_lq': 'lq',
                'datasets.train.io_backend.type': 'disk',
                'datasets.train.type': kind,
            }
        )

    return make


@pytest.mark.parametrize('kind', ['PairedSRDataset', 'PairedImageDataset'])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_are_said(
    folders: Callable[..., Any], parse: Callable[..., Any], capsys: pytest.CaptureFixture, suffix: str, kind: str
) -> None:
    parse(folders(deep, suffix, kind))
    said = f'gt/3{suffix}: 16 bits a channel, of which the high 8 are used\n'
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['PairedSRDataset', 'PairedImageDataset'])
@pytest.mark.parametrize(
    ('write', 'suffix', 'culprit'),
    [
        (lambda path, size: deep(path, size, 4095), '.png', '16 bits a channel with values of at most 4095'),
        (glass, '.png', 'has transparent pixels'),
        (floating, '.tif', 'TIFF of 32-bit floating-point numbers, not of 8 or 16 bits'),
    ],
)
def test_pixels_without_a_meaning_are_faults(
    folders: Callable[..., Any],
    refused: Callable[..., list[str]],
    write: Write,
    suffix: str,
    culprit: str,
    kind: str,
) -> None:
    (line,) = refused(folders(write, suffix, kind))
    assert 'datasets.train.dataroot_gt: ' in line and f'gt/3{suffix}: ' in line and culprit in line


def test_opaque_alpha_is_no_fault(
    folders: Callable[..., Any], parse: Callable[..., Any], capsys: pytest.CaptureFixture
) -> None:
    parse(folders(opaque, '.png', 'PairedSRDataset'))
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('write', 'culprit'), [(deep, '16 bits a channel, of'), (glass, 'has transparent pixels')])
def test_pictures_of_an_lmdb_are_looked_at(
    root: Path, tmp_path: Path, parse: Callable[..., Any], capsys: pytest.CaptureFixture, write: Write, culprit: str
) -> None:
    write(tmp_path / 'x.png', SIZES['gt'])
    with lmdb.open(str(root / 'data/gt.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'05', (tmp_path / 'x.png').read_bytes())
    try:
        parse(changed())
    except SystemExit:
        pass
    err = capsys.readouterr().err
    assert f'datasets.train.dataroot_gt: 05: {culprit}' in err and len(err.splitlines()) == 1


def test_preparation_says_that_16_bits_are_shortened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'in').mkdir()
    for name, write in (('a.png', deep), ('b.tif', deep), ('c.png', opaque)):
        write(tmp_path / 'in' / name, SIZES['gt'])
    assert [is_deep(path) for path in sorted((tmp_path / 'in').iterdir())] == [True, True, False]
    prepare([tmp_path / 'in'], tmp_path / 'out', [4], WholePictures())
    said = '16 bits a channel, of which the high 8 are kept: 2 pictures, the first '
    assert said + str(tmp_path / 'in/a.png') in capsys.readouterr().err
    expected = (noise(SIZES['gt'], np.uint16) >> 8).astype(np.uint8)
    assert np.array_equal(read_picture(tmp_path / 'out/HR/b.png').permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize('lmdbs', [False, True])
@pytest.mark.parametrize('metric, needed', [('calculate_psnr', 9), ('calculate_ssim', 19), ('calculate_niqe', 104)])
def test_a_picture_that_is_too_small_to_be_measured_is_a_fault(
    root: Path,
    parse: Callable[..., Any],
    refused: Callable[..., list[str]],
    capsys: pytest.CaptureFixture,
    metric: str,
    needed: int,
    lmdbs: bool,
) -> None:
    """Of x4, a border of 4 pixels left out: the least size that is measured passes, one LR pixel less does not."""
    backend = {'datasets.val.io_backend.type': 'lmdb'} if lmdbs else {}
    opt = changed(**{'val.metrics.psnr': {'type': metric, 'crop_border': 4}}, **backend)
    least = -(-needed // 4) * 4
    for size in (least, least - 4):
        for side, shape in (('gt', (size, 2 * size)), ('lq', (size // 4, size // 2))):
            folder = root / f'data/{size}_{side}{".lmdb" if lmdbs else ""}'
            opt['datasets']['val'][f'dataroot_{side}'] = str(folder)
            name = 'a' if side == 'gt' or lmdbs else 'ax4'
            write_lmdb(folder, {name: shape}) if lmdbs else write_pictures(folder, {f'{name}.png': shape})
        if size == least:
            parse(opt)
            capsys.readouterr()
    (line,) = refused(opt)
    assert f'{2 * size}x{size}, but the metrics need {needed} pixels' in line and 'datasets.val.dataroot_gt: ' in line


def test_the_least_measured_size_is_that_of_basicsrs_metrics() -> None:
    for size, finite in ((19, True), (18, False)):
        pictures = [np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8) for seed in range(2)]
        try:
            value = calculate_ssim(*pictures, crop_border=4)
        except Exception:
            value = np.nan
        assert np.isfinite(value) is np.bool_(finite)
