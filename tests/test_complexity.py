"""Sizes are those of the paper's ceilings, counted as the documentation says."""

import pytest
from torch import nn

from iafmsr.archs import IAFMNet
from iafmsr.measure.complexity import count

CEILINGS = {2: (198_000, 42), 3: (208_000, 19), 4: (220_000, 11)}  # of the paper's table


LITERAL = {'residual': False, 'ide': 'literal', 'guide': 'idm', 'guidance': 'product'}


@pytest.mark.parametrize(
    'options, scale, params, gmacs',
    [
        ({}, 2, 190_268, 40.09),
        ({}, 3, 195_683, 18.38),
        ({}, 4, 203_264, 10.77),
        ({'mask': 'random'}, 4, 203_264, 10.77),
        (LITERAL, 2, 182_268, 38.22),
        (LITERAL, 3, 187_683, 17.55),
        (LITERAL, 4, 195_264, 10.30),
    ],
)
def test_the_net_spends_the_papers_ceilings(options, scale, params, gmacs):
    """No more than the table's figures; of the default net at least 92 % of the parameters and 95 % of the work."""
    c, (most, work) = count(IAFMNet(scale, **options), scale), CEILINGS[scale]
    assert c.params == params <= most
    assert round(c.macs / 1e9, 2) == gmacs <= work
    assert options == LITERAL or (params > 0.92 * most and gmacs > 0.95 * work)


@pytest.mark.parametrize(
    'options, params, gmacs, ceiling',
    [
        ({'num_block': 4, 'ffn_scale': 3.6}, 156_560, 8.11, (166_000, 8.2)),
        ({'num_feat': 64, 'ffn_scale': 3.5}, 510_896, 27.35, (519_000, 28)),
    ],
)
def test_small_and_large_presets_at_x4(options, params, gmacs, ceiling):
    c = count(IAFMNet(4, **options), 4)
    assert 0.94 * ceiling[0] < c.params == params <= ceiling[0]
    assert 0.97 * ceiling[1] < round(c.macs / 1e9, 2) == gmacs <= ceiling[1]


def test_counted_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2))
    c = count(net, 2, (64, 48))
    assert c == (3 * 8 * 9 + 8 + 8 * 12 + 12, (3 * 8 * 9 + 8 * 12) * 32 * 24, (8 + 12) * 32 * 24)


def test_sparse_convolution_counts_its_active_sites():
    macs = [count(IAFMNet(4, k=k, num_block=2, sparse_backend='gather'), 4, (320, 160)).macs for k in (0.05, 1.0)]
    assert macs[1] - macs[0] == 2 * 9 * 40 * 40 * (80 * 40 - 160)
