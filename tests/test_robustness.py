"""What drawn pictures tell of nets whose answer is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iafmsr.nets.loading import load_net
from iafmsr.tools.benchmark.robustness import Robustness, drawings, flat_pixels, robustness

YELLOW = torch.tensor([1.0, 1.0, 0.0])


class Net(nn.Module):
    """A function of the input as a net."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.forward = forward


def nearest(lq: torch.Tensor) -> torch.Tensor:
    return F.interpolate(lq, scale_factor=4)


def is_yellow(sr: torch.Tensor) -> torch.Tensor:
    return (sr == YELLOW[:, None, None]).all(1, keepdim=True)


def test_the_pictures_are_what_they_are_called():
    words = {name: lr for name, lr in drawings().items() if name.startswith('word')}
    solids = {name: lr for name, lr in drawings().items() if name.startswith('solid')}
    assert len(words) == len(solids) == 27
    assert all(lr.shape == (3, 64, 64) and lr.dtype == torch.uint8 for lr in drawings().values())
    backgrounds = {tuple(lr[:, 0, 0].tolist()) for lr in words.values()}
    assert len(backgrounds) == 27 and {v for colour in backgrounds for v in colour} == {0, 128, 255}
    for lr in words.values():  # a word and its surroundings, which are not flat, and a background, which is
        assert 0.05 < 1 - flat_pixels(lr).double().mean() < 0.6
        assert (lr[:, flat_pixels(lr)] == lr[:, :1, 0]).all()
    assert all(flat_pixels(lr).all() for lr in solids.values())
    assert not flat_pixels(drawings()['noise']).any()


def test_a_pixel_is_flat_where_5x5_pixels_are_of_one_colour():
    lr = torch.zeros(3, 9, 12, dtype=torch.uint8)
    lr[1, 4, 8] = 1  # one level of one channel
    expected = torch.ones(9, 12, dtype=torch.bool)
    expected[2:7, 6:11] = False
    assert torch.equal(flat_pixels(lr), expected)


def test_interpolation_leaves_flat_colours_alone():
    assert robustness(Net(nearest), 4) == Robustness(0.0, 0, 0.0, (0.0, 1.0), (0.0, 1.0))

    def bicubic(lq):
        return F.interpolate(lq, scale_factor=3, mode='bicubic')

    found = robustness(Net(bicubic), 3)
    assert (found.flat_off, found.broken, found.solid_levels) == (0.0, 0, 0.0)
    for low, high in (found.drawn_range, found.pattern_range):
        assert -0.5 < low < -0.05 and 1.05 < high < 1.5  # it overshoots at edges


def test_a_fault_on_one_colour_is_one_broken_background():
    def faulty(lq):
        return nearest(lq) + 0.2 * is_yellow(nearest(lq))

    found = robustness(Net(faulty), 4)
    assert (found.broken, found.solid_levels) == (1, 51.0)  # 0.2 of 255 in blue; red and green are clamped
    assert found.drawn_range == found.pattern_range == (0.0, pytest.approx(1.2))
    flat = torch.cat([lr[:, flat_pixels(lr)] for lr in drawings().values()], dim=1)
    yellow = (flat == 255 * YELLOW[:, None]).all(0)
    assert found.flat_off == pytest.approx(float(yellow.double().mean())) and 0.02 < found.flat_off < 0.06


def test_a_fault_of_16_levels_passes_and_one_of_17_does_not():
    for levels, broken in ((16, 0), (17, 27)):

        def shifted(lq, step=levels / 255):
            return nearest(lq) + torch.where(nearest(lq) > 0.5, -step, step)

        found = robustness(Net(shifted), 4)
        assert (found.broken, found.solid_levels, found.flat_off) == (broken, levels, float(broken > 0))


def test_values_that_are_no_numbers_are_off():
    found = robustness(Net(lambda lq: nearest(lq) * float('nan')), 4)
    assert (found.flat_off, found.broken) == (1.0, 27)


def test_few_pixels_are_no_broken_background():
    """Published nets are off at corners: a handful of pixels, which is counted in the share alone."""

    def corner(lq):
        sr = nearest(lq).clone()
        sr[..., :4, :4] = 1 - sr[..., :4, :4].round()
        return sr

    found = robustness(Net(corner), 4)
    assert found.broken == 0 and 0 < found.flat_off < 0.001 and found.solid_levels > 100


@pytest.mark.parametrize('file', ['IMDN/IMDN_x4.pth', 'SMFANet/SMFANet_DF2K_100w_x4SR.pth'])
def test_no_background_breaks_by_published_nets(data_root, file):
    found = robustness(load_net(data_root / 'weights' / file).net, 4)
    assert found.broken == 0 and found.flat_off < 2e-4
    assert -0.6 < found.drawn_range[0] and found.drawn_range[1] < 1.5
