"""IAFMNet among its neighbours: Hugging Face's folders, safetensors, spandrel's registry."""

from __future__ import annotations

import doctest
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import iafmsr
from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets.files import FOLDER, find_weights, known_names
from iafmsr.nets.loading import load_net

FORMS = {'scale': 3, 'num_feat': 8, 'num_block': 2, 'guide': 'idm', 'k': 0.2, 'ssconv': 'own'}
LQ = torch.rand(1, 3, 9, 13, generator=torch.Generator().manual_seed(0))
needs_hub = pytest.mark.skipif(
    find_spec('huggingface_hub') is None or find_spec('safetensors') is None, reason="needs the extra 'hub'"
)
needs_spandrel = pytest.mark.skipif(find_spec('spandrel') is None, reason="needs the extra 'spandrel'")


def net(**keywords: object) -> IAFMNet:
    torch.manual_seed(0)
    return IAFMNet(**keywords).eval()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    with torch.no_grad():
        return torch.equal(one.eval()(LQ), other.eval()(LQ))


@needs_hub
def test_a_pretrained_folder_gives_the_same_network(tmp_path: Path) -> None:
    saved = net(**FORMS)
    saved.save_pretrained(tmp_path / 'folder')
    config = json.loads((tmp_path / 'folder/config.json').read_text())
    assert config['type'] == 'IAFMNet' and config['guide'] == 'idm' and 'sparse_backend' not in config
    found = IAFMNet.from_pretrained(tmp_path / 'folder')
    assert type(found) is IAFMNet and same(found, saved) and type(saved) is IAFMNet
    assert IAFMNet.from_pretrained(tmp_path / 'folder', sparse_backend='gather').sparse_backend == 'gather'
    # and the folder is weights for every command
    assert same(load_net(*find_weights(str(tmp_path / 'folder'))).net, saved)


def test_the_keywords_of_a_network_are_known_and_copies_keep_them() -> None:
    import copy

    given = net(**FORMS)
    assert given.keywords['guide'] == 'idm' and given.keywords['gain'] == 64
    assert copy.deepcopy(given).keywords == given.keywords
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_feet'"):
        IAFMNet(num_feet=8)


def test_without_the_packages_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'safetensors', None)
    with pytest.raises(UserError, match="safetensors is not installed; install the extra 'hub'"):
        net(**FORMS).save_pretrained(tmp_path)
    (tmp_path / 'a.safetensors').write_bytes(b'')
    with pytest.raises(UserError, match="a.safetensors: safetensors is not installed; install the extra 'hub'"):
        load_net(tmp_path / 'a.safetensors')


@needs_hub
def test_safetensors_are_written_and_read(tmp_path: Path) -> None:
    torch.save({'params': net(**FORMS).state_dict(), 'network_g': {'type': 'IAFMNet', **FORMS}}, tmp_path / 'a.pth')
    file = tmp_path / 'a.safetensors'
    assert main(['export', '--weights', str(tmp_path / 'a.pth'), '--output', str(file)]) == 0
    assert same(load_net(file).net, net(**FORMS))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match=r'a\.safetensors: not a file of weights that loads safely'):
        load_net(file)


@needs_spandrel
def test_spandrel_loads_the_same_network() -> None:
    import iafmsr

    for _ in range(2):  # once per process, however often it is called
        iafmsr.spandrel.register()
    from spandrel import ModelLoader

    ours = net(scale=2, num_feat=8, num_block=2, num_routed=1)
    found = ModelLoader().load_from_state_dict(ours.state_dict())
    assert (found.architecture.id, found.scale, found.input_channels) == ('IAFMNet', 2, 3)
    assert same(found.model, ours)
    for name in known_names():  # whatever their forms
        loaded = ModelLoader().load_from_file(FOLDER / f'{name}.pth')
        assert same(loaded.model, load_net(FOLDER / f'{name}.pth').net), name


@needs_spandrel
def test_the_example_of_spandrel_holds() -> None:
    for test in doctest.DocTestFinder(recurse=False).find(
        iafmsr.spandrel.register, 'register', globs={'iafmsr': iafmsr}
    ):
        assert doctest.DocTestRunner().run(test).failed == 0
