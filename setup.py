"""Metadata of the package; the versions of what it needs stand in requirements.txt."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

# Said here as well as in python_requires, because pip's own message for the latter gives no reason.
if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        'iafmsr needs Python 3.11 or 3.12, this is {}.{}: the pinned NumPy and scikit-image need 3.11 or newer, '
        'and BasicSR 1.4.2 does not build on 3.13'.format(*sys.version_info)
    )

HERE = Path(__file__).resolve().parent
PIN = re.compile(r'^([\w.-]+==[\w.]+)(?: ; extra == "([\w-]+)"(?: and (.+))?)?$')


def read_pins():
    """Reads requirements.txt.

    Returns:
        dict[str, list[str]]: extra -> its requirements; the empty name is what everybody needs.
    """
    pins = {}
    for line in (HERE / 'requirements.txt').read_text(encoding='utf-8').splitlines():
        if line and not line.startswith('#'):
            requirement, extra, marker = PIN.match(line).groups()
            pins.setdefault(extra or '', []).append(f'{requirement} ; {marker}' if marker else requirement)
    return pins


extras = read_pins()
install_requires = extras.pop('')
del extras['after-torch']  # BasicSR: were it a dependency, pip would download a second torch to build it

setup(
    name='iafmsr',
    version=re.search(r"^__version__ = '(.+)'$", (HERE / 'iafmsr/__init__.py').read_text(encoding='utf-8'), re.M)[1],
    description='IAFMNet image super-resolution for BasicSR',
    long_description='A plugin of BasicSR. `bash scripts/install.sh` in a checkout installs it with its whole stack.',
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.11,<3.13',
    packages=find_packages(include=['iafmsr', 'iafmsr.*']),
    package_data={'iafmsr': ['py.typed'], 'iafmsr.benchmark': ['published.yml'], 'iafmsr.inspection': ['page.html']},
    entry_points={'console_scripts': ['iafmsr = iafmsr.cli:main']},
    install_requires=install_requires,
    extras_require=extras,
)
