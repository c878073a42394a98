"""``iafmsr download``, where users of BasicSR look for it."""

import sys

from iafmsr.cli import main

if __name__ == '__main__':
    sys.exit(main(['download', *sys.argv[1:]]))
