"""The options of a command: read, checked before anything is touched, then handed to BasicSR's ``parse_options``.

Relative paths in an option file count from the root of the run (:func:`root_of`): in a checkout from the repository
root, so that a run does the same from every working directory. ``-opt`` itself is relative to the working directory, as
any argument of a command is, or the name of an option file that comes with the package.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from iafmsr.bridge.basicsr_api import master_only
from iafmsr.bridge.basicsr_api import options as basicsr_options
from iafmsr.bridge.launching import wait_for_others
from iafmsr.data.weights import BY_GRADIENT
from iafmsr.errors import UserError
from iafmsr.options.files import Options, load_options
from iafmsr.options.places import option_file, root_of_run
from iafmsr.training.checks.check import check_options, fill_defaults
from iafmsr.training.checks.findings import Report, is_folder_name, subsection


def root_of(args: argparse.Namespace) -> str:
    """Where the run of a command reads and writes, see :func:`iafmsr.options.places.root_of_run`.

    Raises:
        UserError: the option file cannot be read.
    """
    given = subsection(load_options(args.opt, args.force_yml or ()), 'path').get('root')
    return str(root_of_run(option_file(args.opt), None if given is None else str(given)))


def parse_options(args: argparse.Namespace, root_path: str, is_train: bool = True) -> Options:
    """Check the options of a command, then parse them as BasicSR does: distribution, seed and folders are its own.

    Args:
        args: of :mod:`iafmsr.tools.training`.
        root_path: experiments/ and results/ lie in it and relative paths count from it.
        is_train: training options or test options.

    Returns:
        Options as BasicSR's pipelines want them, with absolute paths and defaults filled in.

    Raises:
        UserError: one line for every fault found; no file has been created or renamed then.
    """
    args.opt = str(option_file(args.opt))
    read = load_options(args.opt, args.force_yml or ())
    resolve_paths(read, root_path)
    processes = _count_processes(args.launcher)
    report = check_options(read, is_train, root_path, processes, distributed=args.launcher != 'none')
    run = Path(root_path, 'experiments', name := str(read.get('name')))
    if is_train and is_folder_name(name) and run.resolve() in Path(args.opt).resolve().parents:
        report.faults.append(f'the option file lies in the folder of its own run, {run}: copy it elsewhere first')
    _announce(report, args)
    if is_train:
        fill_defaults(filled := copy.deepcopy(read), read, is_train)
        wait_for_others(filled['train']['timeout'])
    with _command_line(args):
        opt, _ = basicsr_options.parse_options(root_path, is_train)
    resolve_paths(opt, root_path)
    fill_defaults(opt, read, is_train)
    return opt


def _announce(report: Report, args: argparse.Namespace) -> None:
    """Raises:
    UserError: the faults that were found, each with where it was given; warnings are printed.
    """
    if report.faults:
        forced = {entry.partition('=')[0].strip().replace(':', '.') for entry in args.force_yml or ()}
        raise UserError(
            '\n'.join(
                f'{"--force_yml" if fault.partition(":")[0] in forced else args.opt}: {fault}'.replace('\n', r'\n')
                for fault in report.faults
            )
        )
    if os.environ.get('RANK', '0') == '0':
        for warning in report.warnings:
            print(f'iafmsr: warning: {args.opt}: {warning}', file=sys.stderr)


def options_of_training(file: str | Path, root_path: str | Path) -> Options:
    """Options of a file for a training without validation, as BasicSR's functions want them; checked.

    Args:
        file: option file.
        root_path: from which its paths count.

    Raises:
        UserError: the option file has faults.
    """
    opt = load_options(file)
    opt['datasets'] = {'train': subsection(subsection(opt, 'datasets'), 'train')}  # others take no part
    resolve_paths(opt, root_path)
    faults = check_options(opt, True, str(root_path)).faults
    if faults:
        raise UserError('\n'.join(f'{file}: {fault}' for fault in faults))
    fill_defaults(opt, opt, is_train=True)
    train = opt['datasets']['train']
    train |= {
        'phase': 'train',
        'scale': opt['scale'],
        'batch_size_per_gpu': train.get('total_batch_size') or train['batch_size_per_gpu'],
    }
    return opt


@master_only
def keep_options(file: str, folder: str) -> None:
    """Write the options of a run into its folder, whole whatever ``base`` they started from, and the command line."""
    text = yaml.safe_dump(load_options(file), sort_keys=False, allow_unicode=True)
    Path(folder, Path(file).name).write_text(f'# {" ".join(sys.argv)}\n{text}', encoding='utf-8')


def resolve_paths(opt: Options, root_path: str | Path) -> None:
    """Make data, checkpoint and state paths absolute in place: relative ones count from ``root_path``."""
    for section, key in _path_keys(opt):
        if isinstance(section[key], str):
            section[key] = _absolute(section[key], root_path)
        elif isinstance(section[key], list):
            section[key] = [_absolute(p, root_path) if isinstance(p, str) else p for p in section[key]]


def _absolute(path: str, root_path: str | Path) -> str:
    return os.path.normpath(os.path.join(root_path, os.path.expanduser(path)))


def _path_keys(opt: Options) -> Iterator[tuple[Options, str]]:
    datasets = subsection(opt, 'datasets')
    for phase in datasets:
        dataset = subsection(datasets, phase)
        yield from ((dataset, key) for key in dataset if str(key).startswith(('dataroot', 'meta_info')))
        if dataset.get('picture_weights') not in (None, BY_GRADIENT):
            yield dataset, 'picture_weights'
    teacher = subsection(subsection(opt, 'train'), 'teacher')
    losses = subsection(opt, 'train').get('losses')
    listed = [entry for entry in losses if isinstance(entry, dict)] if isinstance(losses, list) else []
    yield from ((section, 'weights') for section in (teacher, *listed) if 'weights' in section)
    path = subsection(opt, 'path')
    yield from ((path, key) for key in path if str(key).startswith(('pretrain_network', 'resume_state')))


@contextmanager
def _command_line(args: argparse.Namespace) -> Iterator[None]:
    """A context in which BasicSR's own parser finds its flags on the command line."""
    flags = ['-opt', args.opt, '--launcher', args.launcher, '--local_rank', str(args.local_rank)]
    flags += ['--auto_resume'] * args.auto_resume + ['--debug'] * args.debug
    kept, sys.argv = sys.argv, [sys.argv[0], *flags, *(['--force_yml', *args.force_yml] if args.force_yml else [])]
    try:
        yield
    finally:
        sys.argv = kept


def _count_processes(launcher: str) -> int:
    """Number of training processes, known from the launcher's environment before they meet."""
    if launcher == 'none':
        return 1
    name = 'WORLD_SIZE' if launcher == 'pytorch' else 'SLURM_NTASKS'
    if not os.environ.get(name, '').isdigit():
        starter = 'torchrun' if launcher == 'pytorch' else 'srun'
        raise UserError(f'--launcher {launcher}: {name} is not set; start the run with {starter}')
    return int(os.environ[name])
