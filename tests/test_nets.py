"""One loader: what a file says of its network, which networks it can belong to, and what is refused."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import built, options
from torch import nn

from iafmsr import archs
from iafmsr.archs import IAFMNet, SMFANet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets import files as named_files
from iafmsr.nets.files import find_weights
from iafmsr.nets.loading import load_net
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.state_dicts import KEYS
from iafmsr.tools.benchmark.nets import parse_nets
from iafmsr.training.checkpoints import newest_state
from iafmsr.training.checks.check import check_options

ROOT = Path(__file__).resolve().parent.parent
TINY = {'scale': 2, 'num_feat': 8, 'num_block': 1}
SAID = {'type': 'IAFMNet', **TINY}
needs_spandrel = pytest.mark.skipif(find_spec('spandrel') is None, reason="needs pip install -e '.[spandrel]'")


def tiny(**keywords: Any) -> IAFMNet:
    torch.manual_seed(0)
    return IAFMNet(**{**TINY, **keywords}).eval()


def same(first: nn.Module, second: nn.Module, channels: int = 3) -> bool:
    lq = torch.rand(1, channels, 12, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(first(lq), second(lq))


def refused(file: Path, *arguments: Any) -> str:
    """The one line with which a file is refused; it begins with the file's name."""
    with pytest.raises(UserError) as error:
        load_net(file, *arguments)
    line = str(error.value)
    assert line.startswith(str(file)) and '\n' not in line
    return line


# -- what the file says comes first -----------------------------------------------------------------------------------
def test_what_the_file_says_stands_above_the_option_file_of_its_run(tmp_path: Path) -> None:
    """As after a training with --force_yml network_g:k=0.5: every tool builds the net that was trained."""
    (tmp_path / 'run/models').mkdir(parents=True)
    file = tmp_path / 'run/models/net_g_latest.pth'
    torch.save({'params': tiny(k=0.5).state_dict(), 'network_g': SAID | {'k': 0.5}}, file)
    (tmp_path / 'run/run.yml').write_text(yaml.safe_dump({'name': 'run', 'scale': 2, 'network_g': SAID | {'k': 0.05}}))
    (spec,) = parse_nets([str(file)], 2, tmp_path)
    assert spec.name == 'run'
    for net in (load_net(file).net, spec.build()):
        assert net.density.k == 0.5 and same(net, tiny(k=0.5))


def test_every_tool_builds_one_net_from_one_file(tmp_path: Path) -> None:
    keywords = {'k': 0.2, 'gain': 16.0, 'norm': 'none', 'mask': 'sobel', 'guide': 'constant'}
    torch.save({'params': tiny(**keywords).state_dict(), 'network_g': SAID | keywords}, tmp_path / 'a.pth')
    (spec,) = parse_nets([f'mine={tmp_path}/a.pth'], 2, tmp_path)
    assert same(load_net(tmp_path / 'a.pth').net, tiny(**keywords)) and same(spec.build(), tiny(**keywords))


def test_a_run_says_what_its_weights_are(tmp_path: Path) -> None:
    (tmp_path / 'models').mkdir()
    torch.save({'params': tiny().state_dict()}, tmp_path / 'models/net_g_latest.pth')
    (tmp_path / 'run.yml').write_text('network_g: {type: IAFMNet, scale: 2, num_feat: 8, num_block: 1, gain: 1e1}')
    assert load_net(tmp_path / 'models/net_g_latest.pth').net.density.gain == 10


def test_an_option_file_names_network_and_weights(tmp_path: Path) -> None:
    torch.save({'params': tiny(k=0.3).state_dict()}, tmp_path / 'bare.pth')
    options = {'network_g': SAID | {'k': 0.3}, 'path': {'pretrain_network_g': str(tmp_path / 'bare.pth')}}
    (tmp_path / 'a.yml').write_text(yaml.safe_dump(options))
    assert same(load_net(tmp_path / 'a.yml').net, tiny(k=0.3))
    (tmp_path / 'b.yml').write_text(yaml.safe_dump({'network_g': SAID}))
    assert 'it names no weights' in refused(tmp_path / 'b.yml')


