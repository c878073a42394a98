"""Serve a page on which a picture is dropped and seen before and after, with the map that guided the net.

The page is reached from this machine alone, loads nothing from elsewhere and sends nothing there; what was uploaded is
removed at the end. Packages: the extra `serve`.

  iafmsr serve --weights IAFMNet_x4.pth
"""

from __future__ import annotations

import argparse

from iafmsr.arguments import add_weights, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_weights(parser, 'weights of a network with an information density map')
    add(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='address to listen at; 127.0.0.1 is reached from this machine alone, 0.0.0.0 from everywhere',
    )
    add(
        '--port',
        type=number(0, 65535),
        default=7860,
        metavar='N',
        help='port to listen at; 0 takes the first that is free from 7860 on',
    )
    add('--max-megapixels', type=float, default=1.0, metavar='N', help='largest picture that is taken, in megapixels')


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        UserError: the packages are missing, the weights are of no such net, or the port is taken.
    """
    import signal
    from importlib.util import find_spec

    from iafmsr.errors import UserError
    from iafmsr.files.names import printable
    from iafmsr.inference.tiles import is_exact
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net

    if find_spec('gradio') is None:
        raise UserError("gradio is not installed; the extra 'serve' brings it")
    if args.max_megapixels <= 0:
        raise UserError(f'--max-megapixels {args.max_megapixels:g}: more than 0 is wanted')
    weights, given = find_weights(args.weights)
    trained = load_net(weights, given)
    if not is_exact(trained):
        raise UserError(f'{printable(weights)}: {trained.arch} has no information density map that is known beforehand')

    from iafmsr.serve.page import serving

    with serving(trained, args.host, args.port, round(1e6 * args.max_megapixels)) as app:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left behind
        print(f'{trained.arch} x{trained.scale}: {app.local_url} (Ctrl-C ends it)', flush=True)
        app.block_thread()
    return 0
