"""imresize is MATLAB's: bit-exact on the standard files, and right where no file can tell."""

import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from PIL import Image

from iafmsr.ops.resize import imresize, mod_crop

FACTORS = [
    Fraction(1, 2),
    Fraction(1, 3),
    Fraction(1, 4),
    Fraction(2),
    Fraction(3),
    Fraction(4),
    Fraction(3, 2),
    Fraction(2, 3),
    Fraction(5, 7),
]


def load(path):
    image = torch.from_numpy(np.array(Image.open(path)))
    return image.permute(2, 0, 1) if image.dim() == 3 else image


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def direct(line, scale):
    """A line resized straight from the definition, in float64: no phases, no rationals, mirrored by hand."""
    scale, size = float(scale), len(line)
    width = max(1.0, 1 / scale)
    out = []
    for i in range(int(np.ceil(round(size * scale, 9)))):
        centre = (i + 0.5) / scale - 0.5
        total = weight_sum = 0.0
        for j in range(int(centre - 3 * width) - 2, int(centre + 3 * width) + 3):
            weight = cubic((j - centre) / width)
            k = j % (2 * size)
            total += weight * line[k if k < size else 2 * size - 1 - k]
            weight_sum += weight
        out.append(total / weight_sum)
    return np.array(out)


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize(('name', 'count'), [('Set5', 5), ('Set14', 14)])
def test_bit_exact_to_the_standard_files(data_root, name, count, scale):
    hr_files = sorted((data_root / 'benchmarks' / name / 'HR').glob('*.png'))
    assert len(hr_files) == count
    for file in hr_files:
        expected = load(data_root / 'benchmarks' / name / 'LR_bicubic' / f'X{scale}' / f'{file.stem}x{scale}.png')
        assert torch.equal(imresize(mod_crop(load(file), scale), Fraction(1, scale)), expected), file.name


@pytest.mark.parametrize(('scale', 'psnr'), [(2, 33.67), (3, 30.40), (4, 28.43)])
def test_bicubic_baseline_of_set5(data_root, scale, psnr):
    values = []
    for file in sorted((data_root / 'benchmarks' / 'Set5' / 'HR').glob('*.png')):
        hr = mod_crop(load(file), scale)
        lr = load(data_root / 'benchmarks' / 'Set5' / 'LR_bicubic' / f'X{scale}' / f'{file.stem}x{scale}.png')
        sr, gt = (image.permute(1, 2, 0).flip(-1).numpy() for image in (imresize(lr, scale), hr))
        values.append(calculate_psnr(sr, gt, crop_border=scale, test_y_channel=True))
    assert np.mean(values) == pytest.approx(psnr, abs=0.01)


@pytest.mark.parametrize('size', [1, 2, 5, 24, 37])
@pytest.mark.parametrize('scale', FACTORS, ids=str)
def test_agrees_with_the_definition_along_each_axis(scale, size):
    line = np.random.default_rng(size).uniform(-1, 2, size)
    expected = direct(line, scale)
    column = imresize(torch.from_numpy(line)[:, None].repeat(1, 4), scale)
    row = imresize(torch.from_numpy(line)[None].repeat(4, 1), scale)
    np.testing.assert_allclose(column.numpy(), np.tile(expected[:, None], column.shape[1]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(row.numpy(), np.tile(expected, (row.shape[0], 1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize('scale', FACTORS, ids=str)
def test_uint8_rounds_after_each_pass_rows_first(scale):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (31, 26), dtype=np.uint8))

    def rounded(values):  # half away from zero; sums in float64 are off by 1e-13 where the exact value is a half
        return np.clip(np.floor(np.round(values, 9) + 0.5), 0, 255)

    rows = rounded(np.stack([direct(column, scale) for column in image.numpy().T.astype(float)], 1))
    expected = rounded(np.stack([direct(row, scale) for row in rows]))
    result = imresize(image, scale)
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize('scale', FACTORS, ids=str)
def test_a_constant_stays_constant(scale, dtype):
    image = torch.full((3, 21, 34), 201, dtype=dtype)
    result = imresize(image, scale)
    assert torch.allclose(result.double(), torch.tensor(201.0, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize('scale', FACTORS[:6], ids=str)
def test_a_ramp_stays_the_same_ramp_inside(scale):
    ramp = torch.arange(60, dtype=torch.float64).expand(60, 60)
    result = imresize(ramp, scale)
    centres = (torch.arange(result.shape[-1], dtype=torch.float64) + 0.5) / float(scale) - 0.5
    inside = (centres > 10) & (centres < 49)
    assert torch.allclose(result[:, inside], centres[inside].expand_as(result[:, inside]), rtol=0, atol=1e-12)


def test_x3_samples_the_middle_pixel_of_each_triple():
    impulse = torch.zeros(45, 45, dtype=torch.float64)
    impulse[22, 22] = 1  # the middle of the triple 21..23, output pixel 7
    result = imresize(impulse, Fraction(1, 3))
    assert result.argmax() == 7 * 15 + 7
    assert torch.allclose(result, result.flip(0)) and torch.allclose(result, result.T)
    assert result[7, 7] == pytest.approx(1 / 9)


@pytest.mark.parametrize('scale', [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), 2, 3, 4], ids=str)
def test_flips_commute(scale):
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 36, 24), dtype=np.uint8))
    result = imresize(image, scale)
    for axes in ((-1,), (-2,), (-1, -2)):
        assert torch.equal(imresize(image.flip(axes), scale), result.flip(axes))


def test_leading_dimensions_are_independent_pictures():
    batch = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 3, 20, 28), dtype=np.uint8))
    result = imresize(batch, Fraction(1, 4))
    assert result.shape == (2, 3, 5, 7)
    assert torch.equal(result[1, 2], imresize(batch[1, 2], Fraction(1, 4)))


def test_the_size_is_rounded_up():
    assert imresize(torch.zeros(10, 11), Fraction(1, 4)).shape == (3, 3)


@pytest.mark.parametrize('scale', [0.25, '1/4'])
def test_an_inexact_scale_is_refused(scale):
    with pytest.raises(TypeError, match='Fraction'):
        imresize(torch.zeros(8, 8), scale)


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match='positive'):
        imresize(torch.zeros(8, 8), 0)
    with pytest.raises(ValueError, match='pixel'):
        imresize(torch.zeros(0, 8), 2)
    with pytest.raises(TypeError, match='int32'):
        imresize(torch.zeros(8, 8, dtype=torch.int32), 2)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_2k_picture_takes_a_quarter_of_a_second(scale):
    image = torch.randint(0, 256, (3, 1356, 2040), dtype=torch.uint8)
    imresize(image, Fraction(1, scale))
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        imresize(image, Fraction(1, scale))
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.25
