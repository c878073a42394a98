"""Show where a network spends its work, and whether that is where the picture is hard.

For each IMAGE two files: NAME_inspect.png, a figure, and NAME_inspect.html, a page that any browser opens without a
connection. With the true pictures (--hr or --downscale) the error is shown too, and the rank correlation of the
information density map, of Sobel, Laplacian and local deviation with it is printed and kept in inspect.json.

  iafmsr inspect photo.png --weights IAFMNet_x4.pth
  iafmsr inspect originals/ --downscale --weights IAFMNet_x4.pth --output maps
  iafmsr inspect Set5/LR_bicubic/X4 --hr Set5/HR --weights experiments/train_IAFMNet_x4

Of a run's folder the map at up to 8 of its checkpoints is shown too.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from iafmsr.arguments import add_weights


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
        help='true picture, or folder of the true pictures, by name: of NAMEx4 NAME or NAMEx4 (default: none)',
    )
    truth.add_argument(
        '--downscale',
        action='store_true',
        help='take the pictures for the true ones, and make what is enlarged from them (MATLAB bicubic)',
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
    from iafmsr.files.names import printable
    from iafmsr.files.whole import check_writable, write_whole
    from iafmsr.inspection.figure import draw
    from iafmsr.inspection.inputs import find_sources
    from iafmsr.inspection.page import page
    from iafmsr.inspection.picture import has_map, inspect_picture
    from iafmsr.inspection.report import Figures, as_json, as_text
    from iafmsr.inspection.training import checkpoints
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net

    weights, given = find_weights(args.weights)
    trained = load_net(weights, given)
    if not has_map(trained.net):
        raise UserError(f'{printable(weights)}: {trained.arch} has no information density map')
    scale = trained.scale
    earlier = {iteration: load_net(path, given).net for iteration, path in checkpoints(Path(args.weights)).items()}
    sources = find_sources(args.images, args.hr, args.downscale, scale)
    check_writable(args.output / 'inspect.json')

    figures, failed = [], 0
    for source in sources:
        try:
            found = inspect_picture(source.name, trained.net, scale, *source.load(scale), earlier)
            content = io.BytesIO()
            draw(found).save(content, 'PNG')
            write_whole(args.output / f'{source.name}_inspect.png', content.getvalue())
            write_whole(args.output / f'{source.name}_inspect.html', page(found).encode())
        except UserError as error:
            print(f'iafmsr: error: {error}', file=sys.stderr)
            failed += 1
            continue
        print(f'{printable(args.output / source.name)}_inspect.png, .html', file=sys.stderr)
        figures.append(Figures.of(found))
    if figures and figures[0].correlation:
        print(as_text(figures))
        write_whole(args.output / 'inspect.json', as_json(figures, str(weights), scale).encode())
    return min(failed, 100)
