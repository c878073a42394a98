"""Exported networks: equal to PyTorch's at any size, and refused when they are not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exportable import exportable
from PIL import Image
from torch import nn
from torch.export import Dim

import iafmsr
from iafmsr import archs
from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets.agreement import LIMIT, SIZES, largest_difference
from iafmsr.nets.compiled import refusal
from iafmsr.nets.engines import engine_net, load_onnx
from iafmsr.nets.graph import METADATA, to_onnx
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import TrainedNet

onnx = pytest.importorskip('onnx', reason="the extra 'onnx' is not installed")
for package in ('onnxscript', 'onnxruntime'):
    pytest.importorskip(package, reason="the extra 'onnx' is not installed")
ENGINES = [name for name in ('onnxruntime', 'openvino') if refusal(name) is None]


@pytest.fixture(scope='module')
def trained():
    return exportable()


@pytest.fixture(scope='module')
def content(trained):
    return to_onnx(trained)


def difference(trained: TrainedNet, exported: nn.Module, *size: int, seed: int = 0) -> float:
    lq = torch.rand(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(seed))
    return float((trained.net(lq) - exported(lq)).abs().max())


@pytest.mark.parametrize('engine', ENGINES)
def test_any_number_and_size_of_pictures_gives_what_pytorch_gives(trained, content, engine):
    exported = engine_net(content, engine)
    assert largest_difference(trained.net, exported, LIMIT['float32']) < 1e-4
    for size in [(1, 1, 9), (4, 8, 8), (2, 40, 3), (1, 57, 64)]:
        assert difference(trained, exported, *size) < 1e-4


@pytest.mark.parametrize('arch, keywords', [('RLFN', {'num_feat': 8}), ('ETDS', {'num_feat': 8})])
def test_peers_are_exported(arch, keywords):
    torch.manual_seed(0)
    peer = TrainedNet(getattr(archs, arch)(scale=2, num_block=1, **keywords).eval().requires_grad_(False), arch, 2)
    assert difference(peer, engine_net(to_onnx(peer), ENGINES[-1]), 1, 21, 18) < 1e-4


def test_a_peer_is_exported_where_no_iafmnet_has_been_made(tmp_path: Path, repo_root: Path) -> None:
    """The operator of IAFMNet is known in a process of which nothing else has loaded it."""
    torch.save({'params': archs.RLFN(scale=2, num_feat=8, num_block=1).state_dict()}, tmp_path / 'rlfn.pth')
    export = ['export', '--weights', str(tmp_path / 'rlfn.pth'), '--output', str(tmp_path / 'a.onnx')]
    command = [sys.executable, '-m', 'iafmsr', *export, '--size', '24x20']
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(repo_root)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'a.onnx').exists()


def test_a_graph_that_takes_no_small_pictures_is_refused_in_a_line(tmp_path, capsys):
    torch.save({'params': archs.RLFN(scale=2, num_feat=8, num_block=1).state_dict()}, tmp_path / 'rlfn.pth')
    with pytest.raises(SystemExit):
        main(['export', '--weights', str(tmp_path / 'rlfn.pth'), '--output', str(tmp_path / 'a.onnx')])
    said = capsys.readouterr().err
    assert 'error: the exported net does not run at every size in' in said and '--size' in said
    assert not (tmp_path / 'a.onnx').exists()


def test_a_net_of_adaptive_pooling_is_exported_for_one_size(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save({'params': archs.SAFMN(scale=2, dim=8, n_blocks=1).state_dict()}, tmp_path / 'safmn.pth')
    export = ['export', '--weights', str(tmp_path / 'safmn.pth'), '--output', str(tmp_path / 'a.onnx')]
    with pytest.raises(SystemExit):
        main(export)
    assert '--size exports it for pictures of one size' in capsys.readouterr().err
    assert main([*export, '--size', '40x24']) == 0
    assert '40x24)' in capsys.readouterr().out
    with pytest.raises(UserError, match=r'a graph for pictures of one size, \[40, 24\]'):
        load_net(tmp_path / 'a.onnx')


def test_no_convolution_is_split_after_it(content):
    """Engines copy what a Split gives; each part has a convolution of its own."""
    nodes = onnx.load_from_string(content).graph.node
    made_by_convolutions = {name for node in nodes if node.op_type == 'Conv' for name in node.output}
    assert not [node for node in nodes if node.op_type == 'Split' and node.input[0] in made_by_convolutions]


def test_ties_are_active_together_or_not_at_all_in_the_graph_too():
    """Sobel beside an edge is the same all along it: two columns of 24 sites tie, and fit where 48 may be active."""
    lq = torch.full((2, 3, 24, 24), 0.5)
    lq[..., 12:] = 0.75
    results = []
    for k, active in ((47 / 576, 0), (48 / 576, 48)):
        trained = exportable(mask='sobel', k=k)
        exported = engine_net(to_onnx(trained), ENGINES[-1])
        sr, density = trained.net(lq, return_density=True)
        assert density.mask.flatten(1).sum(1).tolist() == [active, active]
        assert (exported(lq) - sr).abs().max() < 1e-4
        results.append(sr)
    assert (results[0] - results[1]).abs().max() > 1e-3  # what the mask decides is visible


@pytest.mark.parametrize(('k', 'size'), [(0.01, (5, 30)), (1e-4, (3, 3))])
def test_as_many_sites_are_active_as_in_pytorch(k, size):
    """Also where k H W lies half way between two numbers, of which float32 and float64 may choose different ones."""
    trained = exportable(k=k)
    assert difference(trained, engine_net(to_onnx(trained), ENGINES[-1]), 1, *size) < 1e-4


def test_torch_exports_the_net_with_free_sizes() -> None:
    """By their names, without onnx; more than a cell of the attention is the least."""
    net = IAFMNet(scale=4, num_feat=8, num_block=1).eval().requires_grad_(False)
    sizes = {0: Dim('batch'), 2: Dim('height', min=9), 3: Dim('width', min=9)}
    exported = torch.export.export(net, (torch.rand(2, 3, 33, 47),), dynamic_shapes=(sizes,)).module()
    for shape in ((1, 3, 16, 24), (3, 3, 50, 21), (1, 3, 90, 160)):
        lq = torch.rand(shape)
        assert (exported(lq) - net(lq)).abs().max() < 1e-5


def test_the_programs_of_the_pages_run(trained, content, repo_root, tmp_path, monkeypatch):
    """Those of docs/runtimes.md and docs/upscaling.md, of a small network in place of IAFMNet_x4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(iafmsr, 'load', lambda weights: trained.net, raising=False)
    (tmp_path / 'IAFMNet_x4.onnx').write_bytes(content)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.jpg')
    by_onnxruntime, by_export = (
        re.search(r'```python\n(.*?)```', (repo_root / f'docs/{page}.md').read_text(encoding='utf-8'), re.DOTALL)[1]
        for page in ('runtimes', 'upscaling')
    )
    exec(by_onnxruntime, {})
    lq = torch.from_numpy(np.asarray(Image.open('photo.jpg'), np.float32) / 255).permute(2, 0, 1)[None]
    expected = (trained.net(lq)[0].permute(1, 2, 0).clamp(0, 1) * 255).round().numpy()
    assert abs(np.asarray(Image.open('photo_x4.png')) - expected).max() <= 1
    exec(by_export, values := {})
    assert values['exported'].module()(torch.rand(1, 3, 16, 24)).shape == (1, 3, 32, 48)


