"""Train a network with an option file: ``python iafmsr/train.py -opt options/train_IAFMNet_x4.yml``."""

import os
import sys

# Python puts the folder of a script first on its path: there `test` and `utils` would be ours, not what others mean
PACKAGE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(PACKAGE)
sys.path[:] = [ROOT] + [path for path in sys.path if path not in (PACKAGE, ROOT)]

from iafmsr.cli import main as command  # noqa: E402
from iafmsr.cli import register  # noqa: E402

register()  # here: a spawned data worker imports this module again, and needs it to read its dataset


def main() -> None:
    sys.exit(command(['train', *sys.argv[1:]]))


if __name__ == '__main__':
    main()
