"""The package as a library: pictures of every kind in, the same kind out, and what the docstrings show."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import iafmsr
from iafmsr.archs import IAFMNet
from iafmsr.errors import UserError
from iafmsr.layers import ARM, CGFN, GDN, IGRA, DifferenceConv2d, Guidance, InformationDensity, Router
from iafmsr.nets.tiles import Enlarger
from iafmsr.tools import api

NAMES = {'np': np, 'torch': torch, 'Image': Image, 'iafmsr': iafmsr}
SHOWN = (iafmsr, api.load, api.upscale, api.density, iafmsr.InformationEntropyLoss, iafmsr.IAFMNet)
LAYERS = (ARM, CGFN, GDN, IGRA, DifferenceConv2d, Guidance, InformationDensity, Router)


@pytest.fixture(scope='module')
def net() -> IAFMNet:
    torch.manual_seed(0)
    net = IAFMNet(scale=2, num_feat=8, num_block=2, num_routed=1)
    net.router.thresholds.copy_(torch.linspace(1e3, 0, len(net.router.thresholds)))  # nothing reaches a low budget
    return net


def test_the_table_of_the_page_has_the_signatures(repo_root: Path) -> None:
    page = (repo_root / 'docs/api.md').read_text(encoding='utf-8')
    table = dict(re.findall(r'^\| `iafmsr\.(\w+)(\(.*?\))` \|', page, re.MULTILINE))
    assert table.keys() == {'load', 'upscale', 'density', 'InformationEntropyLoss', 'register'}
    for name, written in table.items():
        signature = inspect.signature(getattr(iafmsr, name))
        bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        assert str(signature.replace(parameters=bare, return_annotation=signature.empty)) == written, name


@pytest.fixture(scope='module')
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 14, 3), np.uint8)


@pytest.mark.parametrize('shown', [*SHOWN, *LAYERS], ids=lambda shown: shown.__name__)
def test_the_examples_of_docstrings_hold(shown: object) -> None:
    found = doctest.DocTestFinder(recurse=False).find(shown, shown.__name__, extraglobs=NAMES)
    assert sum(len(test.examples) for test in found)
    for test in found:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_all_kinds_of_pictures_give_one_result(net: IAFMNet, pixels: np.ndarray, tmp_path: Path) -> None:
    """It is what the network makes of the picture, rounded where the kind is of whole numbers."""
    tensor = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)
    with torch.no_grad():
        wanted = net.eval()(tensor[None]).clamp(0, 1)
    net.train()
    rounded = (wanted[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    for picture in (pixels, Image.fromarray(pixels), str(tmp_path / 'a.png'), tmp_path / 'a.png'):
        made = iafmsr.upscale(picture, net)
        assert isinstance(made, type(picture) if isinstance(picture, np.ndarray) else Image.Image)
        assert np.abs(np.asarray(made).astype(int) - rounded).max() <= 1
    torch.testing.assert_close(iafmsr.upscale(tensor, net), wanted[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(iafmsr.upscale(tensor[None], net), wanted, atol=1e-5, rtol=0)
    in_floats = iafmsr.upscale(pixels / 255, net)
    assert in_floats.dtype == np.float64
    np.testing.assert_allclose(in_floats, wanted[0].permute(1, 2, 0), atol=1e-5)
    assert iafmsr.upscale((tensor * 255).byte(), net).dtype == torch.uint8


def test_gray_stays_gray_and_transparency_is_enlarged(net: IAFMNet, pixels: np.ndarray) -> None:
    assert iafmsr.upscale(pixels[..., 0], net).shape == (22, 28)
    assert iafmsr.upscale(pixels[..., :1], net).shape == (22, 28, 1)
    for mode in ('L', 'LA', 'RGBA'):
        made = iafmsr.upscale(Image.fromarray(pixels).convert(mode), net)
        assert made.mode == mode and made.size == (28, 22)


def test_keywords_are_heard_and_the_network_is_left_as_it_is(
    net: IAFMNet, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    whole = iafmsr.upscale(pixels / 255, net.train())
    assert not np.allclose(whole, iafmsr.upscale(pixels / 255, net, ensemble=True), atol=1e-4)
    assert not np.allclose(whole, iafmsr.upscale(pixels / 255, net, budget=0.2), atol=1e-4)
    dtypes = []
    monkeypatch.setattr('iafmsr.nets.in_engine.has', lambda precision, device: True)
    monkeypatch.setattr(Enlarger, '_run', lambda self, function, lq, **maps: dtypes.append(self.dtype) or function(lq))
    iafmsr.upscale(pixels, net, precision='bf16')
    assert dtypes == [torch.bfloat16]
    assert net.training and net.budget == 1 and all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_density_is_the_networks_own_map(net: IAFMNet, pixels: np.ndarray) -> None:
    tensor = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)
    with torch.no_grad():
        wanted = net.eval()(tensor[None], return_density=True)[1].idm
    torch.testing.assert_close(iafmsr.density(tensor[None], net), wanted)
    torch.testing.assert_close(iafmsr.density(tensor, net), wanted[0])
    for picture in (pixels, Image.fromarray(pixels)):
        np.testing.assert_allclose(iafmsr.density(picture, net), wanted[0, 0], rtol=1e-5)


def test_mistakes_are_one_line(net: IAFMNet, pixels: np.ndarray, tmp_path: Path) -> None:
    for picture, weights, keywords, said in (
        (pixels, 'IAFMNet_x5', {}, r'^IAFMNet_x5: no such file, and none of the names IAFMNet'),
        (tmp_path / 'no.png', net, {}, r'no\.png: cannot be read'),
        (pixels[..., :2], net, {}, r'^pixels of shape \(11, 14, 2\)'),
        (pixels.astype(int), net, {}, r'^pixels of type int64: must be one of uint8'),
        (torch.zeros(3), net, {}, r'^a tensor of shape \(3,\)'),
        (7, net, {}, r'^int: must be a file, a Pillow image, an array or a tensor'),
        (pixels, net, {'precision': 'int8'}, r"^precision 'int8': must be one of fp32, bf16, fp16"),
    ):
        with pytest.raises(UserError, match=said):
            iafmsr.upscale(picture, weights, **keywords)


def test_it_works_without_basicsr_and_without_what_only_training_needs(repo_root: Path) -> None:
    code = (
        'import sys\n'
        'for name in ("basicsr", "torchvision", "lmdb", "skimage", "tensorboard"): sys.modules[name] = None\n'
        'import iafmsr, numpy\n'
        'assert iafmsr.upscale(numpy.zeros((5, 4, 3), "uint8")).shape == (20, 16, 3)\n'
        'assert iafmsr.density(numpy.zeros((5, 4, 3), "uint8")).shape == (5, 4)\n'
        'assert iafmsr.IAFMNet and iafmsr.InformationEntropyLoss and iafmsr.layers.ARM\n'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
