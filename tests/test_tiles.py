"""A picture upscaled in tiles is the picture upscaled whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from option_cases import DELETE, changed
from tiny import built

from iafmsr.archs import SAFMN, IAFMNet
from iafmsr.nets import tiles
from iafmsr.nets.tiles import Enlarger, is_exact, margin
from iafmsr.nets.trained import TrainedNet
from iafmsr.training.checks.check import check_options


def enlarger(net: torch.nn.Module) -> Enlarger:
    return Enlarger(TrainedNet(net.eval(), type(net).__name__, net.scale), torch.device('cpu'))


def trained_like(**keywords: Any) -> IAFMNet:
    """A net in which the map matters: a new one starts with guidance of strength zero."""
    torch.manual_seed(0)
    net = IAFMNet(num_feat=8, num_block=2, k=0.2, **keywords)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith('strength'):
                parameter.normal_()
    return net


def picture(height: int, width: int, channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    """Smooth shapes and noise, so that the active sites are spread unevenly."""
    noise = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    smooth = 0.5 + 0.4 * np.sin(x / 9) * np.cos(y / 13)
    rough = noise.random((height, width, channels)) * (x > 0.6 * width)[..., None]
    return ((0.7 * smooth[..., None] + 0.3 * rough) * np.iinfo(kind).max).astype(kind)


@pytest.fixture(autouse=True)
def small_map_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, '_MAP_TILE', 48)


def assert_equal_pictures(one: np.ndarray, other: np.ndarray) -> None:
    different = np.abs(one.astype(int) - other.astype(int))
    assert different.max() <= 1
    assert (different > 0).mean() <= 1e-4


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize(('height', 'width', 'tile'), [(131, 94, 40), (97, 203, 64), (7, 150, 8), (64, 64, 33)])
def test_tiles_make_the_whole_picture(scale: int, height: int, width: int, tile: int) -> None:
    enlarge = enlarger(trained_like(scale=scale))
    whole = enlarge(picture(height, width), 0)
    assert whole.shape == (scale * height, scale * width, 3)
    assert_equal_pictures(enlarge(picture(height, width), tile), whole)


@pytest.mark.parametrize(
    'keywords',
    [
        {'ide': 'literal', 'ide_kernel_size': 3, 'guidance': 'product', 'idm_unit': 'theta', 'norm': 'none'},
        {'idm_unit': 'normalised', 'guide': 'idm', 'ide_kernel_size': 3},
        {'mask': 'sobel', 'guide': 'laplacian'},
        {'mask': 'random', 'ide': 'moments'},
        {'attention': 'text', 'norm': 'layer', 'guidance': 'concat'},
        {'ssconv': 'none', 'arm': 'no_idm'},
    ],
    ids=str,
)
def test_every_form_of_the_net_is_exact_in_tiles(keywords: dict[str, Any]) -> None:
    enlarge = enlarger(trained_like(scale=2, **keywords))
    assert_equal_pictures(enlarge(picture(90, 141), 48), enlarge(picture(90, 141), 0))


@pytest.mark.parametrize('scale', [2, 4])
def test_the_first_pass_makes_what_the_net_makes_itself(scale: int) -> None:
    net, pixels = trained_like(scale=scale), picture(90, 141)
    with torch.inference_mode():
        itself = net.eval()(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255).clamp(0, 1)
    assert_equal_pictures(enlarger(net)(pixels, 40), np.rint(255 * itself[0].permute(1, 2, 0).numpy()))


@pytest.mark.parametrize('route_map', ['idm', 'mean_laplacian'])
def test_the_positions_of_a_budget_are_the_same_in_tiles(route_map: str) -> None:
    net = trained_like(scale=2, num_routed=1, route_map=route_map).eval()
    enlarge = enlarger(net)
    lq = torch.from_numpy(picture(90, 141)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        found = net.density.choose(route_map, net.local_map(lq), lq)
    net.router.thresholds.copy_(torch.quantile(found.flatten(), 1 - torch.arange(1, 21) / 20))
    net.budget = 0.4
    assert_equal_pictures(enlarge(picture(90, 141), 48), enlarge(picture(90, 141), 0))


def test_without_margin_or_shared_mask_there_are_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above compare would tell a tile that lacks either."""
    net, pixels = trained_like(scale=2), picture(97, 203)
    enlarge = enlarger(net)
    whole = enlarge(pixels, 0).astype(int)
    own_masks = np.concatenate([enlarge(pixels[:, :104], 0), enlarge(pixels[:, 104:], 0)], axis=1)
    assert (own_masks != whole).mean() > 0.01
    monkeypatch.setattr(tiles, 'margin', lambda trained: 0)
    assert (enlarge(pixels, 40) != whole).mean() > 0.01


@pytest.mark.parametrize('num_block', [1, 3])
def test_the_margin_is_the_reach_of_the_net(num_block: int) -> None:
    """A pixel 16 N + 2 from a tile changes it, one that is further away does not; the margin is that in whole cells."""
    torch.manual_seed(0)
    net = IAFMNet(scale=2, num_feat=8, num_block=num_block, k=1).double().eval()
    start, reach = 8 * 10, 16 * num_block + 2
    assert margin(TrainedNet(net, 'IAFMNet', 2)) - 8 < reach <= margin(TrainedNet(net, 'IAFMNet', 2))
    lq = torch.rand(1, 3, 64, start + 8, dtype=torch.float64)
    with torch.inference_mode():
        maps = net.density.maps(net.local_map(lq), lq)

        def tile(lq: torch.Tensor) -> torch.Tensor:
            return net(lq, maps=maps)[..., 2 * start :]

        def changed(distance: int) -> torch.Tensor:
            picture = lq.clone()
            picture[..., start - distance] += torch.randn(3, 64)
            return picture

        assert not torch.equal(tile(changed(reach)), tile(lq))
        assert torch.equal(tile(changed(reach + 1)), tile(lq))