def test_a_net_of_basicsr_is_built_by_what_its_file_says(tmp_path: Path) -> None:
    from basicsr.archs.edsr_arch import EDSR

    keywords = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
    torch.save({'params': EDSR(**keywords).state_dict(), 'network_g': {'type': 'EDSR', **keywords}}, tmp_path / 'a.pth')
    trained = load_net(tmp_path / 'a.pth')
    assert (trained.arch, trained.scale) == ('EDSR', 2)


def test_a_gray_net_is_one(tmp_path: Path) -> None:
    gray = {'num_in_ch': 1, 'num_out_ch': 1}
    torch.save({'params': tiny(**gray).state_dict(), 'network_g': SAID | gray}, tmp_path / 'a.pth')
    trained = load_net(tmp_path / 'a.pth')
    assert (trained.channels, trained.scale) == (1, 2)
    torch.save({'params': tiny(**gray).state_dict()}, tmp_path / 'bare.pth')
    assert same(load_net(tmp_path / 'bare.pth', {'type': 'IAFMNet'}).net, tiny(**gray), channels=1)


# -- what shapes tell, and what they do not ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'guide': 'constant'},
        {'k': 0.5},
        {'mask': 'sobel'},
        {'norm': 'none'},
        {'guidance': 'product', 'attention': 'no_idm'},
    ],
    ids=str,
)
def test_a_bare_file_that_could_be_several_nets_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """The forms leave no trace in the weights, or others do not: which one it is has to be said."""
    torch.save(tiny(**changes).state_dict(), tmp_path / 'bare.pth')
    line = refused(tmp_path / 'bare.pth')
    assert (
        'k, gain, guide, mask, norm, attention, num_routed, upsampler cannot be seen in weights' in line
        and 'FILE:key=value' in line
    )
    for name in ('mine', 'IAFMNet'):  # a name says nothing of k
        with pytest.raises(UserError, match='cannot be seen in weights'):
            parse_nets([f'{name}={tmp_path}/bare.pth'], 2, tmp_path)
    keys = ','.join(f'{key}={value}' for key, value in changes.items()) or 'type=IAFMNet'
    (spec,) = parse_nets([f'mine={tmp_path}/bare.pth:{keys}'], 2, tmp_path)
    assert same(spec.build(), tiny(**changes))
    assert same(load_net(*find_weights(f'{tmp_path}/bare.pth:{keys}')).net, tiny(**changes))


@pytest.mark.parametrize('ffn_scale', [1.0, 0.7, 50 / 36, 2.3])
@pytest.mark.parametrize('arch', ['IAFMNet', 'SAFMN', 'SMFANet'])
def test_any_width_is_told(arch: str, ffn_scale: float, tmp_path: Path) -> None:
    words = {'num_feat': 36, 'num_block': 1} if arch == 'IAFMNet' else {'dim': 36, 'n_blocks': 1}
    torch.manual_seed(0)
    net = getattr(archs, arch)(scale=3, ffn_scale=ffn_scale, **words).eval()
    torch.save(net.state_dict(), tmp_path / 'a.pth')
    trained = load_net(tmp_path / 'a.pth', {'type': 'IAFMNet'} if arch == 'IAFMNet' else None)
    assert (trained.arch, trained.scale) == (arch, 3) and same(trained.net, net)


@pytest.mark.parametrize('arch', ['BSRN', 'ETDS', 'IMDN', 'RDESA', 'RLFN', 'SAFMN', 'SMFANet'])
def test_peers_are_told_by_their_shapes(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = getattr(archs, arch)(scale=4).eval()
    torch.save({'params_ema': net.state_dict(), 'params': {}}, tmp_path / 'a.pth')
    trained = load_net(tmp_path / 'a.pth')
    assert (trained.arch, trained.scale) == (arch, 4) and same(trained.net, net) and not trained.net.training


def test_published_weights_are_known(data_root: Path) -> None:
    found = {
        file.stem: (load_net(file), file)
        for folder in ('IMDN', 'SMFANet')
        for file in sorted((data_root / 'weights' / folder).glob('*.pth'))
    }
    assert found
    for name, (trained, file) in found.items():
        assert trained.arch == name.split('_')[0] and f'x{trained.scale}' in name
        (spec,) = parse_nets([str(file)], trained.scale, data_root)
        assert same(spec.build(), trained.net)


# -- other trainers ---------------------------------------------------------------------------------------------------
def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in tiny().state_dict().items()}


