#!/usr/bin/env python3
"""Write the weights of a run as the folder weights/ holds them: averaged, in float32, with the network's options.

python scripts/publish_weights.py experiments/weights_IAFMNet_x4/models/net_g_latest.pth weights/IAFMNet_x4.pth
"""

import argparse
from pathlib import Path

from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, metavar='NET.pth', help='of a run: experiments/RUN/models/net_g_*.pth')
    parser.add_argument('target', type=Path, metavar='NAME.pth')
    args = parser.parse_args()

    from iafmsr.export.publishing import publish

    publish(args.source, args.target)


if __name__ == '__main__':
    main()