def test_the_ensemble_is_the_mean_over_flips_and_rotations() -> None:
    enlarge, pixels = enlarger(trained_like(scale=2)), picture(30, 43)
    single = Enlarger.__call__
    views = [np.rot90(view, turn) for view in (pixels, pixels[:, ::-1]) for turn in range(4)]
    results = [np.rot90(single(enlarge, view.copy(), 0), -(i % 4)) for i, view in enumerate(views)]
    mean = np.mean([result if i < 4 else result[:, ::-1] for i, result in enumerate(results)], axis=0)
    together = enlarge(pixels, 0, ensemble=True)
    assert np.abs(together - mean).max() <= 1  # each of the eight was rounded
    assert_equal_pictures(enlarge(picture(60, 103), 40, ensemble=True), enlarge(picture(60, 103), 0, ensemble=True))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3])
def test_kinds_of_pixels_stay(kind: type, channels: int) -> None:
    result = enlarger(trained_like(scale=3))(picture(20, 31, channels, kind), 16)
    assert result.dtype == kind and result.shape == (60, 93, channels)


def test_sixteen_bits_are_more_than_eight() -> None:
    pixels = picture(20, 31, kind=np.uint16)
    fine = enlarger(trained_like(scale=2))(pixels, 0)
    assert len(np.unique(fine % 257)) > 100


def test_progress_adds_up_to_the_whole() -> None:
    shares: list[float] = []
    for ensemble in (False, True):
        shares.clear()
        enlarger(trained_like(scale=2))(picture(61, 90), 32, ensemble, shares.append)
        assert len(shares) > 4 and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    net, pixels = trained_like(scale=2), picture(40, 61)
    full = enlarger(net)(pixels, 0).astype(int)
    half = Enlarger(TrainedNet(net, 'IAFMNet', 2), torch.device('cpu'), dtype)(pixels, 0)
    assert np.abs(half - full).mean() < 3


def test_a_net_that_looks_at_the_whole_picture_is_not_exact_and_says_so() -> None:
    net = SAFMN(scale=2, dim=8, n_blocks=1)
    enlarge = enlarger(net)
    assert not is_exact(enlarge.trained)
    assert enlarge(picture(60, 103), 40).shape == (120, 206, 3)


def test_on_a_photograph_of_odd_size(repo_root: Path) -> None:
    from skimage.data import chelsea

    pixels = np.ascontiguousarray(chelsea()[51:250:1, 100:351])
    enlarge = enlarger(trained_like(scale=4))
    assert_equal_pictures(enlarge(pixels, 72), enlarge(pixels, 0))


# -- validation -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(('decay', 'channels'), [(0, 3), (0.9, 3), (0.9, 1)])
def test_a_validation_in_tiles_is_that_of_the_whole_picture(tmp_path: Path, decay: float, channels: int) -> None:
    """By the network or its average, and it goes on training afterwards."""
    kind = {'network_g__num_in_ch': channels, 'network_g__num_out_ch': channels}
    model = built(tmp_path, train__ema_decay=decay, **kind)
    net = getattr(model, 'net_g_ema', model.net_g)
    net.load_state_dict(trained_like(num_in_ch=channels, num_out_ch=channels).state_dict(), strict=False)
    model.lq, results = torch.rand(1, channels, 90, 141, generator=torch.Generator().manual_seed(1)), []
    for tile in (None, 40):
        model.opt['val']['tile'] = tile
        model.test()
        results.append((255 * model.output.clamp(0, 1)).round().numpy())
        assert model.net_g.training
    assert results[0].shape == (1, channels, 360, 564)
    assert_equal_pictures(*results)


def test_a_validation_in_tiles_keeps_the_first_pass_in_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of the network sees more than a tile with its margin."""
    model, sides = built(tmp_path, val__tile=40), []
    model.lq = torch.rand(1, 3, 300, 300)
    model.net_g_ema.head.register_forward_hook(lambda _, inputs, __: sides.append(max(inputs[0].shape[2:])))
    model.test()
    assert len(sides) > 64 and max(sides) <= 40 + 2 * model.net_g_ema.margin


@pytest.mark.parametrize(('network', 'warned'), [({'type': 'SAFMN', 'scale': 4}, True), (None, False)])
def test_a_network_that_is_not_exact_in_tiles_is_said_before(network: dict[str, Any] | None, warned: bool) -> None:
    keys = {'network_g': network, 'train.ie_opt': DELETE} if network else {}
    report = check_options(changed(**{'val.tile': 64, **keys}), True, '', files=False)
    assert not report.faults
    assert report.warnings == (
        ['val.tile: SAFMN gives a different result in tiles than for the whole picture'] * warned
    )


@pytest.mark.parametrize('is_train', [True, False])
def test_a_model_that_knows_no_tiles_is_refused(is_train: bool) -> None:
    opt = changed(**{'val.tile': 64, 'model_type': 'SRModel', 'train.ie_opt': DELETE})
    opt['datasets']['test'] = opt['datasets']['val']
    faults = check_options(opt, is_train, '', files=False).faults
    assert 'val.tile: SRModel does not use it, IAFMNetModel does' in faults
