"""Networks in engines: the same pictures, whole and in tiles, converted once, and never another result."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exportable import exportable
from PIL import Image

import iafmsr
from iafmsr.archs import SAFMN
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets import in_engine as module
from iafmsr.nets.agreement import LIMIT, largest_difference
from iafmsr.nets.compiled import Run, compiled
from iafmsr.nets.engines import EngineNet, engine_net
from iafmsr.nets.graph import part, parts_of, to_onnx
from iafmsr.nets.in_engine import graphs_folder, in_engine, unfit
from iafmsr.nets.tiles import Enlarger, is_exact
from iafmsr.nets.trained import TrainedNet

for package in ('onnxscript', 'onnxruntime', 'openvino'):
    pytest.importorskip(package, reason="the extras 'onnx' and 'fast' are not installed")

onnx = pytest.importorskip('onnx')
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def trained() -> TrainedNet:
    return exportable()


@pytest.fixture(scope='module')
def content(trained: TrainedNet) -> bytes:
    return to_onnx(trained)


@pytest.fixture(autouse=True)
def exported(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts exports, which are made once for all tests; kept graphs go into a folder of the test."""
    calls: list[int] = []
    monkeypatch.setattr(module, 'to_onnx', lambda trained: calls.append(1) or content)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('IAFMSR_ENGINE')
    return calls


def lines() -> tuple[list[str], dict]:
    said: list[str] = []
    return said, {'say': said.append}


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
def test_tiles_have_the_mask_of_the_whole_picture(trained: TrainedNet, engine: str) -> None:
    inside = in_engine(trained, engine, CPU)
    assert is_exact(inside) and inside.net.margin == trained.net.margin
    pixels = np.random.default_rng(0).random((75, 140, 3), np.float32)
    pixels[:, :70] *= 0.1  # the active sites lie at the right: tiles that chose their own would differ
    by_torch = Enlarger(trained, CPU)(pixels, 0)
    for tile in (0, 24, 40):
        np.testing.assert_allclose(Enlarger(inside, CPU)(pixels, tile), by_torch, atol=1e-5)
    lq = torch.from_numpy(pixels[:, 70:]).permute(2, 0, 1)[None]
    assert (trained.net(lq).clamp(0, 1)[0].permute(1, 2, 0).numpy() - by_torch[:, 140:])[:, 48:].max() > 1e-3


@pytest.mark.parametrize('engine', ['openvino', 'onnxruntime'])
def test_a_picture_larger_than_the_graph_was_tried_with(trained: TrainedNet, engine: str) -> None:
    inside = in_engine(trained, engine, CPU).net
    for height, width in ((91, 161), (300, 200)):
        lq = torch.rand(1, 3, height, width)
        assert float((inside(lq) - trained.net(lq)).abs().max()) < LIMIT['float32']


