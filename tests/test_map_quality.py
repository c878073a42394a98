"""The measures by which a map is judged."""

import pytest
import torch

from iafmsr.tools.measure.map_quality import error_maps, fixed_maps, rank_correlation, share_inside


def test_errors_are_averaged_over_the_pixels_of_one_lr_pixel():
    hr, sr = torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 4, 8)
    sr[..., :4, 4:] = 0.5
    absolute, squared = error_maps(sr, hr, 4)
    torch.testing.assert_close(absolute, torch.tensor([[[[0.0, 0.5]]]]))
    torch.testing.assert_close(squared, torch.tensor([[[[0.0, 0.25]]]]))


def test_rank_correlation_is_spearmans_with_mean_ranks():
    a = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over sqrt(4.5 * 5)
    assert rank_correlation(a, torch.tensor([1.0, 2.0, 3.0, 4.0])) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert rank_correlation(a, torch.ones(4)) == 0


def test_share_of_the_error_inside_the_mask():
    torch.manual_seed(0)
    error = torch.rand(1, 1, 20, 20)
    assert share_inside(error, error) == pytest.approx((error.flatten().topk(20).values.sum() / error.sum()).item())
    assert share_inside(torch.rand(1, 1, 20, 20), torch.ones(1, 1, 20, 20)) == pytest.approx(0.05)
    assert share_inside(error, error, k=1.0) == pytest.approx(1)


def test_fixed_maps_have_the_size_of_the_picture():
    maps = fixed_maps(torch.rand(1, 3, 7, 9))
    assert len(maps) == 6 and all(m.shape == (1, 1, 7, 9) for m in maps.values())
