"""Running a network in an engine after checking that the results agree; converted graphs are kept in a cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError
from iafmsr.files.whole import write_whole
from iafmsr.nets.agreement import LIMIT, largest_difference
from iafmsr.nets.arithmetic import DTYPES, has
from iafmsr.nets.compiled import ENGINES, refusal
from iafmsr.nets.engines import EngineNet, engine_net
from iafmsr.nets.graph import to_onnx
from iafmsr.nets.trained import TrainedNet

__all__ = ['graphs_folder', 'in_engine', 'unfit']

_ROOMS = ('archs', 'layers', 'ops')  # whose code decides what a net computes
_PLAIN = (bool, int, float, str, tuple, type(None))
_LIMITS = {'fp32': LIMIT['float32'], 'bf16': LIMIT['bfloat16'], 'fp16': LIMIT['float16']}
Say = Callable[[str], None]


def in_engine(
    trained: TrainedNet,
    engine: str | None,
    device: torch.device,
    precision: str = 'fp32',
    say: Say = lambda line: None,
    size: Sequence[int] | None = None,
    begins: Say = lambda line: None,
) -> TrainedNet:
    """The same network in an engine: ``net(lq)`` is called as before, and gives the same picture.

    The first time the network is exported and compared with what was given (:mod:`iafmsr.nets.agreement`); what came
    of it is kept in :func:`graphs_folder`.

    Args:
        trained: of weights, or of an ONNX file.
        engine: ``torch``: as it is; ``openvino`` or ``onnxruntime``; ``auto``: OpenVINO on a CPU where it is installed
            and agrees, else as it is. None: what the environment variable IAFMSR_ENGINE names, or ``auto``.
        device: where the network computes.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        say: called with a line of text when ``auto`` does not use OpenVINO, or when a graph cannot be kept.
        size: width and height of the only pictures that are meant, for a network that has no graph for all sizes.
        begins: called with a line of text before the network is converted for the engine for the first time.

    Raises:
        UserError: the engine that was named cannot be taken, or the processor has no arithmetic for the precision.
    """
    engine = _chosen(engine, trained)
    if engine == 'torch' or engine == 'auto' and (device.type != 'cpu' or find_spec('openvino') is None):
        return _as_it_is(trained, device, precision)
    wanted = 'openvino' if engine == 'auto' else engine
    try:
        return replace(trained, net=_converted(trained, wanted, device, precision, say, size, begins))
    except UserError as error:
        if engine != 'auto':
            raise UserError(f'engine {engine}: {error}') from None
        say(f'{trained.arch} does not run in OpenVINO: {error}')
        return _as_it_is(trained, device, precision)


def unfit(engine: str, device: torch.device, precision: str) -> str | None:
    """Why an engine, ``torch`` among them, cannot compute in a precision on a device; None where it can."""
    if engine == 'torch':
        return None if has(precision, device) else f'this {device.type} does not support {precision}'
    return refusal(engine, precision) if device.type == 'cpu' else f'it runs on a CPU, not on {device}'


def _chosen(engine: str | None, trained: TrainedNet) -> str:
    """Raises:
    UserError: there is no such engine, or not for this network.
    """
    engine = engine or _default(trained)
    if engine not in ENGINES:
        raise UserError(f'engine {engine!r}: must be one of {", ".join(ENGINES)}')
    if engine == 'torch' and isinstance(trained.net, EngineNet):
        raise UserError('engine torch: an ONNX file runs in openvino or onnxruntime')
    return engine


def _default(trained: TrainedNet) -> str:
    """The environment's engine; a file of another engine than PyTorch stays in it, since this call asks for none."""
    engine = os.environ.get('IAFMSR_ENGINE') or 'auto'
    return str(getattr(trained.net, 'engine', engine)) if engine == 'torch' else engine


