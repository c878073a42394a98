"""The submanifold convolution: what it promises, and that every backend keeps the promise."""

import sys
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

from iafmsr.ops import crossover, rulebook, submanifold
from iafmsr.ops.crossover import choose_backend
from iafmsr.ops.rulebook import spconv_conv, spconv_installed
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d, submanifold_conv2d

PLAIN = ('auto', 'dense', 'gather')  # those that run anywhere


@contextmanager
def with_threads(number: int):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_case(seed: int, kernel_size: int | None = None, dtype: torch.dtype = torch.float64):
    """Input, weight and mask: one site to all, scattered or clustered; three layouts."""
    g = torch.Generator().manual_seed(seed)

    def below(high: int) -> int:
        return int(torch.randint(high, (1,), generator=g))

    b, c, h, w = 1 + below(3), 1 + below(9), 1 + below(24), 1 + below(24)
    k = kernel_size or (3, 3, 5, 1)[below(4)]
    mask = torch.rand(b, 1, h, w, generator=g) < (0.0, 0.02, 0.1, 0.5, 1.0)[below(5)]
    mask.view(-1)[below(mask.numel())] = True
    if below(2):  # clustered
        mask = F.max_pool2d(mask.to(dtype), 3, 1, 1).bool()
    x = torch.randn(b, c, h, w + 1, generator=g, dtype=dtype)
    x = (x[..., :-1].contiguous(), x[..., :-1].contiguous(memory_format=torch.channels_last), x[..., 1:])[below(3)]
    return x, torch.randn(c, c, k, k, generator=g, dtype=dtype) / k, mask


def value_and_gradients(operator, x, weight, mask):
    x, weight = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(), weight.clone().requires_grad_()
    out = operator(x, weight, ActiveSites(mask))
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    return [t.double() for t in (out, x.grad, weight.grad)]


def by(backend: str):
    return lambda x, weight, sites: submanifold_conv2d(x, weight, sites, backend)


def test_an_spconv_that_cannot_be_imported_is_one_line(monkeypatch):
    """Two of its packages at once overwrite each other's files."""
    monkeypatch.setattr(rulebook, 'spconv_installed', lambda: True)
    monkeypatch.setitem(sys.modules, 'spconv', None)
    x, weight, mask = random_case(2)
    with pytest.raises(ValueError, match=r'^spconv cannot be imported \(.*\); install one of .* only one$'):
        spconv_conv(x, weight, ActiveSites(mask))


@pytest.mark.parametrize('backend', PLAIN)
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


def test_200_random_cases_of_gather_equal_the_dense_form():
    cases = [random_case(seed) for seed in range(200)]
    exact = [value_and_gradients(by('dense'), *case) for case in cases]
    for threads in (1, 2):
        with with_threads(threads):
            results = [value_and_gradients(by('gather'), *case) for case in cases]
        for seed in range(200):
            for result, expected in zip(results[seed], exact[seed], strict=True):
                torch.testing.assert_close(result, expected, msg=lambda m, s=seed: f'case {s}: {m}')


@pytest.mark.parametrize('backend', ['gather', 'dense'])
@pytest.mark.parametrize(
    'dtype, tolerance', [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)], ids=str
)
def test_200_random_cases_of_every_type_equal_the_dense_form_in_float64(backend, dtype, tolerance):
    for seed in range(200):
        x, weight, mask = random_case(seed, dtype=dtype)
        exact = value_and_gradients(by('dense'), x.double(), weight.double(), mask)
        for result, expected in zip(value_and_gradients(by(backend), x, weight, mask), exact, strict=True):
            assert (result - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1), f'case {seed}'


@pytest.mark.skipif(not spconv_installed(), reason='spconv is not installed')
def test_200_random_cases_of_spconv_equal_the_dense_form(monkeypatch):
    """On the CPU by the Native algorithm of a CUDA package; where there is CUDA, by spconv's own choice there too."""
    from spconv.pytorch import ops

    monkeypatch.setattr(ops, 'get_current_stream', lambda: 0)  # asks CUDA even for CPU tensors
    cases = [random_case(seed, dtype=torch.float32) for seed in range(200)]
    exact = [value_and_gradients(by('dense'), x.double(), weight.double(), mask) for x, weight, mask in cases]
    results = []
    for threads in (1, 2):
        with with_threads(threads):
            results.append([value_and_gradients(lambda *a: spconv_conv(*a, algorithm='Native'), *c) for c in cases])
    if torch.cuda.is_available():
        results.append([[t.cpu() for t in value_and_gradients(by('spconv'), *(t.cuda() for t in c))] for c in cases])
    for found in results:
        for seed in range(200):
            for got, expected in zip(found[seed], exact[seed], strict=True):
                assert (got - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1), f'case {seed}'


@pytest.mark.skipif(not spconv_installed(), reason='spconv is not installed')
def test_spconv_builds_its_rulebook_once():
    x, weight, mask = random_case(1, 3, torch.float32)
    sites = ActiveSites(mask)
    first = spconv_conv(x, weight, sites, 'Native')
    (book,) = sites.rulebooks.values()
    assert torch.equal(spconv_conv(x, weight, sites, 'Native'), first) and list(sites.rulebooks.values())[0] is book


