"""Everything that wants a GPU to be tried, in one go: what is equal, what is fast, and whether runs go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from iafmsr.bridge.basicsr_api import build_model
from iafmsr.layers.density import top_k_mask
from iafmsr.nets.graph import to_onnx
from iafmsr.nets.trained import TrainedNet
from iafmsr.ops.rulebook import spconv_installed
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import submanifold_conv2d
from iafmsr.options.files import load_options
from iafmsr.options.places import OPTIONS
from iafmsr.tools.benchmark.cache import Cache
from iafmsr.tools.benchmark.forms import FORMS
from iafmsr.tools.benchmark.nets import parse_nets
from iafmsr.tools.benchmark.output import as_text
from iafmsr.tools.benchmark.run import SpeedTest, benchmark
from iafmsr.tools.benchmark.sparse import crossovers, measure
from iafmsr.tools.benchmark.sparse import tables as sparse_tables
from iafmsr.tools.benchmark.speed import forms_of
from iafmsr.tools.benchmark.tables import tables
from iafmsr.tools.demo import prepare_photographs
from iafmsr.tools.measure.machine import now
from iafmsr.tools.profiling.launches import killed_and_resumed
from iafmsr.tools.profiling.profile import profile_training
from iafmsr.tools.profiling.reports import Report
from iafmsr.training.options import options_of_training

__all__ = ['LARGE', 'PARTS', 'SMALL', 'Extent', 'try_out']

_LIMIT = 1e-4  # of float32, over the largest value
_FOUND = tuple[str, Any]  # a line or table for people, and figures


@dataclass(frozen=True)
class Extent:
    """How much is done: pictures (width, height), random cases, iterations, and options of the training."""

    sizes: Sequence[tuple[int, int]]
    cases: int
    seconds: float
    turns: int
    iterations: int
    total_iter: int
    batch: int
    keys: str
    network: dict[str, Any] = field(default_factory=dict)


LARGE = Extent([(320, 180), (640, 360), (1280, 720), (3840, 2160)], 100, 0.5, 3, 20, 400, 64, '')
SMALL = Extent([(24, 16)], 3, 0.0, 1, 1, 6, 2, ':num_feat=8,num_block=1', {'num_feat': 8, 'num_block': 1})


def try_out(device: torch.device, extent: Extent, folder: Path) -> list[Report]:
    """All parts; one that fails does not keep the others from being tried.

    Args:
        device: a GPU, or the CPU for a rehearsal.
        extent: :data:`LARGE`, or :data:`SMALL`.
        folder: for pictures and runs.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    reports = []
    for part, work in PARTS.items():
        start = time.perf_counter()
        try:
            text, figures = work(device, extent, folder)
            failed = False
        except Exception as error:  # whatever it is, the GPU is there for the other parts
            text, figures, failed = f'{type(error).__name__}: {error}'.partition('\n')[0], None, True
        reports.append(Report(part, time.perf_counter() - start, text, figures, failed))
        print(f'{part} ({reports[-1].seconds:.0f} s){": FAILED" if failed else ""}\n\n{text}\n', flush=True)
    return reports


