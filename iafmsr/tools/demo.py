"""The demonstration: a small IAFMNet x4 trained in minutes on the photographs that come with scikit-image.

It takes a DF2K user's steps: originals, sub-images in LMDBs, a run of ``iafmsr/train.py`` by an option file; then it
compares the network with bicubic interpolation on photographs that it has not seen.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from iafmsr.cli.arguments import Parser, number
from iafmsr.errors import UserError, cli_errors
from iafmsr.files.figures import colour_panel, draw_figure, enlarge, frame, image_panel
from iafmsr.files.photographs import photograph
from iafmsr.files.reading import read_picture
from iafmsr.nets.loading import load_net
from iafmsr.ops.resize import imresize, mod_crop
from iafmsr.options.places import ROOT
from iafmsr.tools.measure.quality import Quality, y_quality
from iafmsr.tools.prepare.forms import SubImages, WholePictures
from iafmsr.tools.prepare.preparation import prepare

__all__ = ['run_demo']

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
SHOWN, SHOWN_BOX = 'chelsea', (60, 100, 128)  # top, left, size in HR pixels

_OPTIONS = 'options/demo_IAFMNet_x4.yml'
_SCALE = 4


@dataclass(frozen=True)
class Outcome:
    """One held-out photograph: pictures are uint8 ``(3, H, W)`` RGB, maps ``(H / 4, W / 4)``."""

    name: str
    lr: Tensor
    hr: Tensor
    bicubic: Tensor
    sr: Tensor
    idm: Tensor
    mask: Tensor
    bicubic_quality: Quality
    sr_quality: Quality


def run_demo(root: Path, seed: int = 0, retrain: bool = False) -> None:
    """Prepare, train, print PSNR and SSIM beside bicubic's, and draw ``results/demo/demo.png``.

    What an earlier call has finished is not done again, and an interrupted training goes on.

    Args:
        root: The repository root.
        seed: Of the training.
        retrain: Train anew. The old run is kept, renamed.

    Raises:
        UserError: scikit-image is not installed, or the training failed.
    """
    data = root / 'datasets/demo'
    prepare_photographs(data)
    net = load_net(train(root, seed, retrain)).net
    outcomes = [
        evaluate(net, path, data / f'val/LR_bicubic/X4/{path.stem}x4.png')
        for path in sorted((data / 'val/HR').glob('*.png'))
    ]
    print(table(outcomes))
    picture = root / 'results/demo/demo.png'
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(next(outcome for outcome in outcomes if outcome.name == SHOWN)).save(picture)
    print(f'\nThe picture: {picture.relative_to(root)}')


def prepare_photographs(data: Path) -> None:
    """Copy scikit-image's photographs to ``data`` and make ``train`` (LMDBs) and ``val`` (folders) of them."""
    for part, names in (('train', TRAINING), ('val', VALIDATION)):
        originals = data / 'originals' / part
        originals.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(photograph(name), originals / name)
    # small crops: a small batch then spends its time in the network and not in decoding PNG files
    prepare([data / 'originals/train'], data / 'train', [_SCALE], SubImages(crop_size=240, step=120, min_size=128))
    prepare([data / 'originals/val'], data / 'val', [_SCALE], WholePictures())


def train(root: Path, seed: int, retrain: bool) -> Path:
    """Train by the demo's option file in a process of its own, or go on with it; returns the checkpoint."""
    name = f'demo_IAFMNet_x4_seed{seed}'
    checkpoint = root / 'experiments' / name / 'models/net_g_latest.pth'
    if checkpoint.exists() and not retrain:
        print(f'{checkpoint.relative_to(root)} is there: not trained again (--retrain does)')
        return checkpoint
    command = [
        sys.executable,
        str(root / 'iafmsr/train.py'),
        '-opt',
        str(root / _OPTIONS),
        '--force_yml',
        f'name={name}',
        f'manual_seed={seed}',
        f'num_gpu={min(1, torch.cuda.device_count())}',
    ]
    if not retrain:
        command.append('--auto_resume')
    # a net and a batch this small gain little from a second thread, and lose much where it has to wait for a core
    code = subprocess.run(command, cwd=root, env={'OMP_NUM_THREADS': '1', **os.environ}).returncode
    if code:
        raise UserError(f'the training ended with code {code}; run the demo again to go on')
    return checkpoint


