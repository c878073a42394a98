"""List the known weights: those that can be given to --weights by their name.

The column Set5 is the PSNR in dB on the pictures of Set5, measured only on the brightness (the Y channel). It is read
from weights/README.md, which describes the weights.
"""

from __future__ import annotations

import argparse
import re


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Raises:
    UserError: a file of weights is damaged.
    """
    from iafmsr.files.names import printable
    from iafmsr.nets.files import FOLDER, known_names
    from iafmsr.nets.reading import load_checkpoint

    card = FOLDER / 'README.md'
    text = card.read_text(encoding='utf-8') if card.is_file() else ''
    psnr = dict(re.findall(r'^\| \*\*(\S+)\*\* \|[^|]*\| (\d+\.\d+) /', text, re.MULTILINE))
    names = known_names()
    width = max(map(len, ['name', *names]))
    print(f'{"name":{width}}  scale  parameters   Set5  file')
    for name in names:
        file = FOLDER / f'{name}.pth'
        content = load_checkpoint(file)
        params = sum(value.numel() for value in content['params'].values())
        scale = f'x{content["network_g"]["scale"]}'
        print(f'{name:{width}}  {scale:>5}  {params:>10,}  {psnr.get(name, ""):>5}  {printable(file)}')
    return 0
