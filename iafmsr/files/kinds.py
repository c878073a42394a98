"""The kinds of files that pictures are written to. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['KINDS', 'Kind']


@dataclass(frozen=True)
class Kind:
    """What a kind of file holds: sides of up to ``longest`` pixels, alpha, 16 bits (``deep``)."""

    name: str
    longest: int = 2**31 - 1
    alpha: bool = False
    deep: bool = False


KINDS = {
    '.png': Kind('PNG', alpha=True, deep=True),
    '.tif': (_tiff := Kind('TIFF', alpha=True, deep=True)),
    '.tiff': _tiff,
    '.jpg': (_jpeg := Kind('JPEG', longest=65500)),
    '.jpeg': _jpeg,
    '.webp': Kind('WEBP', longest=16383, alpha=True),
    '.bmp': Kind('BMP', longest=30000),
}