def test_half_precision_computes_the_density_in_float32(
    trained: TrainedNet, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what follows F0, the guide and the mask is in half precision, for whole pictures and tiles; the rest never
    sees a rounded pixel."""
    compiled_in: list[str] = []

    def in_float32(content: bytes, engine: str, precision: str) -> Run:
        compiled_in.append(precision)
        return compiled(content, engine)

    monkeypatch.setattr('iafmsr.nets.engines.compiled', in_float32)
    net = engine_net(content, 'openvino', 'bf16')
    pixels = np.random.default_rng(0).random((75, 90, 3), np.float32)
    for tile in (0, 40):
        by_torch, got = (Enlarger(of, CPU)(pixels, tile) for of in (trained, replace(trained, net=net)))
        np.testing.assert_allclose(got, by_torch, atol=1e-5)
    # the whole graph, which is not used; exact and body; local_map, maps and exact_of_tile
    assert compiled_in == ['bf16', 'fp32', 'bf16', 'fp32', 'fp32', 'fp32']
    body = onnx.load_from_string(part(content, *parts_of(net.described)['body']))
    assert {node.op_type for node in body.graph.node if 'lq' in node.input} == {'Shape'}


@pytest.mark.skipif(bool(unfit('openvino', CPU, 'bf16')), reason='OpenVINO has no bf16 on this CPU')
def test_bf16_is_taken_where_the_density_is_exact(
    trained: TrainedNet, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = in_engine(trained, 'openvino', CPU, 'bf16').net
    lq = torch.rand(1, 3, 24, 40)
    assert 1e-5 < float((net(lq) - trained.net(lq)).abs().max()) < 0.05
    inexact = onnx.load_from_string(content)
    (entry,) = inexact.metadata_props
    entry.value = json.dumps({key: value for key, value in json.loads(entry.value).items() if key != 'exact'})
    monkeypatch.setattr(module, 'to_onnx', lambda trained: inexact.SerializeToString())
    monkeypatch.setenv('XDG_CACHE_HOME', str(graphs_folder().parent / 'other'))
    with pytest.raises(UserError, match='its result differs by'):
        in_engine(trained, 'openvino', CPU, 'bf16')


def test_half_precision_may_be_twice_as_coarse_as_in_pytorch(trained: TrainedNet) -> None:
    def off(by: float) -> Any:
        return lambda lq: trained.net(lq) * (1 - by)

    assert largest_difference(trained.net, off(0.001), LIMIT['bfloat16']) < LIMIT['bfloat16']
    with pytest.raises(UserError, match='its result differs by'):
        largest_difference(trained.net, off(0.01), LIMIT['bfloat16'])
    assert largest_difference(trained.net, off(0.01), LIMIT['bfloat16'], coarse=off(0.006)) > LIMIT['bfloat16']
    with pytest.raises(UserError, match='its result differs by'):
        largest_difference(trained.net, off(0.01), LIMIT['bfloat16'], coarse=off(0.004))


def test_a_process_has_one_core(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two, signal handlers run in freed memory: data workers that end then crash the process."""
    compiled(content, 'openvino')
    monkeypatch.delattr('openvino.Core')
    compiled(content, 'openvino')


def test_auto_converts_once(trained: TrainedNet, exported: list[int]) -> None:
    told: list[str] = []
    nets = [in_engine(trained, 'auto', CPU, begins=told.append).net for _ in range(2)]
    assert len(told) == 1 and told[0].startswith('IAFMNet is prepared for openvino: ')
    assert exported == [1] and [net.engine for net in nets] == ['openvino'] * 2
    assert sorted(file.suffix for file in graphs_folder().iterdir()) == ['.checked', '.onnx']
    in_engine(trained, 'onnxruntime', CPU)  # of the same graph
    assert exported == [1]
    # other weights, another option: another graph
    trained.net.tail.bias[0] += 1e-5
    trained.net.density.k = 0.06
    try:
        in_engine(trained, 'auto', CPU)
    finally:
        trained.net.tail.bias[0] -= 1e-5
        trained.net.density.k = 0.05
    assert exported == [1, 1]


def test_what_differs_is_not_taken_and_not_tried_again(
    trained: TrainedNet, exported: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._LIMITS, 'fp32', 0.0)
    said, say = lines()
    assert in_engine(trained, 'auto', CPU, **say) is trained
    assert len(said) == 1 and said[0].startswith('IAFMNet does not run in OpenVINO: its result differs by ')
    with pytest.raises(UserError, match='^engine openvino: its result differs by'):
        in_engine(trained, 'openvino', CPU)
    assert exported == [1]


def test_without_the_engine_auto_is_pytorch(trained: TrainedNet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('in_engine', 'compiled'):
        monkeypatch.setattr(f'iafmsr.nets.{name}.find_spec', lambda name: None if name == 'openvino' else True)
    assert in_engine(trained, 'auto', CPU) is trained
    with pytest.raises(UserError, match=r"^engine openvino: openvino is not installed; install the extra 'fast'$"):
        in_engine(trained, 'openvino', CPU)


def test_a_device_a_name_or_a_precision_that_an_engine_has_not(trained: TrainedNet) -> None:
    assert in_engine(trained, 'auto', torch.device('cuda')) is trained
    for engine, device, precision, fault in (
        ('openvino', 'cuda', 'fp32', 'engine openvino: it runs on a CPU, not on cuda'),
        ('onnxruntime', 'cpu', 'bf16', 'engine onnxruntime: onnxruntime computes in float32'),
        ('tvm', 'cpu', 'fp32', "engine 'tvm': must be one of auto, torch, openvino, onnxruntime"),
    ):
        with pytest.raises(UserError, match=f'^{fault}'):
            in_engine(trained, engine, torch.device(device), precision)


@pytest.mark.parametrize('what', ['onnx', 'checked'])
@pytest.mark.parametrize('damage', ['cut', 'bit', 'no folder'])
def test_a_cache_that_is_damaged_or_cannot_be_written(
    trained: TrainedNet, exported: list[int], damage: str, what: str, tmp_path: Path
) -> None:
    if damage == 'no folder':
        (tmp_path / 'cache').write_text('')
    said, say = lines()
    in_engine(trained, 'openvino', CPU, **say)
    assert [line.partition(':')[0] for line in said] == ['the converted network cannot be kept'] * 2 * (
        damage == 'no folder'
    )
    if damage != 'no folder':
        (file,) = graphs_folder().glob(f'*.{what}')
        stored = bytearray(file.read_bytes())
        file.write_bytes(stored[:-1] if damage == 'cut' else bytes([*stored[:-1], stored[-1] ^ 1]))
        said.clear()
        again = in_engine(trained, 'openvino', CPU, **say)
        assert said == [f'{file}: damaged; it is made again'] and file.read_bytes() == stored
        lq = torch.rand(1, 3, 9, 12)
        torch.testing.assert_close(again.net(lq), trained.net(lq), atol=1e-5, rtol=0)
    assert exported == [1] * (2 if damage != 'no folder' and what == 'onnx' else 1)


def test_openvino_has_a_graph_for_the_size_that_comes_again(trained: TrainedNet, content: bytes) -> None:
    """The same pictures by it, also after another size. The graph for all sizes is not made for pictures of one size:
    it holds as much memory as the other."""
    net = engine_net(content, 'openvino')
    sizes = ((9, 12, True), (9, 12, True), (20, 12, False), (9, 12, False), (9, 12, True))
    for number, (height, width, own) in enumerate(sizes):
        lq = torch.rand(1, 3, height, width)
        torch.testing.assert_close(net(lq), trained.net(lq), atol=1e-5, rtol=0)
        assert (net._run.of_size is not None) == own
        assert (net._run.of_any_size is not None) == (number >= 2)


def test_a_graph_that_openvino_cannot_compile_is_a_line(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: object, device: str, options: object) -> None:
        raise RuntimeError('in\nlines of its own')

    net = engine_net(content, 'openvino')
    monkeypatch.setattr(net._run, 'core', SimpleNamespace(read_model=net._run.core.read_model, compile_model=refuse))
    with pytest.raises(UserError, match=r'^openvino cannot load this ONNX file \(RuntimeError\)$'):
        net(torch.rand(1, 3, 9, 12))


def test_a_net_without_a_graph_for_all_sizes_has_one_for_the_size_that_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, 'to_onnx', to_onnx)
    torch.manual_seed(0)
    safmn = TrainedNet(SAFMN(scale=2, dim=8, n_blocks=1).eval().requires_grad_(False), 'SAFMN', 2)
    with pytest.raises(UserError, match='^engine openvino: SAFMN cannot be exported'):
        in_engine(safmn, 'openvino', CPU)
    for size in ((21, 18), (40, 24)):
        lq = torch.rand(1, 3, *size[::-1])
        inside = in_engine(safmn, 'openvino', CPU, size=size)
        torch.testing.assert_close(inside.net(lq), safmn.net(lq), atol=1e-5, rtol=0)


def test_an_exported_file_changes_engines_and_runs_in_no_torch(
    trained: TrainedNet, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_file = TrainedNet(engine_net(content, 'onnxruntime'), 'IAFMNet', 2)
    assert in_engine(of_file, 'onnxruntime', CPU).net is of_file.net
    moved = in_engine(of_file, 'auto', CPU).net
    assert isinstance(moved, EngineNet) and moved.engine == 'openvino'
    monkeypatch.setenv('IAFMSR_ENGINE', 'torch')
    assert in_engine(of_file, None, CPU).net is of_file.net
    with pytest.raises(UserError, match='engine torch: an ONNX file runs in openvino or onnxruntime'):
        in_engine(of_file, 'torch', CPU)


def test_the_commands_and_python_take_an_engine(
    trained: TrainedNet, exported: list[int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    network = {'type': 'IAFMNet', 'scale': 2, 'num_feat': 8, 'num_block': 1}
    weights = tmp_path / 'tiny.pth'
    torch.save({'params': trained.net.state_dict(), 'network_g': network}, weights)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    made = []
    for engine in ('torch', 'openvino'):
        out = tmp_path / f'{engine}.png'
        assert main(f'upscale {tmp_path}/a.png --output {out} --weights {weights} --engine {engine}'.split()) == 0
        made += [np.asarray(Image.open(out)).astype(int), iafmsr.upscale(pixels, weights, engine=engine).astype(int)]
    assert all(np.abs(picture - made[0]).max() <= 1 for picture in made) and exported == [1]
    net = iafmsr.load(weights, engine='openvino')
    assert isinstance(net, EngineNet) and np.abs(iafmsr.upscale(pixels, net).astype(int) - made[0]).max() <= 1
    np.testing.assert_allclose(iafmsr.density(pixels, net), iafmsr.density(pixels, weights), atol=1e-4)
    with pytest.raises(SystemExit, match='2'):
        main(f'upscale {tmp_path}/a.png --output {tmp_path}/b.png --weights {weights} --engine tvm'.split())
    assert '--engine tvm: must be one of auto, torch, openvino, onnxruntime' in capsys.readouterr().err