def _equal(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    """Values and gradients of the sparse convolution on the device, against the dense form in float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    backends = ['dense', 'gather', *(['spconv'] if device.type == 'cuda' and spconv_installed() else [])]
    worst = dict.fromkeys(backends, 0.0)
    for case in range(extent.cases):
        x, out = torch.randn(2, 2, 16, 9 + case, 21, generator=generator)
        weight = torch.randn(16, 16, 3, 3, generator=generator)
        mask = top_k_mask(torch.rand(2, 1, 9 + case, 21, generator=generator), (case + 1) / extent.cases)
        exact = _values([x.double(), weight.double(), mask, out.double()], 'dense')
        for backend in backends:
            found = _values([value.to(device) for value in (x, weight, mask, out)], backend)
            for one, other in zip(exact, found, strict=True):
                worst[backend] = max(worst[backend], float((one - other.cpu()).abs().max() / one.abs().max()))
    if max(worst.values()) > _LIMIT:
        raise ValueError(f'largest difference over the largest value: {worst}')
    return ', '.join(f'{name} differs by {value:.1e}' for name, value in worst.items()), worst


def _values(given: list[Tensor], backend: str) -> list[Tensor]:
    """The result of x, weight, mask, and the gradients in x and weight of one in the result."""
    x, weight = (value.clone().requires_grad_() for value in given[:2])
    out = submanifold_conv2d(x, weight, ActiveSites(given[2]), backend)
    return [out.detach(), *torch.autograd.grad(out, (x, weight), given[3])]


def _crossover(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    shares = [0.05, 0.2, 0.5, 1.0]
    timings = list(measure(extent.sizes, [40], shares, device, None, extent.seconds))
    found = {
        ('with' if gradient else 'without') + ' gradients': share for gradient, share in crossovers(timings).items()
    }
    least = '\n'.join(f'{name} gather is not slower than dense up to {share:g}' for name, share in found.items())
    return as_text(sparse_tables(timings, device)) + '\n\n' + least, found


def _nets(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    """Time and memory of the networks, and the picture of the device against the CPU's."""
    nets = [f'IAFMNet{extent.keys}', *([] if extent.keys else ['SAFMN', 'SMFANet'])]
    forms = [form for form in forms_of(['all'], device) if FORMS[form][0] == 'torch'][: 1 if extent.keys else None]
    pictures = max(2, extent.iterations)
    (report,) = benchmark(nets, [], [4], folder, Cache(None), device, SpeedTest(forms, extent.sizes, pictures, device))
    net, lq = parse_nets(nets[:1], 4, folder)[0].build(), torch.rand(1, 3, 40, 56)
    with torch.inference_mode():
        difference = float((net(lq) - net.to(device)(lq.to(device)).cpu()).abs().max())
    if difference > _LIMIT:
        raise ValueError(f'the picture of the device differs from that of the CPU by {difference:.1e}')
    return as_text(tables(report)[1:]) + f'\n\ndifference from the CPU: {difference:.1e}', {'difference': difference}


def _training(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    profile = profile_training(str(_options(device, extent, folder)), folder, extent.iterations, extent.turns)
    return profile.as_text(), json.loads(profile.as_json())


def _waits(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    """Iterations between two lines of the log, none of which may wait for the GPU."""
    file = _options(device, extent, folder)
    side = 16
    pair = {'lq': torch.rand(2, 3, side, side), 'gt': torch.rand(2, 3, 4 * side, 4 * side)}
    data = {name: value.pin_memory() if device.type == 'cuda' else value for name, value in pair.items()}
    for precision in (None, 'bf16', 'fp16') if device.type == 'cuda' else (None,):
        opt = options_of_training(str(file), folder) | {'dist': False, 'rank': 0, 'world_size': 1, 'is_train': True}
        opt |= {'num_gpu': int(device.type == 'cuda'), 'path': {}}
        opt['train']['autocast'] = precision
        model = build_model(opt)
        try:
            for iteration in range(1, 4):
                model.feed_data(data | {'lq_path': ['a.png', 'b.png']})
                model.optimize_parameters(iteration)
                if device.type == 'cuda':
                    torch.cuda.synchronize()
                    torch.cuda.set_sync_debug_mode('error')  # from the second one on
        finally:
            if device.type == 'cuda':
                torch.cuda.set_sync_debug_mode('default')
    return 'nothing waits for the device between two lines of the log', None


def _runs(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    processes = max(1, torch.cuda.device_count())
    difference = killed_and_resumed(_options(device, extent, folder), folder, processes, extent.total_iter)
    backend = 'nccl' if device.type == 'cuda' else 'gloo'
    text = f'{processes} processes by {backend}; killed and resumed, weights differ by {difference:.1e}'
    return text, {'processes': processes, 'difference': difference}


def _engines(device: torch.device, extent: Extent, folder: Path) -> _FOUND:
    """The exported graph in what onnxruntime has for the device."""
    import onnxruntime

    wanted = (
        ('TensorrtExecutionProvider', 'CUDAExecutionProvider') if device.type == 'cuda' else ('CPUExecutionProvider',)
    )
    known = [name for name in wanted if name in onnxruntime.get_available_providers()]
    if not known:
        return 'onnxruntime has no provider for it here', {}
    net = parse_nets([f'IAFMNet{extent.keys}'], 4, folder)[0].build()
    content, (width, height) = to_onnx(TrainedNet(net, 'IAFMNet', 4)), extent.sizes[0]
    lq, found = torch.rand(1, 3, height, width), {}
    with torch.inference_mode():
        expected = net(lq)
    for name in known:
        session = onnxruntime.InferenceSession(content, providers=[name])
        for _ in range(3):
            start = now(torch.device('cpu'))
            (result,) = session.run(None, {'lq': lq.numpy()})
            ms = 1000 * (now(torch.device('cpu')) - start)
        found[name] = {'ms': ms, 'difference': float((torch.from_numpy(result) - expected).abs().max())}
    return '\n'.join(f'{n}: {f["ms"]:.1f} ms, differs by {f["difference"]:.1e}' for n, f in found.items()), found


PARTS: dict[str, Callable[[torch.device, Extent, Path], _FOUND]] = {
    'sparse convolution: values and gradients': _equal,
    'sparse convolution: what is faster': _crossover,
    'networks': _nets,
    'training compared with stock BasicSR': _training,
    'training without waiting': _waits,
    'several processes, kill and resume': _runs,
    'other engines': _engines,
}


def _options(device: torch.device, extent: Extent, folder: Path) -> Path:
    """An option file of a short training on photographs, both made at the first call."""
    file = folder / 'gpu.yml'
    if file.exists():
        return file
    prepare_photographs(folder / 'data')
    opt = load_options(str(OPTIONS / 'short_IAFMNet_x4.yml'))
    opt |= {'name': 'gpu', 'num_gpu': 'auto' if device.type == 'cuda' else 0}
    pairs = {f'dataroot_{kind}': str(folder / 'data/train' / name) for kind, name in _PAIRS.items()}
    workers = {'num_worker_per_gpu': 0} if extent.keys else {}
    sizes = {'gt_size': 32 if extent.keys else 192, 'total_batch_size': extent.batch}
    opt['datasets']['train'] |= pairs | sizes | workers
    opt['network_g'] |= extent.network
    opt['train'] |= {'total_iter': extent.total_iter}
    opt['train']['scheduler']['periods'] = [extent.total_iter]
    opt['logger'] |= {'print_freq': max(1, extent.total_iter // 8), 'save_checkpoint_freq': extent.total_iter // 2}
    file.write_text(yaml.safe_dump(opt))
    return file


_PAIRS = {'gt': 'HR_sub.lmdb', 'lq': 'LR_bicubic_X4_sub.lmdb'}
