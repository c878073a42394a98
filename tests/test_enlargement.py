"""Bicubic enlargement by a convolution, as exported graphs have it."""

import pytest
import torch
import torch.nn.functional as F

from iafmsr.layers.enlargement import by_convolution, enlarge


@pytest.mark.parametrize('scale', [2, 3, 4, 8])
@pytest.mark.parametrize('size', [(2, 3, 1, 1), (1, 1, 2, 7), (1, 3, 9, 5)])
def test_the_convolution_is_torchs_interpolation(scale: int, size: tuple[int, ...]) -> None:
    x = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, [scale * side for side in size[-2:]], mode='bicubic')
    torch.testing.assert_close(by_convolution(x, scale), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(enlarge(x, scale), expected, rtol=0, atol=0)
    assert enlarge(x, 1) is x
