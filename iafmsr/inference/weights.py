"""Networks with their weights, found out from the file of weights alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from iafmsr import archs
from iafmsr.archs.published import PublishedNet
from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.training.checkpoints import load_checkpoint, save_whole
from iafmsr.utils.checkpoint_check import check_checkpoint

__all__ = ['WEIGHT_KEYS', 'TrainedNet', 'find_weights', 'load_net', 'publish', 'shipped']

FOLDER = Path(__file__).resolve().parents[2] / 'weights'
# in the order of preference: averaged weights are up to 2 dB better
WEIGHT_KEYS = ('params_ema', 'params', 'state_dict')
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class TrainedNet:
    """A network with its weights, in evaluation mode, on the CPU.

    Attributes:
        arch (str): its name.
        scale (int): output size over input size.
    """

    net: nn.Module
    arch: str
    scale: int


def find_weights(name: str) -> Path:
    """The file that ``--weights`` names: a path, or a name in the project's folder ``weights/``, without its ending.

    Raises:
        UserError: there is none.
    """
    path = Path(name) if Path(name).is_file() else shipped(name)
    if path:
        return path
    known = ', '.join(sorted(path.stem for path in FOLDER.glob('*.pth')))
    raise UserError(f'--weights {name}: no such file' + (f', and none of the names {known}' if known else ''))


def shipped(name: str) -> Path | None:
    """The file of that name, without its ending, in the project's folder ``weights/``, if there is one."""
    path = FOLDER / f'{name}.pth'
    return path if path.is_file() else None


def load_net(file: Path) -> TrainedNet:
    """The network that a file of weights belongs to.

    Which one it is and its keywords are what the file says under ``network_g`` (as in an option file, beside the
    weights themselves); else what the option file of the run says that the weights lie in; else what the names and
    shapes of the weights tell, the rest being the arch's defaults. What none of ours fits is spandrel's, where
    spandrel is installed. A file of ``iafmsr export`` (.onnx) is run by onnxruntime.

    Raises:
        UserError: no file of weights, or of no known network, or they do not fit it.
    """
    if file.suffix == '.onnx':
        from iafmsr.export.runtime import load_onnx
        return load_onnx(file)
    content = load_checkpoint(file)
    key = next((key for key in WEIGHT_KEYS if isinstance(content.get(key), dict)), None)
    weights = {str(name).removeprefix('module.'): value for name, value in (content[key] if key else content).items()
               if isinstance(value, Tensor)}
    options = content.get('network_g') or _options_of_run(file)
    if options is None:
        options = _recognised({name: tuple(value.shape) for name, value in weights.items()})
    if options is None:
        return _by_spandrel(file, weights)
    net = _build(file, dict(options))
    check_checkpoint(str(file), net, key)
    net.load_state_dict(weights)
    return _trained(net, options['type'])


def publish(source: Path, target: Path) -> None:
    """Write the weights of a run as ``weights/`` holds them: one state dict in float32, and the network's options.

    Of a file with averaged weights those are taken. They lie under ``params``, where BasicSR looks for them. Options
    that were left at their defaults are written out: the weights outlive a change of those.

    Raises:
        UserError: the source is no file of weights, does not say of which network, or the target cannot be written.
    """
    options = load_checkpoint(source).get('network_g') or _options_of_run(source)
    if options is None:
        raise UserError(f'{printable(source)}: it does not say of which network it is')
    weights = load_net(source).net.float().state_dict()  # it fits
    arch = getattr(archs, str(options['type']), None)
    keywords = signature(arch).parameters.values() if arch else ()
    defaults = {keyword.name: keyword.default for keyword in keywords if keyword.default is not keyword.empty}
    network = {name: value for name, value in {**defaults, **options}.items() if name != 'sparse_backend'}
    try:
        save_whole({'params': weights, 'network_g': network}, target)
    except OSError as error:
        raise UserError(f'{printable(target)}: {error.strerror}') from None


def _trained(net: nn.Module, arch: str) -> TrainedNet:
    net.eval().requires_grad_(False)
    with torch.inference_mode():  # archs of others do not agree on a name for their scale
        scale = net(torch.zeros(1, 3, 16, 16)).shape[-1] // 16
    return TrainedNet(net, arch, scale)


def _build(file: Path, options: dict[str, Any]) -> nn.Module:
    name = options.pop('type', None)
    options.pop('sparse_backend', None)  # a choice for a run, not a part of the network
    try:
        if name in archs.__all__:
            return getattr(archs, name)(**options)
        from iafmsr.basicsr_api import ARCH_REGISTRY  # BasicSR's own nets take the seconds of its import
        return ARCH_REGISTRY.get(name)(**options)
    except Exception as error:  # a constructor fails on a value of the wrong kind in any way
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(f'{printable(file)}: its network {name} cannot be built: {reason}') from None