def test_without_spconv_one_line_names_the_packages(monkeypatch):
    monkeypatch.setattr(submanifold, 'spconv_installed', lambda: False)
    with pytest.raises(ValueError, match=r'^the sparse backend spconv needs .*spconv-cu126.*$'):
        SubmanifoldConv2d(4, backend='spconv')
    monkeypatch.setattr(submanifold, 'spconv_installed', lambda: True)
    x, weight, mask = random_case(2)
    with pytest.raises(ValueError, match='runs on CUDA, x is on cpu'):
        submanifold_conv2d(x, weight, ActiveSites(mask), 'spconv')


@pytest.mark.parametrize('backend', PLAIN)
def test_inactive_sites_are_untouched(backend):
    x, weight, mask = random_case(7)
    out = submanifold_conv2d(x, weight, ActiveSites(mask), backend)
    inactive = (~mask).expand_as(x)
    assert torch.equal(out[inactive], x[inactive])
    assert not torch.equal(out, x)


@pytest.mark.parametrize('backend', PLAIN)
def test_without_an_active_site_the_input_comes_back(backend):
    x, weight, mask = random_case(4)
    out, grad_x, grad_weight = value_and_gradients(by(backend), x, weight, torch.zeros_like(mask))
    assert torch.equal(out, x) and not grad_weight.any()
    torch.testing.assert_close(grad_x, torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape))


@pytest.mark.parametrize('backend', PLAIN)
@pytest.mark.parametrize('dims', [[-1], [-2], [-2, -1]])
def test_commutes_with_flipping_input_mask_and_kernel_together(backend, dims):
    x, weight, mask = random_case(11)
    out = submanifold_conv2d(x, weight, ActiveSites(mask), backend)
    flipped = submanifold_conv2d(x.flip(dims), weight.flip(dims), ActiveSites(mask.flip(dims)), backend)
    torch.testing.assert_close(flipped, out.flip(dims))


@pytest.mark.parametrize('backend', PLAIN)
def test_the_input_is_left_alone_and_runs_agree_to_the_bit(backend):
    x, weight, mask = random_case(12)
    before = x.clone()
    first, second = (value_and_gradients(by(backend), x, weight, mask) for _ in range(2))
    assert torch.equal(x, before) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize('backend', PLAIN)
@pytest.mark.parametrize('x_type', [torch.float32, torch.bfloat16])
def test_autocast(backend, x_type):
    x, weight, mask = random_case(8, dtype=torch.float32)
    exact = value_and_gradients(by('dense'), x, weight, mask)
    with torch.autocast('cpu', torch.bfloat16):
        results = value_and_gradients(by(backend), x.to(x_type), weight, mask)
        assert submanifold_conv2d(x.to(x_type), weight, ActiveSites(mask), backend).dtype == x_type
    for result, expected in zip(results, exact, strict=True):
        torch.testing.assert_close(result, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


def test_sites_are_listed_in_raster_order_with_their_neighbours():
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    mask[0, 0, [0, 1], [1, 2]] = mask[1, 0, 2, 3] = True
    sites = ActiveSites(mask)
    assert sites.count == 3 and sites.raster.tolist() == [1, 6, 23]
    assert sites.neighbours(3).tolist() == [
        [3, 3, 3, 3, 0, 3, 3, 3, 1],
        [0, 3, 3, 3, 1, 3, 3, 3, 3],
        [3, 3, 3, 3, 2, 3, 3, 3, 3],
    ]


def test_the_table_is_built_once():
    sites = ActiveSites(random_case(1)[2])
    assert sites.neighbours(3) is sites.neighbours(3)


def test_auto_follows_the_table_of_crossovers(monkeypatch):
    monkeypatch.setattr(crossover, 'GATHER_UP_TO', {False: 0.5, True: 0.25})
    x, weight = torch.zeros(1, 4, 8, 8), torch.zeros(4, 4, 3, 3, requires_grad=True)
    for active, without, wanted in ((16, 'gather', 'gather'), (17, 'gather', 'dense'), (33, 'dense', 'dense')):
        mask = (torch.arange(64) < active).view(1, 1, 8, 8)
        assert choose_backend(x, weight, ActiveSites(mask)) == wanted
        with torch.no_grad():
            assert choose_backend(x, weight, ActiveSites(mask)) == without
    few = ActiveSites((torch.arange(64) < 3).view(1, 1, 8, 8).to('meta'))
    assert choose_backend(x.to('meta'), weight, few) == 'dense'


def test_bad_input_is_one_clear_error():
    x, weight, mask = random_case(2, 3)
    sites = ActiveSites(mask)
    for wrong in (mask.float(), mask[:, 0], mask.expand(-1, 2, -1, -1)):
        with pytest.raises(ValueError, match='bool of shape'):
            ActiveSites(wrong)
    for wrong in (F.pad(x, (0, 1)), torch.cat([x, x]), x[0], x.to('meta')):
        with pytest.raises(ValueError, match='does not match'):
            submanifold_conv2d(wrong, weight, sites)
    with pytest.raises(ValueError, match='odd'):
        submanifold_conv2d(x, weight[..., :2, :2], sites)
    for wrong in (weight[:, :1].expand(-1, x.shape[1] + 1, -1, -1), weight[..., :1], weight[0]):
        with pytest.raises(ValueError, match='weight must be'):
            submanifold_conv2d(x, wrong, sites)
    with pytest.raises(ValueError, match='float32'):
        submanifold_conv2d(x, weight.float(), sites)
    with pytest.raises(ValueError, match='auto, dense, gather, spconv'):
        submanifold_conv2d(x, weight, sites, 'cuda')
    with pytest.raises(ValueError, match='auto, dense, gather, spconv'):
        SubmanifoldConv2d(4, backend='cuda')
