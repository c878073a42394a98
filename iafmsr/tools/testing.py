"""Test a trained network on the data sets that an option file names.

  iafmsr test -opt options/test_IAFMNet_x4.yml --force_yml path:pretrain_network_g=weights/IAFMNet_x4.pth

FILE.yml is a path, or the name of an option file that comes with the package, such as test_IAFMNet_x4.yml. The results
are written to the folder results/NAME below `path: {root: ...}` of the option file. If no root is given, it is the root
of the checkout when the option file lies there or you work there, and else the working directory. Relative paths in an
option file start from the same root. `python iafmsr/test.py` is the same command. Option files and flags are those of
BasicSR, with more keys. Packages: the extra `train`, and BasicSR.
"""

from iafmsr.tools.training import add_arguments, run

__all__ = ['add_arguments', 'run']
