#!/usr/bin/env python3
"""Serve the page of `iafmsr serve`, drop a picture on it in a browser without a screen, and save what is to be seen.

Wants the extras serve and browser, and Chromium with ChromeDriver.
"""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('picture', type=Path)
    parser.add_argument('output', type=Path, metavar='FILE.png')
    parser.add_argument('--weights', required=True, metavar='FILE')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(1120, 1070), metavar=('WIDTH', 'HEIGHT'), help='of the window (1120 1070)'
    )
    args = parser.parse_args()

    from iafmsr.files.whole import write_whole
    from iafmsr.nets.files import find_weights
    from iafmsr.nets.loading import load_net
    from iafmsr.serve.browser import photograph
    from iafmsr.serve.page import serving

    with serving(load_net(*find_weights(args.weights)), '127.0.0.1', 0, 10**6) as app:
        write_whole(args.output, photograph(app.local_url, args.picture, args.size))


if __name__ == '__main__':
    main()