def _options_of_run(weights: Path) -> dict[str, Any] | None:
    """``network_g`` of the option file that BasicSR keeps in a run's folder, above its ``models/net_g_*.pth``."""
    folder = weights.resolve().parent
    files = list(folder.parent.glob('*.yml')) if folder.name == 'models' else []
    if len(files) != 1:
        return None
    try:
        return yaml.safe_load(files[0].read_text(encoding='utf-8'))['network_g']
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None


def _by_spandrel(file: Path, weights: dict[str, Tensor]) -> TrainedNet:
    ours = f'{printable(file)}: weights of no network that is known here ({", ".join(_ARCHS)}; '
    if find_spec('spandrel') is None:
        raise UserError(ours + "the extra 'spandrel' brings more)")
    try:
        return _trained(archs.Spandrel.from_weights(weights), 'Spandrel')
    except UserError:
        raise UserError(ours + 'spandrel does not know them either)') from None


# -- what names and shapes tell ----------------------------------------------------------------------------------------
def _recognised(shapes: Shapes) -> dict[str, Any] | None:
    for name, (mark, keywords) in _ARCHS.items():
        arch = getattr(archs, name)
        ours = arch.renamed(shapes) if issubclass(arch, PublishedNet) else shapes
        if mark in ours:
            try:
                return {'type': name, 'scale': math.isqrt(ours['tail.weight'][0] // 3), **keywords(ours)}
            except (KeyError, IndexError):
                return None
    return None


def _blocks(shapes: Shapes) -> int:
    return 1 + max(int(name.split('.')[1]) for name in shapes if name.startswith('blocks.'))


def _iafmnet(shapes: Shapes) -> dict[str, Any]:
    width, block = shapes['head.weight'][0], 'blocks.0.ifem.'
    guidance = next((form for form, mark in (('neutral', 'strength'), ('concat', 'mix.weight'))
                     if f'fusion.{mark}' in shapes), 'product')
    attention = 'text' if shapes[f'{block}igra.attention.weight'][-1] == 1 else 'figure'
    if guidance != 'product' and not any(name.startswith(f'{block}igra.guidance.') for name in shapes):
        attention = 'no_idm'
    arm = shapes.get(f'{block}arm.scale.weight')
    by_one_map = width + 1 in (arm or (0, 0))[1:2] + shapes.get('fusion.mix.weight', (0, 0))[1:2]
    keywords = {
        'num_feat': width, 'num_block': _blocks(shapes),
        'ffn_scale': shapes['blocks.0.cgfn.project.weight'][1] / width,
        'guide': 'idm' if by_one_map else 'deviation', 'norm': 'layer' if 'blocks.0.norm1.weight' in shapes else 'l2',
        'guidance': guidance, 'attention': attention, 'ssconv': _ssconv(shapes),
        'arm': 'off' if arm is None else 'full' if arm[1] > width else 'no_idm',
    }
    theta = shapes.get('density.estimator.theta.0.weight')
    if theta is None:
        return keywords | {'ide': 'moments'}
    return keywords | {
        'ide': 'literal' if 'density.estimator.mu.0.weight' in shapes else 'deviation', 'ide_kernel_size': theta[-1],
        'gdn': 'density.estimator.theta.1.gamma' in shapes}


def _ssconv(shapes: Shapes) -> str:
    count = sum(name.startswith('ssconvs.') for name in shapes)
    return 'none' if count == 0 else 'shared' if count < _blocks(shapes) else 'own'


def _of_blocks(ffn: str) -> Callable[[Shapes], dict[str, Any]]:
    def keywords(shapes: Shapes) -> dict[str, Any]:
        dim = shapes['head.weight'][0]
        # int(dim * ffn_scale) is rounded down: the half keeps it from the wrong side of a whole number
        return {'dim': dim, 'n_blocks': _blocks(shapes), 'ffn_scale': (shapes[ffn][0] + 0.5) / dim}
    return keywords


def _plain(shapes: Shapes) -> dict[str, Any]:
    return {'num_feat': shapes['head.weight'][0], 'num_block': _blocks(shapes)}


# arch -> a name that no other has, and its keywords
_ARCHS: dict[str, tuple[str, Callable[[Shapes], dict[str, Any]]]] = {
    'IAFMNet': ('blocks.0.ifem.expand.weight', _iafmnet),
    'SMFANet': ('blocks.0.smfa.alpha', _of_blocks('blocks.0.pcfn.expand.weight')),
    'SAFMN': ('blocks.0.safm.aggregate.weight', _of_blocks('blocks.0.ccm.0.weight')),
    'IMDN': ('smooth.weight', _plain),
    'RDESA': ('esa.squeeze.weight', _plain),
}
