"""Download DF2K (DIV2K and Flickr2K, about 28 GB) from the official addresses. See datasets/README.md."""

import argparse
from pathlib import Path

from iafmsr.data.download import DF2K, download
from iafmsr.errors import cli_errors


@cli_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--output', type=Path, default=Path('datasets'), help='folder of all data sets')
    args = parser.parse_args()
    for source in DF2K:
        download(source, args.output)


if __name__ == '__main__':
    main()
