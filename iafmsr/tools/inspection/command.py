"""Show where in a picture a network does extra work, and whether its error is large there.

Two files are written for each IMAGE: NAME_inspect.png is a figure, and NAME_inspect.html is a page that any browser
opens without a connection. With the true pictures (--hr or --downscale) the error is shown too. A table then shows how
well the information density map and fixed filters match the error (rank correlation). It is saved in inspect.json.

  iafmsr inspect photo.png --weights IAFMNet_x4
  iafmsr inspect originals/ --downscale --weights IAFMNet_x4 --output maps
  iafmsr inspect Set5/LR_bicubic/X4 --hr Set5/HR --weights experiments/train_IAFMNet_x4

If --weights is the folder of a run, the maps of up to 8 checkpoints of the run are shown too.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iafmsr.cli.arguments import add_weights

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

    from iafmsr.nets.trained import TrainedNet
    from iafmsr.tools.inspection.picture import Inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='pictures of up to 4 megapixels, or folders of them'
    )
    add_weights(parser, 'weights of a network with an information density map')
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        '--hr',
        type=Path,
        metavar='PATH',
        help='true picture of a single IMAGE, or folder of true pictures: that of NAMEx4.png must be called NAMEx4 or '
        'NAME (default: none)',
    )
    truth.add_argument(
        '--downscale',
        action='store_true',
        help='each IMAGE is a true picture: make it smaller by bicubic reduction, and enlarge the small picture',
    )
    parser.add_argument(
        '--lam',
        type=_pixel,
        metavar='X,Y',
        help='pixel of the result. NAME_lam.png is written too. It shows which pixels of the picture influence the '
        'result around X,Y (local attribution map), how widely they are spread (diffusion index), and which pixels '
        'influence X,Y itself (effective receptive field) (default: none)',
    )
    parser.add_argument(
        '--output', type=Path, metavar='DIR', default=Path('inspection'), help='folder for the figures and pages'
    )


def run(args: argparse.Namespace) -> int:
    """Inspect picture after picture; one that fails is named, and the others go on.

    Returns:
        The number of pictures that failed, 100 at most.

    Raises:
        UserError: there is nothing to begin with: weights, run, pictures, folder.
    """
    from iafmsr.errors import UserError
    from iafmsr.files.names import check_there, printable

    check_there(args.images)  # before PyTorch is imported, which takes seconds
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.nets.files import find_weights
    from iafmsr.tools.inspection.inputs import find_sources
    from iafmsr.tools.inspection.picture import inspect_picture
    from iafmsr.tools.inspection.report import Figures, as_json, as_text

    weights, given = find_weights(args.weights)
    trained = load_with_map(args.weights)
    earlier = _earlier(args.weights, given)
    sources = find_sources(args.images, args.hr, args.downscale, trained.scale)
    check_writable(args.output / 'inspect.json')
    figures, failed = [], 0
    for source in sources:
        try:
            found = inspect_picture(source.name, trained.net, trained.scale, *source.load(trained.scale), earlier)
            _write_attribution(found, args.output, trained.net, args.lam)
            write(found, args.output)
        except UserError as error:
            print(f'iafmsr: error: {error}', file=sys.stderr)
            failed += 1
        else:
            print(f'{printable(args.output / source.name)}_inspect.png, .html', file=sys.stderr)
            figures.append(Figures.of(found))
    if figures and figures[0].correlation:
        print(as_text(figures))
        write_whole(args.output / 'inspect.json', as_json(figures, str(weights), trained.scale).encode())
    return min(failed, 100)


def _earlier(weights: str, given: Mapping[str, Any]) -> dict[int, nn.Module]:
    """The networks at the checkpoints of a run's folder, by iteration."""
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.trained import in_rgb
    from iafmsr.tools.inspection.training import checkpoints

    return {iteration: in_rgb(load_net(path, given).net) for iteration, path in checkpoints(Path(weights)).items()}


def load_with_map(entry: str) -> TrainedNet:
    """The net of ``--weights ENTRY``, which has to have a map; it takes RGB pictures.

    Raises:
        UserError: it is no network, or has no map.
    """
    from iafmsr.errors import UserError
    from iafmsr.files.names import printable
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.trained import in_rgb
    from iafmsr.tools.inspection.picture import has_map

    weights, given = find_weights(entry)
    trained = load_net(weights, given)
    if not has_map(trained.net):
        raise UserError(f'{printable(weights)}: {trained.arch} has no information density map')
    return replace(trained, net=in_rgb(trained.net), channels=3)


def _pixel(text: str) -> tuple[int, int]:
    x, _, y = text.partition(',')
    if not (x.isdigit() and y.isdigit()):
        raise argparse.ArgumentTypeError(f'{text}: must be X,Y in pixels, such as 40,25')
    return int(x), int(y)


def write(found: Inspection, folder: Path) -> None:
    """The figure and the page of a picture."""
    from iafmsr.files.whole import write_whole
    from iafmsr.tools.inspection.figure import draw
    from iafmsr.tools.inspection.page import page

    write_whole(folder / f'{found.name}_inspect.png', _png(draw(found)))
    write_whole(folder / f'{found.name}_inspect.html', page(found).encode())


def _write_attribution(found: Inspection, folder: Path, net: nn.Module, lam: tuple[int, int] | None) -> None:
    """The figure of ``--lam``, where it was asked for."""
    from iafmsr.files.whole import write_whole
    from iafmsr.tools.inspection.figure import draw_attribution

    if lam is None:
        return
    image, index = draw_attribution(found, net, *lam)
    print(f'{found.name}: diffusion index {index:.2f} at {lam[0]},{lam[1]}')
    write_whole(folder / f'{found.name}_lam.png', _png(image))


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, 'PNG')
    return content.getvalue()