@torch.no_grad()
def evaluate(net: nn.Module, hr_path: Path, lr_path: Path) -> Outcome:
    """Upscale one photograph by both methods and measure them against the original."""
    hr, lr = mod_crop(read_picture(hr_path), _SCALE), read_picture(lr_path)
    output, density = net(lr[None].float() / 255, return_density=True)
    sr = (output[0].clamp(0, 1) * 255).round().to(torch.uint8)
    bicubic = imresize(lr, _SCALE)
    return Outcome(
        hr_path.stem,
        lr,
        hr,
        bicubic,
        sr,
        density.idm[0, 0],
        density.mask[0, 0],
        y_quality(bicubic, hr, _SCALE),
        y_quality(sr, hr, _SCALE),
    )


def table(outcomes: list[Outcome]) -> str:
    """PSNR and SSIM of each photograph and their means."""
    rows = [
        (o.name, o.bicubic_quality.psnr, o.bicubic_quality.ssim, o.sr_quality.psnr, o.sr_quality.ssim) for o in outcomes
    ]
    rows.append(('mean', *np.mean([row[1:] for row in rows], axis=0)))
    lines = [
        'x4, Y channel, 4 pixels cropped',
        '',
        f'{"":12}{"bicubic":>16}{"IAFMNet":>18}',
        f'{"photograph":12}{"PSNR":>8}{"SSIM":>8}{"PSNR":>10}{"SSIM":>8}{"gain":>8}',
    ]
    lines += [f'{name:12}{p0:8.2f}{s0:8.4f}{p1:10.2f}{s1:8.4f}{p1 - p0:+8.2f} dB' for name, p0, s0, p1, s1 in rows]
    return '\n'.join(lines)


def draw(outcome: Outcome) -> Image.Image:
    """A detail by each method, and the whole photograph with its information density map and its active sites."""
    top, left, size = SHOWN_BOX
    detail = (..., slice(top, top + size), slice(left, left + size))
    height, width = outcome.hr.shape[-2:]
    percent = 100 * outcome.mask.float().mean().item()
    mask = 255 * enlarge(outcome.mask, _SCALE).to(torch.uint8).expand(3, -1, -1)
    return draw_figure(
        [
            [
                image_panel('LR\nnearest neighbour', enlarge(enlarge(outcome.lr, _SCALE)[detail], 2)),
                image_panel(f'bicubic\n{outcome.bicubic_quality.psnr:.2f} dB', enlarge(outcome.bicubic[detail], 2)),
                image_panel(f'IAFMNet\n{outcome.sr_quality.psnr:.2f} dB', enlarge(outcome.sr[detail], 2)),
                image_panel('HR\noriginal', enlarge(outcome.hr[detail], 2)),
            ],
            [
                image_panel(f'{outcome.name}\nframe: the detail above', frame(outcome.hr, top, left, size)),
                colour_panel('IDM\ninformation density map', outcome.idm, height, width),
                image_panel(f'active sites\nwhite: the densest {percent:.1f} %', mask),
            ],
        ],
        'x4. PSNR: Y channel of the whole photograph, 4 pixels cropped. The IDM has one value for each LR pixel; '
        'bright is dense.\nAt the active sites the sparse convolution works.',
    )


@cli_errors()
def main() -> None:
    parser = Parser(prog='scripts/demo.sh', description=__doc__)
    parser.add_argument('--seed', type=number(0), default=0, metavar='SEED', help='seed of the training')
    parser.add_argument('--retrain', action='store_true', help='train anew, even if a finished run is there')
    args = parser.parse_args()
    run_demo(ROOT, args.seed, args.retrain)


if __name__ == '__main__':
    main()
