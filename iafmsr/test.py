"""Test a network by an option file: ``python iafmsr/test.py -opt options/test_IAFMNet_x4.yml``."""

import os
import sys

# Python puts the folder of a script first on its path: there `test` and `utils` would be ours, not what others mean
PACKAGE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(PACKAGE)
sys.path[:] = [ROOT] + [path for path in sys.path if path not in (PACKAGE, ROOT)]

import iafmsr  # noqa: E402, F401  # first, here and in spawned data workers: cures BasicSR, registers what is ours
from iafmsr.errors import cli_errors  # noqa: E402


@cli_errors()
def main() -> None:
    from basicsr import test as pipeline

    from iafmsr.utils.allocator import keep_freed_memory
    from iafmsr.utils.options import parse_options

    pipeline.parse_options = parse_options
    keep_freed_memory()
    pipeline.test_pipeline(ROOT)


if __name__ == '__main__':
    main()