OTHERS = {
    'bare': lambda: prefixed(''),
    **{
        key: (lambda key=key: {key: prefixed('')})
        for key in ('model', 'net', 'generator', 'model_state_dict', 'params-ema', 'state_dict', 'params', 'netG')
    },
    'module.': lambda: {'params': prefixed('module.')},
    '_orig_mod.': lambda: {'model': prefixed('_orig_mod.')},
    'module._orig_mod.': lambda: prefixed('module._orig_mod.'),
    'net.': lambda: {'state_dict': prefixed('net.')},
    'Lightning': lambda: {
        'epoch': 3,
        'optimizer_states': [{'state': {}}],
        'state_dict': prefixed('model.') | {'loss.vgg.weight': torch.ones(2)},
    },
    'Lightning, compiled': lambda: {'state_dict': prefixed('model._orig_mod.')},
    'nested': lambda: {'state_dict': {'generator': prefixed(''), 'discriminator': {'a': torch.ones(1)}}},
    'GAN': lambda: {'generator': prefixed(''), 'discriminator': {'a': torch.ones(1)}, 'epoch': 5},
    'a key of its own': lambda: {'epoch': 1, 'my_weights': prefixed('')},
    'average first': lambda: {'model': {'a': torch.ones(1)}, 'params_ema': prefixed('')},
}


@pytest.mark.parametrize('trainer', OTHERS)
def test_weights_of_other_trainers_are_read(trainer: str, tmp_path: Path) -> None:
    torch.save(OTHERS[trainer](), tmp_path / 'a.pth')
    assert same(load_net(tmp_path / 'a.pth', {'type': 'IAFMNet'}).net, tiny())
    assert 'cannot be seen in weights' in refused(tmp_path / 'a.pth')  # recognised
    torch.save(OTHERS[trainer]() | {'network_g': SAID | {'k': 0.5}}, tmp_path / 'a.pth')
    assert same(load_net(tmp_path / 'a.pth').net, tiny(k=0.5))


@pytest.mark.skipif(os.environ.get('IAFMSR_FULL') != '1', reason='long form: scripts/test.sh --full')
@pytest.mark.parametrize('key', [None, *KEYS, 'their_own'])
def test_weights_of_every_trainer_are_read(tmp_path: Path, key: str | None) -> None:
    """Under every key, in a dict within another or not, with every owner and wrapper in either order."""
    wrappers = ('', 'module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.')
    owners = ('', 'model.', 'net.', 'generator.', 'net_g.', 'netG.')
    prefixes = {first + second for pair in product(owners, wrappers) for first, second in (pair, pair[::-1])}
    for prefix, outer in product(sorted(prefixes), (None, 'state_dict', 'model', 'checkpoint')):
        weights: dict[str, Any] = prefixed(prefix) if key is None else {key: prefixed(prefix), 'epoch': 3}
        torch.save(weights if outer is None else {outer: weights, 'optimizer': {'state': {}}}, tmp_path / 'a.pth')
        assert same(load_net(tmp_path / 'a.pth', {'type': 'IAFMNet'}).net, tiny()), (prefix, outer)


def test_a_state_is_pointed_to_its_weights(tmp_path: Path) -> None:
    state = tmp_path / 'run/training_states/10.state'
    for folder in ('run/training_states', 'run/models'):
        (tmp_path / folder).mkdir(parents=True)
    torch.save({'iter': 10, 'epoch': 0, 'optimizers': [], 'schedulers': []}, state)
    assert 'in the folder models' in refused(state)
    (tmp_path / 'run/models/net_g_10.pth').touch()
    assert f'a training state; its weights are {tmp_path}/run/models/net_g_10.pth' in refused(state)


