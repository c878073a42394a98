"""``iafmsr prepare``, where users of BasicSR look for it."""

import sys

from iafmsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['prepare', *sys.argv[1:]]))