def test_other_forms_of_the_net_are_exported():
    for keywords in (
        {'ide': 'literal', 'guidance': 'product', 'norm': 'layer', 'attention': 'text', 'scale': 3},
        {'guidance': 'concat', 'arm': 'off', 'mask': 'sobel', 'scale': 4},
    ):
        trained = exportable(**keywords)
        assert difference(trained, engine_net(to_onnx(trained), ENGINES[-1]), 1, 21, 18) < 1e-4


def test_the_positions_of_a_budget_are_chosen_in_the_graph():
    trained = exportable(num_routed=1)
    lq = torch.rand(1, 3, 30, 41, generator=torch.Generator().manual_seed(0))
    idm = trained.net(lq, return_density=True)[1].idm
    trained.net.router.thresholds.copy_(torch.quantile(idm.flatten(), 1 - torch.arange(1, 21) / 20))
    trained.net.budget = 0.3
    exported = engine_net(to_onnx(trained), ENGINES[-1])
    assert difference(trained, exported, 2, 30, 41) < 1e-5
    trained.net.budget = 1.0
    assert difference(trained, exported, 2, 30, 41) > 1e-4


def test_half_precision_takes_and_gives_float32(trained):
    content = to_onnx(trained, half=True)
    exported = engine_net(content, 'onnxruntime')
    largest = largest_difference(trained.net, exported, LIMIT['float16'])
    assert 1e-6 < largest < 1 / 510  # not float32 after all
    weights = {tensor.data_type for tensor in onnx.load_from_string(content).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights or any(
        node.op_type == 'Cast' for node in onnx.load_from_string(content).graph.node
    )
    assert exported(torch.rand(1, 3, 4, 4)).dtype == torch.float32


def test_every_constant_is_used(content):
    graph = onnx.load_from_string(content).graph
    assert {tensor.name for tensor in graph.initializer} <= {name for node in graph.node for name in node.input}


def test_the_net_itself_is_left_as_it_was(trained, content):
    assert {module.backend for module in trained.net.modules() if hasattr(module, 'backend')} == {'auto'}


def test_the_file_says_what_it_is_and_nothing_of_where_it_was_made(content):
    model = onnx.load_from_string(content)
    assert json.loads({p.key: p.value for p in model.metadata_props}[METADATA]) == {
        'arch': 'IAFMNet',
        'scale': 2,
        'precision': 'float32',
        'margin': 24,
        'exact': ['mask', 'f0', 'guide', 'mu', 'base'],
    }
    dims = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [['batch', 3, 'height', 'width'], ['batch', 3, '2*height', '2*width']]
    assert b'.py' not in content


def test_a_wrong_net_fails_the_check(trained):
    wrong = exportable()
    wrong.net.tail.bias += 2e-4
    with pytest.raises(UserError, match=r'differs by 2\.\de-04 at 1x1 \(batch 1, soft\); 1\.0e-04 is the limit'):
        largest_difference(trained.net, wrong.net, 1e-4)
    wrong = exportable(k=0.5)
    with pytest.raises(UserError, match='differs by'):
        largest_difference(trained.net, wrong.net, 1e-4)


def test_a_tie_that_rounding_decides_does_not_fail_the_check(trained):
    calls = []

    def at_first_wrong(lq):
        calls.append(lq.shape)
        return trained.net(lq) + (len(calls) == 3)

    assert largest_difference(trained.net, at_first_wrong, 1e-4) == 0 and len(calls) == 3 * len(SIZES) + 1


def test_the_command_writes_a_checked_file_that_upscales(trained, tmp_path, capsys):
    network = {'type': 'IAFMNet', 'scale': 2, 'num_feat': 8, 'num_block': 1}
    torch.save({'params': trained.net.state_dict(), 'network_g': network}, tmp_path / 'tiny.pth')
    assert main(['export', '--output', str(tmp_path / 'net.onnx'), '--weights', str(tmp_path / 'tiny.pth')]) == 0
    out, err = capsys.readouterr()
    assert 'iafmsr: exporting IAFMNet x2\niafmsr: comparing the file in onnxruntime with PyTorch\n' in err
    assert 'IAFMNet x2, float32' in out and 'onnxruntime' in out and out.count('\n') == 2
    loaded = load_net(tmp_path / 'net.onnx')
    assert (loaded.arch, loaded.scale) == ('IAFMNet', 2) and difference(trained, loaded.net, 1, 12, 13) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ['net.onnx', 'tiny.pth']
    # the same command, the same picture
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)).save(tmp_path / 'a.png')
    for kind in ('pth', 'onnx'):
        weights = {'pth': 'tiny.pth', 'onnx': 'net.onnx'}[kind]
        assert (
            main(f'upscale {tmp_path}/a.png --output {tmp_path}/{kind}.png --weights {tmp_path}/{weights}'.split()) == 0
        )
    by_torch, by_onnx = (np.asarray(Image.open(tmp_path / f'{kind}.png')).astype(int) for kind in ('pth', 'onnx'))
    assert by_onnx.shape == (40, 62, 3) and abs(by_torch - by_onnx).max() <= 1


def test_what_is_no_exported_net_is_refused(tmp_path, content, capsys):
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    (tmp_path / 'other.onnx').write_bytes(model.SerializeToString())
    (tmp_path / 'cut.onnx').write_bytes(content[: len(content) // 2])
    (tmp_path / 'text.onnx').write_text('no net')
    for name, fault in [
        ('other', 'not written by iafmsr export'),
        ('cut', 'not an ONNX file'),
        ('text', 'not an ONNX file'),
        ('none', 'cannot be read'),
    ]:
        with pytest.raises(UserError, match=f'{name}.onnx: {fault}') as caught:
            load_onnx(tmp_path / f'{name}.onnx')
        assert '\n' not in str(caught.value)
    for arguments, fault in [
        (['--output', 'a.txt'], '--output a.txt: the name must end in .onnx, .pth or .safetensors'),
        (['--output', 'a.pth', '--fp16'], '--fp16: only for an ONNX file'),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(['export', '--weights', 'b', *arguments])
        assert stop.value.code == 2 and fault in capsys.readouterr().err