# -- spandrel's -------------------------------------------------------------------------------------------------------
@needs_spandrel
@pytest.mark.parametrize('prefix', ['', 'module.', 'model.'])
def test_what_is_none_of_ours_is_spandrels(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = archs.Spandrel(id='SPAN', num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2).eval()
    torch.save({'state_dict': {prefix + k: v for k, v in net.net.state_dict().items()}}, tmp_path / 'a.pth')
    trained = load_net(tmp_path / 'a.pth')
    (spec,) = parse_nets([f'a={tmp_path}/a.pth'], 2, tmp_path)
    assert (trained.arch, trained.scale) == ('Spandrel', 2)
    assert same(trained.net, net) and same(spec.build(), net)


@needs_spandrel
def test_a_mark_among_the_weights_tells_the_network(tmp_path: Path) -> None:
    """RealCUGAN "pro" computes differently; a plain number says so."""
    from spandrel.architectures.RealCUGAN import UpCunet2x

    torch.manual_seed(0)
    net = UpCunet2x(in_channels=3, out_channels=3, pro=True).eval()
    weights = {name: value for name, value in net.state_dict().items() if name != 'pro'}
    torch.save(weights | {'pro': 1}, tmp_path / 'pro.pth')
    torch.save(weights | {'epoch': 1}, tmp_path / 'plain.pth')
    lq = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        pro, plain = (load_net(tmp_path / f'{name}.pth').net(lq) for name in ('pro', 'plain'))
        assert torch.allclose(pro, net(lq), atol=1e-6) and not torch.allclose(plain, pro, atol=1e-3)


@needs_spandrel
def test_a_gray_net_of_spandrel_is_one_and_leaves_its_input_alone(tmp_path: Path) -> None:
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.RCAN import RCAN

    gray = Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2, upscale=2)
    torch.save(gray.state_dict(), tmp_path / 'gray.pth')
    trained = load_net(tmp_path / 'gray.pth')
    assert (trained.channels, trained.scale) == (1, 2)
    torch.save(RCAN(n_resgroups=1, n_resblocks=1, n_feats=16, scale=2).state_dict(), tmp_path / 'rcan.pth')
    lq = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    before = lq.clone()
    with torch.no_grad():
        assert load_net(tmp_path / 'rcan.pth').net(lq).shape == (1, 3, 16, 16)
    assert torch.equal(lq, before)


# -- refused ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    'content',
    [
        {'params': {'conv.weight': torch.zeros(3, 3, 3, 3)}},
        {'conv.weight': torch.zeros(3)},
        {},
        {'params': {}},
        {'blocks.0.ifem.expand.weight': torch.zeros(3, 3, 1, 1)},
        {'epoch': 3, 'optimizer': {}},
        {'params': {'a': torch.zeros(1)}, 'network_g': {'type': 'NoNet'}},
        {'params': {'a': torch.zeros(1)}, 'network_g': {'type': 'IAFMNet', 'widht': 3}},
        {'params': {'a': torch.zeros(1)}, 'network_g': {'type': 'IAFMNet', 'num_feat': 8}},
        {'params': {'a': torch.zeros(1)}, 'network_g': 5},
        {'params': {'a': torch.zeros(1)}, 'network_g': {'scale': 2}},
        {'params': {'a': torch.zeros(1)}, 'network_g': {'type': ['IAFMNet'], 3: 4}},
    ],
    ids=range(12),
)
def test_weights_of_another_program_are_refused_in_a_line(
    content: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save(content, tmp_path / 'theirs.pth')
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'a.png')
    with pytest.raises(SystemExit) as stop:
        main(f'upscale {tmp_path}/a.png --output {tmp_path}/o --weights {tmp_path}/theirs.pth'.split())
    assert stop.value.code == 2
    assert re.fullmatch(r'iafmsr: error: \S+/theirs.pth.*\n', capsys.readouterr().err)
    assert not (tmp_path / 'o/a.png').exists()


