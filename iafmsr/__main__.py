"""``python -m iafmsr``: the command of that name."""

import sys

from iafmsr.cli import main

if __name__ == '__main__':  # a spawned process imports this module again
    sys.exit(main())