def graphs_folder() -> Path:
    """The folder of kept graphs, which can be removed at any time."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'iafmsr' / 'graphs'


def _as_it_is(trained: TrainedNet, device: torch.device, precision: str) -> TrainedNet:
    if isinstance(trained.net, EngineNet) and precision != 'fp32':
        raise UserError(
            f'precision {precision}: {trained.net.engine} uses the precision with which the file was exported'
        )
    if not has(precision, device):
        raise UserError(f'precision {precision}: this {device.type} does not support it; use fp32, which is faster')
    return trained


def _converted(
    trained: TrainedNet,
    engine: str,
    device: torch.device,
    precision: str,
    say: Say,
    size: Sequence[int] | None,
    begins: Say,
) -> EngineNet:
    """The net in an engine. Kept are the graph, and for each engine and precision what its check has found."""
    if reason := unfit(engine, device, precision):
        raise UserError(reason)
    given = trained.net
    if isinstance(given, EngineNet) and (given.engine, given.precision) == (engine, precision):
        return given
    graph = _key(trained, size)
    checked = f'{graph}-{engine}-{version(engine)}-{precision}.checked'
    content = given.content if isinstance(given, EngineNet) else _kept(f'{graph}.onnx', say)
    found = json.loads(_kept(checked, say) or '{}')
    if 'fault' in found:
        raise UserError(found['fault'])
    if content is not None and found:
        return engine_net(content, engine, precision, found['described'])
    begins(
        f'{trained.arch} is prepared for {engine}: it is exported, and its results are checked. This is done once for '
        'these weights, and takes about 20 seconds, more on a busy machine'
    )
    try:
        if content is None:
            content = _exported(trained, size)
            _keep(f'{graph}.onnx', content, say)
        net = engine_net(content, engine, precision)
        _check(given, net, precision, trained.channels)
    except UserError as error:
        _keep(checked, json.dumps({'fault': str(error)}).encode(), say)
        raise
    except RuntimeError as error:  # memory mostly: it may go well another time
        raise UserError(str(error).strip().partition('\n')[0]) from None
    _keep(checked, json.dumps({'described': net.described}).encode(), say)
    return net


def _exported(trained: TrainedNet, size: Sequence[int] | None) -> bytes:
    try:
        return to_onnx(trained)
    except UserError:
        if size is None:
            raise
        return to_onnx(trained, size=size)


def _check(given: torch.nn.Module, net: EngineNet, precision: str, channels: int) -> None:
    """Raises:
    UserError: the two differ by more than what the precision, or that of a file that was given, explains.
    """
    limit, coarse = _LIMITS[precision], None
    if isinstance(given, EngineNet):
        limit = max(limit, LIMIT.get(str(given.described.get('precision')), limit))
    elif precision != 'fp32':
        coarse = _autocast(given, precision)
    size = net.described.get('size')
    largest_difference(given, net, limit, channels, (1, *size[::-1]) if size else None, coarse)


def _autocast(net: torch.nn.Module, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The net in half precision, by PyTorch on the CPU."""

    def run(lq: torch.Tensor) -> torch.Tensor:
        with torch.autocast('cpu', DTYPES[precision]):
            return net(lq).float()

    return run


def _kept(name: str, say: Say) -> bytes | None:
    """The content kept under a name, checked against its checksum; None if it is missing or damaged."""
    file = graphs_folder() / name
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(stored[32:]).digest() != stored[:32]:
        say(f'{file}: damaged; it is made again')
        return None
    return stored[32:]


def _keep(name: str, content: bytes, say: Say) -> None:
    try:
        write_whole(graphs_folder() / name, hashlib.sha256(content).digest() + content)
    except UserError as error:
        say(f'the converted network cannot be kept: {error}')


def _key(trained: TrainedNet, size: Sequence[int] | None) -> str:
    """A digest of what the net computes: the weights, the options, the code, and the versions of what exports it."""
    versions = [version(name) for name in ('torch', 'onnx', 'onnxscript') if find_spec(name)]
    digest = hashlib.sha256(repr([size, versions, torch.backends.cpu.get_cpu_capability()]).encode())
    if isinstance(trained.net, EngineNet):
        digest.update(trained.net.content)
        return digest.hexdigest()
    digest.update(_code())
    for part in _parts_of(trained.net):
        digest.update(part)
    return digest.hexdigest()


def _parts_of(net: torch.nn.Module) -> Iterator[bytes]:
    for name, module in net.named_modules():
        kind = type(module)
        plain = sorted((key, value) for key, value in vars(module).items() if isinstance(value, _PLAIN))
        yield repr([name, kind.__module__, kind.__qualname__, plain]).encode()
        if kind.__module__.partition('.')[0] not in ('torch', 'iafmsr'):  # a network of the user's, or of spandrel
            yield _source(kind)
    for name, value in chain(net.named_parameters(), net.named_buffers()):
        yield repr([name, value.dtype, value.shape]).encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _source(kind: Any) -> bytes:
    file = inspect.getsourcefile(kind)
    return Path(file).read_bytes() if file else b''


@cache
def _code() -> bytes:
    here = Path(__file__).parent
    files = [path for room in _ROOMS for path in sorted((here.parent / room).glob('*.py'))]
    files += [here / f'{name}.py' for name in ('graph', 'rewriting', 'translations', 'agreement')]
    return b''.join(path.read_bytes() for path in files)