def changed(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    weights = tiny().state_dict()
    return weights | {'tail.weight': change(weights['tail.weight'])}


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        (lambda value: value.fill_(float('nan')), 'not finite'),
        (lambda value: value.index_fill(0, torch.tensor([2]), float('inf')), 'not finite'),
        (lambda value: value.half() * 1e30, 'not finite'),
        (lambda value: value.to_sparse(), 'sparse'),
        (lambda value: value.flatten(1).to_sparse_csr(), 'tail.weight'),
        (lambda value: value.to(torch.complex64), 'complex'),
        (lambda value: value.to('meta'), 'without data'),
        pytest.param(
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            'quantised',
            marks=pytest.mark.skipif(
                not hasattr(torch.amp, 'GradScaler'), reason='torch 2.2 refuses the whole file, without a name'
            ),
        ),
    ],
    ids=['nan', 'inf', 'half', 'sparse', 'csr', 'complex', 'meta', 'quantised'],
)
def test_tensors_that_are_no_weights_are_refused(change: Callable, fault: str, tmp_path: Path) -> None:
    torch.save({'params': changed(change), 'network_g': SAID}, tmp_path / 'a.pth')
    line = refused(tmp_path / 'a.pth')
    assert 'tail.weight' in line and fault in line
    (spec,) = parse_nets([f'mine={tmp_path}/a.pth'], 2, tmp_path)
    with pytest.raises(UserError, match='tail.weight'):
        spec.build()


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({'params': {'a': torch.zeros(5_000_000)}}, tmp_path / 'a.pth')
    with (
        zipfile.ZipFile(tmp_path / 'a.pth') as stored,
        zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert os.path.getsize(tmp_path / 'bomb.pth') < 100_000
    assert 'holds compressed data' in refused(tmp_path / 'bomb.pth')
    assert load_checkpoint(tmp_path / 'a.pth')['params']['a'].numel() == 5_000_000


@pytest.mark.parametrize('keywords', [{'num_block': 10**9}, {'num_feat': 10**6}], ids=str)
def test_options_of_a_huge_net_beside_small_weights_take_neither_time_nor_memory(
    keywords: dict, tmp_path: Path
) -> None:
    torch.save({'params': tiny().state_dict(), 'network_g': SAID | keywords}, tmp_path / 'a.pth')
    assert 'far larger than its weights' in refused(tmp_path / 'a.pth')


def test_an_expanded_view_takes_no_memory(tmp_path: Path) -> None:
    torch.save({'params': {'a': torch.zeros(1).expand(10**12)}, 'network_g': SAID}, tmp_path / 'a.pth')
    assert 'does not fit IAFMNet' in refused(tmp_path / 'a.pth')
    torch.save({'params': {'a': torch.zeros(1).expand(10**12)}}, tmp_path / 'b.pth')
    said = 'is not known (IAFMNet, ' if find_spec('spandrel') is None else 'is not known here'
    assert said in refused(tmp_path / 'b.pth')


# -- code is never run ------------------------------------------------------------------------------------------------
class Payload:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_is_refused_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'params': Payload(tmp_path / 'ran')}, tmp_path / 'a.pth')
    assert 'loads safely' in refused(tmp_path / 'a.pth')
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ  # nor for what others load, nor for workers
    assert not (tmp_path / 'ran').exists()


def test_a_file_cannot_name_a_network_that_opens_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BasicSR's SpyNet loads load_path in its constructor."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'params': Payload(tmp_path / 'ran')}, tmp_path / 'code.pth')
    named = {'type': 'SpyNet', 'load_path': str(tmp_path / 'code.pth')}
    (tmp_path / 'run/models').mkdir(parents=True)
    torch.save({'params': {'a': torch.zeros(1)}, 'network_g': named}, tmp_path / 'a.pth')
    torch.save({'params': {'a': torch.zeros(1)}}, tmp_path / 'run/models/net_g_1.pth')
    (tmp_path / 'run/run.yml').write_text(yaml.safe_dump({'name': 'run', 'network_g': named}))
    for file in (tmp_path / 'a.pth', tmp_path / 'run/models/net_g_1.pth'):
        assert "network_g has the type 'SpyNet'; allowed are" in refused(file)
        with pytest.raises(UserError, match='SpyNet'):
            parse_nets([f'a={file}'], 2, tmp_path)
    assert not (tmp_path / 'ran').exists()


