"""The submanifold convolution: what it promises, and that every backend keeps the promise."""

import pytest
import torch
import torch.nn.functional as F

from iafmsr.ops.submanifold import BACKENDS, ActiveSites, SubmanifoldConv2d, submanifold_conv2d


def random_case(seed: int, kernel_size: int = 3, dtype: torch.dtype = torch.float64):
    g = torch.Generator().manual_seed(seed)
    b, c, h, w = (int(torch.randint(1, high, (1,), generator=g)) for high in (4, 9, 24, 24))
    density = (0.0, 0.02, 0.1, 0.5, 1.0)[seed % 5]
    mask = torch.rand(b, 1, h, w, generator=g) < density
    mask.view(-1)[int(torch.randint(mask.numel(), (1,), generator=g))] = True  # one site at least
    if seed % 3 == 0:  # clustered
        mask = F.max_pool2d(mask.to(dtype), 3, 1, 1).bool()
    x = torch.randn(b, c, h, w, generator=g, dtype=dtype)
    if seed % 4 == 0:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, torch.randn(c, c, kernel_size, kernel_size, generator=g, dtype=dtype), mask


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_definition_site_by_site(backend, kernel_size):
    """F(p) = F1(p) + sum over active neighbours q of W(q - p) F1(q) where p is active; F1(p) elsewhere."""
    x, weight, mask = random_case(3, kernel_size)
    out, r = submanifold_conv2d(x, weight, ActiveSites(mask), backend), kernel_size // 2
    expected = x.clone()
    for b, _, row, col in mask.nonzero().tolist():
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                y, z = row + dy, col + dx
                if 0 <= y < x.shape[2] and 0 <= z < x.shape[3] and mask[b, 0, y, z]:
                    expected[b, :, row, col] += weight[:, :, dy + r, dx + r] @ x[b, :, y, z]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('seed', range(40))
def test_gather_equals_dense_in_value_and_gradient(seed):
    x, weight, mask = random_case(seed)
    results = []
    for backend in BACKENDS:
        xs, ws = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = submanifold_conv2d(xs, ws, ActiveSites(mask), backend)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        results.append((out, xs.grad, ws.grad))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize('backend', BACKENDS)
def test_inactive_sites_are_untouched(backend):
    x, weight, mask = random_case(7)
    out = submanifold_conv2d(x, weight, ActiveSites(mask), backend)
    inactive = (~mask).expand_as(x)
    assert torch.equal(out[inactive], x[inactive])
    assert not torch.equal(out, x)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dims', [[-1], [-2], [-2, -1]])
def test_commutes_with_flipping_input_mask_and_kernel_together(backend, dims):
    x, weight, mask = random_case(11)
    out = submanifold_conv2d(x, weight, ActiveSites(mask), backend)
    flipped = submanifold_conv2d(x.flip(dims), weight.flip(dims), ActiveSites(mask.flip(dims)), backend)
    torch.testing.assert_close(flipped, out.flip(dims))


@pytest.mark.parametrize('backend', BACKENDS)
def test_autocast(backend):
    x, weight, mask = random_case(8, dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        out = submanifold_conv2d(x.to(torch.bfloat16), weight, ActiveSites(mask), backend)
    exact = submanifold_conv2d(x, weight, ActiveSites(mask))
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


def test_the_table_is_built_once():
    sites = ActiveSites(random_case(1)[2])
    assert sites.table(3) is sites.table(3)


def test_bad_input_is_one_clear_error():
    x, weight, mask = random_case(2)
    with pytest.raises(ValueError, match='bool'):
        ActiveSites(mask.float())
    with pytest.raises(ValueError, match='does not match'):
        submanifold_conv2d(x[..., :-1] if x.shape[3] > 1 else x[:, :, :-1], weight, ActiveSites(mask))
    with pytest.raises(ValueError, match='odd'):
        submanifold_conv2d(x, weight[..., :2, :2], ActiveSites(mask))
    with pytest.raises(ValueError, match='dense, gather'):
        submanifold_conv2d(x, weight, ActiveSites(mask), 'cuda')
    with pytest.raises(ValueError, match='dense, gather'):
        SubmanifoldConv2d(4, backend='cuda')
