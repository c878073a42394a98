"""Test a trained network on the data sets that an option file names.

  iafmsr test -opt options/test_IAFMNet_x4.yml --force_yml path:pretrain_network_g=weights/IAFMNet_x4.pth

FILE.yml is a path, or the name of an option file that comes with the package, such as test_IAFMNet_x4.yml. The results
are written to the folder ROOT/results/NAME. NAME and ROOT are `name` and `path: {root: ...}` of the option file.
Without a root in it, ROOT is the checkout if the option file or the working directory is in it, else the working
directory. Relative paths in an option file start from ROOT. `python iafmsr/test.py` is the same command. Option files
and flags are those of BasicSR, with additional keys. Needs the extra `train`, and BasicSR.
"""

from iafmsr.tools.training import add_arguments, run

__all__ = ['add_arguments', 'run']
