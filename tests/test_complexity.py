"""Sizes are those of the paper's ceilings, counted as the documentation says."""

import pytest
from torch import nn

from iafmsr.archs import IAFMNet
from iafmsr.utils.complexity import count

CEILINGS = {2: (198_000, 42), 3: (208_000, 19), 4: (220_000, 11)}  # of the paper's table


@pytest.mark.parametrize('options, scale, params, gmacs', [
    ({}, 2, 192_572, 19.97), ({'mask': 'random'}, 4, 205_568, 5.74), ({}, 3, 197_987, 9.44), ({}, 4, 205_568, 5.74),
    ({'ide': 'literal', 'guide': 'idm', 'guidance': 'product'}, 2, 184_572, 18.10),
    ({'ide': 'literal', 'guide': 'idm', 'guidance': 'product'}, 3, 189_987, 8.61),
    ({'ide': 'literal', 'guide': 'idm', 'guidance': 'product'}, 4, 197_568, 5.27)])
def test_the_net_is_within_the_papers_ceilings(options, scale, params, gmacs):
    c = count(IAFMNet(scale, **options), scale)
    assert c.params == params <= CEILINGS[scale][0]
    assert round(c.macs / 1e9, 2) == gmacs <= CEILINGS[scale][1]


@pytest.mark.parametrize('options, params, gmacs, ceiling', [
    ({'num_block': 4}, 144_848, 4.28, (166_000, 8.2)), ({'num_feat': 64}, 499_376, 13.41, (519_000, 28))])
def test_small_and_large_presets_at_x4(options, params, gmacs, ceiling):
    c = count(IAFMNet(4, **options), 4)
    assert c.params == params <= ceiling[0]
    assert round(c.macs / 1e9, 2) == gmacs <= ceiling[1]


def test_counted_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2))
    c = count(net, 2, (64, 48))
    assert c == (3 * 8 * 9 + 8 + 8 * 12 + 12, (3 * 8 * 9 + 8 * 12) * 32 * 24, (8 + 12) * 32 * 24)


def test_sparse_convolution_counts_its_active_sites():
    macs = [count(IAFMNet(4, k=k, num_block=2, sparse_backend='gather'), 4, (320, 160)).macs for k in (0.05, 1.0)]
    assert macs[1] - macs[0] == 2 * 9 * 40 * 40 * (80 * 40 - 160)
