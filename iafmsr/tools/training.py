"""Train a network. The option file says which network, on which data, and for how long.

  iafmsr train -opt options/train_IAFMNet_x4.yml --auto_resume
  torchrun --nproc_per_node=2 iafmsr/train.py -opt options/train_IAFMNet_x4.yml --launcher pytorch

FILE.yml is a path, or the name of an option file that comes with the package, such as train_IAFMNet_x4.yml. The run is
written to the folder ROOT/experiments/NAME. NAME and ROOT are `name` and `path: {root: ...}` of the option file.
Without a root in it, ROOT is the checkout if the option file or the working directory is in it, else the working
directory. Relative paths in an option file start from ROOT. `python iafmsr/train.py` is the same command. Option files
and flags are those of BasicSR, with additional keys. Needs the extra `train`, and BasicSR.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import iafmsr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's flags, with help, for training and for testing (:mod:`iafmsr.tools.testing`)."""
    add = parser.add_argument
    add('-opt', required=True, metavar='FILE.yml', help='option file of the run')
    add(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='how the processes were started; pytorch means torchrun',
    )
    add('--auto_resume', action='store_true', help='continue from the newest saved state of this run')
    add('--debug', action='store_true', help='validate and save every 8 iterations; the run is called debug_NAME')
    add('--force_yml', nargs='+', metavar='SECTION:KEY=VALUE', help='options that replace those of the file')
    # the launcher before torchrun writes it so; the rank itself comes by the environment
    add('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Train or test.

    Raises:
        SystemExit: the run was stopped by a signal and can go on.
        UserError: the run cannot start or continue, because of the options, the data or the disk.
    """
    # a spawned data worker imports the main module first: this one brings the cures that BasicSR's own datasets need
    main = sys.modules['__main__']
    main.__spec__, main.__file__ = None, str(Path(iafmsr.__file__).with_name(f'{args.command}.py'))
    from iafmsr.training.options import root_of

    if args.command == 'train':
        from iafmsr.training.loop import train

        train(args, root_of(args))
    else:
        from iafmsr.training.testing import test

        test(args, root_of(args))
    return 0