# -- names ------------------------------------------------------------------------------------------------------------
def test_weights_are_found_by_name_with_ending_or_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, 'FOLDER', tmp_path)
    torch.save({'params': tiny().state_dict(), 'network_g': SAID}, tmp_path / 'Tiny_x2.pth')
    monkeypatch.chdir('/')
    for name in ('Tiny_x2', 'Tiny_x2.pth'):
        assert find_weights(name) == (tmp_path / 'Tiny_x2.pth', {})
        assert parse_nets([name], 2, tmp_path)[0].weights == tmp_path / 'Tiny_x2.pth'
    assert find_weights('Tiny_x2:k=0.5,guide=idm') == (tmp_path / 'Tiny_x2.pth', {'k': 0.5, 'guide': 'idm'})
    with pytest.raises(UserError, match=r'--weights Tiny_x3: no such file, and none of the names Tiny_x2'):
        find_weights('Tiny_x3')
    with pytest.raises(UserError, match='the keys must be a list of key=value'):
        find_weights('Tiny_x2:guide=[')


def test_the_folder_of_a_run_stands_for_its_latest_weights(tmp_path: Path) -> None:
    run = tmp_path / 'run'
    (run / 'models').mkdir(parents=True)
    with pytest.raises(UserError, match=r'run: no weights models/net_g_ITERATION\.pth in it'):
        find_weights(str(run))
    for name in ('net_g_900.pth', 'net_g_1000.pth', 'net_d_2000.pth', 'net_g_latest.pth'):
        torch.save({'params': tiny().state_dict(), 'network_g': SAID}, run / 'models' / name)
        newest = 'net_g_1000.pth' if name == 'net_d_2000.pth' else name
        assert find_weights(f'{run}:k=0.5') == (run / 'models' / newest, {'k': 0.5})
    assert parse_nets([f'a={run}'], 2, tmp_path)[0].weights == run / 'models/net_g_latest.pth'
    with pytest.raises(UserError, match='not the folder of a run'):
        find_weights(str(tmp_path))


# -- ONNX -------------------------------------------------------------------------------------------------------------
needs_onnx = pytest.mark.skipif(not (find_spec('onnx') and find_spec('onnxruntime')), reason="needs the extra 'onnx'")
DESCRIBED = '{"arch": "Nearest", "scale": 2, "precision": "float32"}'


def nearest(described: str | None = DESCRIBED, output: str = 'sr', outside: str = '') -> bytes:
    """An ONNX file that enlarges twice by repeating pixels; ``outside`` is where it reads a summand from a file."""
    from onnx import TensorProto, helper

    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ['batch', 3, h, w])
        for name, h, w in (('lq', 'height', 'width'), (output, 'rows', 'columns'))
    ]
    nodes, tensors = (
        [
            helper.make_node('Concat', ['lq'] * 4, ['four'], axis=1),
            helper.make_node('DepthToSpace', ['four'], ['large'], blocksize=2),
        ],
        [],
    )
    summand = TensorProto(name='summand', data_type=TensorProto.FLOAT, dims=[1])
    summand.float_data.append(0)
    if outside:
        summand.ClearField('float_data')
        summand.data_location = TensorProto.EXTERNAL
        summand.external_data.add(key='location', value='secret.bin')
    if outside == 'attribute':
        nodes.append(helper.make_node('Constant', [], ['summand'], value=summand))
    else:
        tensors.append(summand)
    nodes.append(helper.make_node('Add', ['large', 'summand'], [output]))
    model = helper.make_model(
        helper.make_graph(nodes, 'nearest', value[:1], value[1:], tensors),
        ir_version=8,
        opset_imports=[helper.make_opsetid('', 18)],
    )
    if described is not None:
        model.metadata_props.add(key='iafmsr', value=described)
    return model.SerializeToString()


