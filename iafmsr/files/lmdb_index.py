"""The index of an LMDB as BasicSR keeps it: ``meta_info.txt``."""

import re

__all__ = ['META_LINE']

# a line, `name.png (height,width,channels) compression`: key, height, width
META_LINE = re.compile(r'^([^.\n]+)\.\S* \((\d+),(\d+),\d+\).*$', re.MULTILINE)
