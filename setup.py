"""What pyproject.toml cannot say: option files and weights lie at the top of a checkout, and in an installed package.

An editable install reads them in the checkout (iafmsr/options/places.py), so there is one copy of each in the tree.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WEIGHTS = ('IAFMNet_x2', 'IAFMNet_x3', 'IAFMNet_x4', 'IAFMNet-fast_x4')
SHARED = ('options/**/*.yml', 'weights/README.md', *(f'weights/{name}.pth' for name in WEIGHTS))


class BuildWithShared(build_py):
    """Puts them under ``iafmsr/shared`` of a wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in SHARED:
            for file in sorted(Path().glob(pattern)):
                target = Path(self.build_lib, 'iafmsr/shared', file)
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


setup(cmdclass={'build_py': BuildWithShared})