@needs_onnx
def test_an_onnx_file_is_a_net_like_others(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'a.onnx').write_bytes(nearest())
    trained = load_net(tmp_path / 'a.onnx')
    lq = torch.rand(2, 3, 5, 7)
    assert (trained.arch, trained.scale) == ('Nearest', 2)
    assert torch.equal(trained.net(lq), lq.repeat_interleave(2, 2).repeat_interleave(2, 3))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'a.png')
    command = f'upscale {tmp_path}/a.png --output {tmp_path}/b.png --weights {tmp_path}/a.onnx --engine onnxruntime'
    assert main(command.split()) == 0 and 'whole picture' not in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        main([*command.split(), '--precision', 'bf16', '--overwrite'])
    assert 'onnxruntime computes in float32' in capsys.readouterr().err


@needs_onnx
@pytest.mark.parametrize(
    ('described', 'fault'),
    [
        (None, 'not written by iafmsr export'),
        ('no JSON', 'damaged'),
        ('[1, 2]', 'damaged'),
        ('5', 'damaged'),
        ('{"arch": "A"}', 'damaged'),
        ('{"scale": 2}', 'damaged'),
        ('[' * 100_000, 'damaged'),
        ('{"arch": "A", "scale": 3}', 'says scale 3, and enlarges by 2'),
        ('{"arch": "A", "scale": "2"}', "says scale '2', and enlarges by 2"),
        ('{"arch": "A", "scale": -2}', 'says scale -2, and enlarges by 2'),
    ],
    ids=range(10),
)
def test_an_onnx_file_that_says_nothing_of_its_net_is_refused(
    described: str | None, fault: str, tmp_path: Path
) -> None:
    (tmp_path / 'a.onnx').write_bytes(nearest(described))
    assert fault in refused(tmp_path / 'a.onnx')
    (tmp_path / 'b.onnx').write_bytes(nearest(output='other'))
    assert 'its input and output must be lq and sr' in refused(tmp_path / 'b.onnx')


@needs_onnx
@pytest.mark.parametrize('where', ['initializer', 'attribute'])
def test_an_onnx_file_reads_no_other_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('secret.bin').write_bytes(np.ones(1, np.float32).tobytes())
    (tmp_path / 'a.onnx').write_bytes(nearest(outside=where))
    assert 'its data lie in other files, which are not read' in refused(tmp_path / 'a.onnx')


# -- training from someone's weights ----------------------------------------------------------------------------------
X4 = {'type': 'IAFMNet', 'scale': 4, 'num_feat': 8, 'num_block': 1}


def tiny_x4() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return IAFMNet(**{key: value for key, value in X4.items() if key != 'type'}).state_dict()


def equal(net: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    'content',
    [
        lambda weights: weights,
        lambda weights: {'params_ema': weights},
        lambda weights: {'params': weights},
        lambda weights: {'state_dict': {f'model.{name}': value for name, value in weights.items()}},
    ],
    ids=['bare', 'average alone', 'params', 'Lightning'],
)
def test_a_training_with_an_average_starts_from_the_weights_of_any_trainer(content: Callable, tmp_path: Path) -> None:
    torch.save(content(tiny_x4()), tmp_path / 'a.pth')
    model = built(tmp_path, path__pretrain_network_g=str(tmp_path / 'a.pth'))
    assert equal(model.net_g, tiny_x4()) and equal(model.net_g_ema, tiny_x4())


