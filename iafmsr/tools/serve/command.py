"""Serve a page for the browser: drop a picture there to see it before and after, and its information density map.

By default only this machine can reach the page. The page loads nothing from other servers and sends nothing to them.
Uploaded pictures are removed at the end. Needs the extra `serve`.

  iafmsr serve --weights IAFMNet_x4
"""

from __future__ import annotations

import argparse

from iafmsr.cli.arguments import add_engine, add_weights, first_time, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_weights(parser, 'weights of a network with an information density map')
    add_engine(parser)
    add(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='address to listen on; only this machine can reach 127.0.0.1, every machine in the network 0.0.0.0',
    )
    add(
        '--port',
        type=number(0, 65535),
        default=7860,
        metavar='N',
        help='port to listen on; 0: the first free port from 7860 on',
    )
    add(
        '--max-seconds',
        type=number(1),
        default=20,
        metavar='N',
        help='maximum time for a picture; one that would take longer is made smaller first, and the page says so',
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        UserError: the packages are missing, the weights are of no such net, or the port is taken.
    """
    import signal
    from importlib.util import find_spec

    from iafmsr.errors import UserError, say
    from iafmsr.files.names import printable
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.nets.tiles import is_exact

    if find_spec('gradio') is None:
        raise UserError("gradio is not installed; install the extra 'serve'")
    weights, given = find_weights(args.weights)
    trained = load_net(weights, given)
    if not is_exact(trained):
        raise UserError(f'{printable(weights)}: {trained.arch} has no information density map before the result')

    import torch

    from iafmsr.nets.in_engine import in_engine
    from iafmsr.tools.serve.page import serving
    from iafmsr.tools.serve.work import pixels_within

    # an engine's graph has the budget that it was made with, and the page a slider for it
    engine = args.engine or ('torch' if getattr(trained.net, 'num_routed', 0) else None)
    trained = in_engine(trained, engine, torch.device('cpu'), say=say, begins=first_time(say))

    with serving(trained, args.host, args.port, pixels_within(trained, args.max_seconds)) as app:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left behind
        print(f'{trained.arch} x{trained.scale}: {app.local_url} (Ctrl-C ends it)', flush=True)
        app.block_thread()
    return 0
