"""The measures by which a map is judged."""

import sys
import types
import urllib.error

import numpy as np
import option_cases
import pytest
import torch
from basicsr.metrics import calculate_metric
from option_cases import changed

from iafmsr.errors import UserError
from iafmsr.models import metrics
from iafmsr.tools.measure.map_quality import error_maps, fixed_maps, rank_correlation, share_inside

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root


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


# -- metrics of piq ---------------------------------------------------------------------------------------------------
def test_metrics_of_piq_are_metrics_of_an_option_file():
    pytest.importorskip('piq')
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    noisy = np.clip(hr.astype(int) + rng.integers(-40, 40, hr.shape), 0, 255).astype(np.uint8)
    for name, perfect in (('gmsd', 0), ('fsim', 1)):
        same, worse = (
            calculate_metric({'img': img, 'img2': hr}, {'type': f'calculate_{name}', 'crop_border': 4})
            for img in (hr, noisy)
        )
        assert same == pytest.approx(perfect, abs=1e-4) and abs(worse - perfect) > 0.01
    framed = noisy.copy()
    framed[4:-4, 4:-4] = hr[4:-4, 4:-4]
    cropped = {'type': 'calculate_gmsd', 'crop_border': 4}
    assert calculate_metric({'img': framed, 'img2': hr}, cropped) == pytest.approx(0, abs=1e-4)


def test_a_metric_without_its_package_or_its_weights_is_one_line(monkeypatch, tmp_path, refused):
    metrics._metric.cache_clear()
    with monkeypatch.context() as without:
        without.setattr(metrics, 'find_spec', lambda _: None)
        with pytest.raises(UserError, match=r"^metric gmsd needs an extra: pip install 'iafmsr\[metrics\]'$"):
            metrics.distance('gmsd', *torch.rand(2, 1, 3, 48, 48))
        assert refused(changed(**{'val.metrics.mine': {'type': 'calculate_gmsd'}})) == [
            "x.yml: val.metrics.mine: metric gmsd needs an extra: pip install 'iafmsr[metrics]'"
        ]

    def offline(*_, **__):
        raise urllib.error.URLError('no network')

    fake = types.SimpleNamespace(LPIPS=offline)
    monkeypatch.setitem(sys.modules, 'piq', fake)
    monkeypatch.setattr(metrics, 'find_spec', lambda _: True)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(UserError) as error:
        metrics.distance('lpips', *torch.rand(2, 1, 3, 48, 48))
    assert str(error.value) == (
        'metric lpips: lpips_weights.pt and vgg16-397923af.pth cannot be downloaded (no network); '
        f'put them into {tmp_path}/hub/checkpoints'
    )
    assert refused(changed(**{'val.metrics.mine': {'type': 'calculate_lpips'}})) == [
        f'x.yml: val.metrics.mine: {error.value}'
    ]
