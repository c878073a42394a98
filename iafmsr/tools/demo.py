"""Show what the networks do: enlarge an example picture, and compare the result with the original.

The example is a drawing that comes with the package. It is made smaller, and enlarged again by bicubic interpolation
and by the network. A table gives PSNR and SSIM of both. A figure and a page show the pictures and the information
density map. They are written to results/demo: below the root of the checkout when you work in it, and else below the
working directory. This takes seconds.

  iafmsr demo
  iafmsr demo --train

With --train the demo first trains a small x4 network, which takes minutes. It shows the steps of a real training on the
photographs that come with scikit-image: prepare, train, test on photographs that the network has not seen. Needs the
extra `train`, and BasicSR.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from iafmsr.cli.arguments import add_weights, number
from iafmsr.files.names import from_here

if TYPE_CHECKING:
    from iafmsr.tools.inspection.picture import Inspection

# No scene is on both sides: motorcycle_left and _right are one.
TRAINING = (
    'brick.png',
    'camera.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'motorcycle_left.png',
    'motorcycle_right.png',
    'page.png',
    'rocket.jpg',
)
VALIDATION = ('astronaut.png', 'chelsea.png', 'coffee.png')
SHOWN = 'chelsea'
EXAMPLE = Path(__file__).with_name('still_life.png')

_OPTIONS = 'demo_IAFMNet_x4.yml'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights(parser, 'weights of a network with an information density map', 'IAFMNet_x4')
    parser.add_argument('--train', action='store_true', help='train a small network first, and show its results')
    parser.add_argument('--seed', type=number(0), default=0, metavar='N', help='seed of the training')
    parser.add_argument('--retrain', action='store_true', help='train again, even if there is a finished run')


def run(args: argparse.Namespace) -> int:
    """Returns:
        0.

    Raises:
        UserError: the weights are of no network with a map, a package is missing, or the training failed.
    """
    from iafmsr.options.places import root_here

    root = root_here()
    if args.train or args.retrain:
        checkpoint = train(root, args.seed, args.retrain)
        weights, folder = from_here(checkpoint.parents[1]), root / 'datasets/demo/val/HR'
        show(root, weights, [folder / name for name in VALIDATION], SHOWN)
        steps = {'train --help': 'train on your own pictures'}
    else:
        weights = args.weights or 'IAFMNet_x4'
        show(root, weights, [EXAMPLE], EXAMPLE.stem)
        steps = {'demo --train': 'train a small network in minutes'}
    steps = {
        f'upscale photo.jpg --output photo_x4.png --weights {weights}': 'enlarge your own picture',
        f'serve --weights {weights}': 'the same on a page in the browser',
        **steps,
    }
    print('\nNext steps:', *(f'  iafmsr {command}\n      {what}' for command, what in steps.items()), sep='\n')
    return 0


def show(root: Path, weights: str, originals: list[Path], shown: str) -> None:
    """Reduce the originals, enlarge them, print the table, and write figure and page of one of them.

    Raises:
        UserError: the weights are of no network with a map, or nothing can be written.
    """
    from iafmsr.tools.inspection.command import load_with_map, write
    from iafmsr.tools.inspection.inputs import find_sources
    from iafmsr.tools.inspection.picture import inspect_picture

    trained = load_with_map(weights)
    found = [
        inspect_picture(source.name, trained.net, trained.scale, *source.load(trained.scale))
        for source in find_sources(originals, None, True, trained.scale)
    ]
    print(table(found))
    folder = root / 'results/demo'
    write(next(each for each in found if each.name == shown), folder)
    print(
        f'\nFigure: {from_here(folder)}/{shown}_inspect.png\nPage for a browser: {shown}_inspect.html in the same '
        'folder'
    )


def table(found: list[Inspection]) -> str:
    """PSNR and SSIM of each picture, and their means where there are several."""
    names = [each.name for each in found]
    rows = [
        [figure for net in ('bicubic', 'net') for figure in (each.quality[net].psnr, each.quality[net].ssim)]
        for each in found
    ]
    if len(rows) > 1:
        names.append('mean')
        rows.append([fmean(column) for column in zip(*rows, strict=True)])
    scale = found[0].scale
    lines = [
        f'x{scale}, Y channel, {scale} pixels cropped; PSNR in dB',
        '',
        f'{"":12}{"bicubic":>16}{"IAFMNet":>18}',
        f'{"picture":12}{"PSNR":>8}{"SSIM":>8}{"PSNR":>10}{"SSIM":>8}{"gain":>8}',
    ]
    figures = zip(names, rows, strict=True)
    lines += [f'{name:12}{p0:8.2f}{s0:8.4f}{p1:10.2f}{s1:8.4f}{p1 - p0:+8.2f} dB' for name, (p0, s0, p1, s1) in figures]
    return '\n'.join(lines)


def prepare_photographs(data: Path) -> None:
    """Copy scikit-image's photographs to ``data`` and make ``train`` (LMDBs) and ``val`` (folders) of them.

    Raises:
        UserError: scikit-image is not installed.
    """
    from iafmsr.files.photographs import photograph
    from iafmsr.tools.prepare.forms import SubImages, WholePictures
    from iafmsr.tools.prepare.preparation import prepare

    for part, names in (('train', TRAINING), ('val', VALIDATION)):
        originals = data / 'originals' / part
        originals.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(photograph(name), originals / name)
    # small crops: a small batch then spends its time in the network and not in decoding PNG files
    prepare([data / 'originals/train'], data / 'train', [4], SubImages(crop_size=240, step=120, min_size=128))
    prepare([data / 'originals/val'], data / 'val', [4], WholePictures())


def train(root: Path, seed: int, retrain: bool) -> Path:
    """Prepare the photographs and train by the demo's option file in a process of its own; returns the checkpoint.

    What an earlier call has finished is not done again, and an interrupted training goes on. With ``retrain`` it starts
    anew, and the old run is kept under another name.

    Raises:
        UserError: a package is missing, or the training failed.
    """
    import torch

    from iafmsr.errors import UserError

    prepare_photographs(root / 'datasets/demo')
    name = f'demo_IAFMNet_x4_seed{seed}'
    checkpoint = root / 'experiments' / name / 'models/net_g_latest.pth'
    if checkpoint.exists() and not retrain:
        print(f'{from_here(checkpoint)} exists and is not trained again (--retrain does this)')
        return checkpoint
    changed = [f'name={name}', f'manual_seed={seed}', f'num_gpu={min(1, torch.cuda.device_count())}', 'path:root=.']
    command = [sys.executable, '-m', 'iafmsr', 'train', '-opt', _OPTIONS, '--force_yml', *changed]
    # a net and a batch this small gain little from a second thread, and lose much where it has to wait for a core
    environment = {'OMP_NUM_THREADS': '1', **os.environ}
    code = subprocess.run([*command, *['--auto_resume'] * (not retrain)], cwd=root, env=environment).returncode
    if code:
        again = 'iafmsr demo --train' if retrain else 'the same command again'
        raise UserError(f'the training ended with code {code}; run {again} to go on')
    return checkpoint