def test_what_fits_is_taken_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from basicsr.utils import get_root_logger

    get_root_logger().propagate = True
    caplog.set_level(logging.INFO, logger='basicsr')
    torch.save({'params': tiny().state_dict()}, tmp_path / 'x2.pth')
    model = built(tmp_path, path__pretrain_network_g=str(tmp_path / 'x2.pth'), path__strict_load_g=False)
    count = len(tiny_x4())
    said = {record.message for record in caplog.records if 'tensors of IAFMNet taken' in record.message}
    assert said == {
        f'{count - 2} of {count} tensors of IAFMNet taken from {tmp_path}/x2.pth; '
        'not in the file: tail.bias, tail.weight'
    }
    taken = {name: value for name, value in tiny().state_dict().items() if not name.startswith('tail')}
    assert equal(model.net_g_ema, model.net_g.state_dict()) and equal(model.net_g, model.net_g.state_dict() | taken)


@pytest.mark.parametrize(
    ('content', 'options', 'fault'),
    [
        (
            lambda: {'params': {f'body.{name}': value for name, value in tiny_x4().items()}},
            {'path__strict_load_g': False},
            r'a.pth: none of its \d+ tensors fits IAFMNet',
        ),
        (lambda: {'params': SMFANet(scale=4, dim=8, n_blocks=1).state_dict()}, {}, 'a.pth does not fit IAFMNet'),
        (lambda: {'params': tiny_x4()}, {'path__param_key_g': 'parms_emma'}, 'a.pth: no parms_emma in it, only params'),
        (lambda: {'params': tiny_x4() | {'tail.bias': torch.full((48,), float('nan'))}}, {}, 'tail.bias holds values'),
        (lambda: {'epoch': 3}, {'path__strict_load_g': False}, 'a.pth: no weights in it, only epoch'),
    ],
    ids=['another net', 'another net, strict', 'unknown key', 'NaN', 'no weights'],
)
def test_a_training_does_not_start_from_nothing(
    content: Callable, options: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    torch.save(content(), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=fault) as error:
        built(tmp_path, path__pretrain_network_g=str(tmp_path / 'a.pth'), **options)
    assert '\n' not in str(error.value)


def test_the_option_check_says_so_before_the_run(tmp_path: Path) -> None:
    opt = options('run', network_g=X4) | {
        'path': {'pretrain_network_g': str(tmp_path / 'a.pth'), 'param_key_g': 'parms_emma'}
    }
    torch.save({'params': tiny_x4()}, tmp_path / 'a.pth')
    assert (
        f'path.pretrain_network_g: {tmp_path}/a.pth: no parms_emma in it, only params'
        in check_options(opt, True, str(tmp_path)).faults
    )


def test_a_run_goes_on_from_its_own_checkpoint_whatever_key_it_started_from(tmp_path: Path) -> None:
    torch.save({'netG_A': tiny_x4(), 'netG_B': {'a': torch.ones(1)}}, tmp_path / 'theirs.pth')
    model = built(tmp_path, path__pretrain_network_g=str(tmp_path / 'theirs.pth'), path__param_key_g='netG_A')
    assert equal(model.net_g, tiny_x4()) and equal(model.net_g_ema, tiny_x4())
    torch.save({'params': tiny_x4()}, tmp_path / 'own.pth')
    model.opt['path']['resume_state'] = str(tmp_path / '10.state')
    model.load_network(model.net_g, str(tmp_path / 'own.pth'), True, 'netG_A')
    assert equal(model.net_g, tiny_x4())


def test_auto_resume_passes_over_a_network_that_carries_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Also where the state's check sum of it agrees."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    model = built(tmp_path)
    for iteration in (1, 2):
        model.save(0, iteration)
    folder = tmp_path / 'experiments/run'
    torch.save({'params': Payload(tmp_path / 'ran')}, folder / 'models/net_g_2.pth')
    state = load_checkpoint(folder / 'training_states/2.state')
    state['networks'] = {'net_g_2.pth': hashlib.sha256((folder / 'models/net_g_2.pth').read_bytes()).hexdigest()}
    torch.save(state, folder / 'training_states/2.state')
    assert newest_state(model.opt | {'auto_resume': True})[1]['iter'] == 1
    assert 'net_g_2.pth: not a file of weights that loads safely' in capsys.readouterr().err
    assert not (tmp_path / 'ran').exists()
