"""A picture computed strip by strip is the picture."""

import pytest
import torch
import torch.nn.functional as F

from iafmsr.archs import IAFMNet
from iafmsr.layers.igra import down, up
from iafmsr.layers.pointwise import PointwiseConv2d
from iafmsr.ops import strips
from iafmsr.ops.strips import Part, Shuffled, Sum, by_strips


@pytest.fixture
def narrow(monkeypatch):
    """Strips of a few rows."""
    monkeypatch.setattr(strips, '_POSITIONS', 60)


def two_results(x):
    def step(part: Part):
        y = part.of(x)
        return Sum(y, F.avg_pool2d(y, (5, 1), 1, (2, 0))), F.avg_pool2d(y, (3, 1), 1, (1, 0))
    return step


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('size', [(1, 1), (1, 70), (7, 9), (41, 13), (200, 1)])
def test_strips_make_the_whole(narrow, size, layout):
    torch.manual_seed(0)
    x = torch.rand(3, 4, *size, dtype=torch.float64).contiguous(memory_format=layout)
    whole = by_strips(two_results(x.requires_grad_()), x, reach=2)
    with torch.no_grad():
        seen = []
        parts = by_strips(lambda part: seen.append(part) or two_results(x)(part), x, reach=2)
    assert len(seen) > 1 or x[:, 0].numel() <= 60
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, expected, check_stride=False)


def test_a_result_may_take_the_place_of_what_the_step_reads(narrow):
    x = torch.rand(2, 3, 50, 11, dtype=torch.float64)
    with torch.no_grad():
        expected = by_strips(two_results(x), x, reach=2)
        result = by_strips(two_results(x), x, reach=2, into=(x, None))
    assert result[0] is x and all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_1x1_convolutions_and_shuffled_pixels_are_written_in_strips(narrow, layout, dtype):
    torch.manual_seed(0)
    one, two = PointwiseConv2d(4, 5), PointwiseConv2d(4 + 5, 12)
    x = torch.rand(2, 4, 41, 13).contiguous(memory_format=layout)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        expected = two.of(x, one.of(x)).tensor()
        result, = by_strips(lambda part: (two.of(part.of(x), one.of(part.of(x))),), x, reach=1)
        shuffled, = by_strips(lambda part: (Shuffled(part.of(expected), 2),), x, reach=1, scale=2)
    assert result.dtype == expected.dtype == dtype
    torch.testing.assert_close(result, expected)
    assert torch.equal(shuffled, F.pixel_shuffle(expected, 2)) and shuffled.is_contiguous()


def test_up_of_a_strip_is_the_strip_of_up():
    x = torch.rand(1, 2, 4, 3)
    for first in range(25):
        for height in range(1, 29 - first):
            assert torch.equal(up(x, (height, 21), first), up(x, (28, 21))[:, :, first:first + height])
    assert down(up(x, (28, 21))).equal(x)


@pytest.mark.parametrize('options', [
    {}, {'guide': 'idm'}, {'guide': 'density'}, {'guide': 'bits'},
    {'ide': 'literal', 'ide_kernel_size': 3, 'guidance': 'product', 'norm': 'none'},
    {'ide_kernel_size': 3}, {'ide': 'moments'}, {'norm': 'layer'}, {'attention': 'text'}, {'ssconv': False},
    {'arm': 'off'}, {'arm': 'no_idm'}, {'guidance': 'concat'}, {'guide': 'sobel', 'mask': 'random'}, {'k': 1.0},
    {'idm_unit': 'normalised', 'guide': 'idm'}, {'sparse_backend': 'gather'}, {'sparse_backend': 'dense'}], ids=str)
@pytest.mark.parametrize('batch, size', [(1, (37, 22)), (2, (16, 9))])
def test_the_net_in_strips_is_the_net_in_one_piece(monkeypatch, options, batch, size):
    """In channels_last and in strips without gradients, as drawn with them; its input is left alone."""
    torch.manual_seed(0)
    net, lq = IAFMNet(3, num_feat=8, num_block=2, **options).eval().double(), torch.rand(batch, 3, *size).double()
    for strength in (p for name, p in net.named_parameters() if name.endswith('strength')):
        torch.nn.init.normal_(strength)
    before = lq.clone()
    whole, density = net(lq, return_density=True)
    monkeypatch.setattr(strips, '_POSITIONS', 3 * size[1])
    with torch.no_grad():
        in_strips, again = net(lq, return_density=True)
        torch.testing.assert_close(net(lq), whole)
    torch.testing.assert_close(in_strips, whole)
    for part, expected in zip(again, density, strict=True):
        torch.testing.assert_close(part, expected, check_stride=False)
    assert torch.equal(lq, before) and in_strips.is_contiguous()


def test_memory_is_that_of_a_few_strips():
    """No more than SAFMN takes (docs/speed.md): three maps of the picture's size, its density, and strips."""
    from iafmsr.benchmark.speed import PeakMemory
    net, lq = IAFMNet(2, num_feat=16, num_block=2).eval(), torch.rand(1, 3, 400, 320)
    with torch.no_grad(), PeakMemory([lq, *net.parameters()]) as memory:
        net(lq)
    assert memory.peak < 8 * 4 * 16 * 400 * 320
