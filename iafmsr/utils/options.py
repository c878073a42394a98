"""Option files: read strictly, checked before anything is touched, then handed to BasicSR's own ``parse_options``.

Relative paths in an option file count from the repository root, so that a run does the same from every working
directory; ``-opt`` itself is relative to the working directory, as any argument of a command is.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from iafmsr.basicsr_api import master_only
from iafmsr.basicsr_api import options as basicsr_options
from iafmsr.compat import OptionLoader, parse_value
from iafmsr.errors import UserError
from iafmsr.utils.option_check import check_options
from iafmsr.utils.option_sections import Options, did_you_mean, subsection


class StrictLoader(OptionLoader):
    """The YAML of option files, in which a key given twice is an error: YAML lets the last one win in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.composer.ComposerError(None, None, f'{name} is given twice', key.start_mark)
            seen.add(name)
        return node


def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
    """Check the command line's options, then parse them as BasicSR does: distribution, seed and folders are its own.

    Args:
        root_path: repository root; experiments/ and results/ lie in it and relative paths count from it.
        is_train: training options or test options.

    Returns:
        Options as BasicSR's pipelines want them, with absolute paths, and the parsed command line.

    Raises:
        UserError: one line for every fault found; no file has been created or renamed then.
    """
    args = _parse_arguments(is_train)
    opt = load_options(args.opt, args.force_yml or ())
    resolve_paths(opt, root_path)
    processes = _count_processes(args.launcher)
    report = check_options(opt, is_train, root_path, processes, distributed=args.launcher != 'none')
    run = Path(root_path, 'experiments', str(opt.get('name')))
    if is_train and run.resolve() in Path(args.opt).resolve().parents:
        report.faults.append(f'the option file lies in the folder of its own run, {run}: copy it elsewhere first')
    if report.faults:
        forced = {entry.partition('=')[0].strip().replace(':', '.') for entry in args.force_yml or ()}
        raise UserError('\n'.join(f'{"--force_yml" if fault.partition(":")[0] in forced else args.opt}: {fault}'
                                  for fault in report.faults))
    if os.environ.get('RANK', '0') == '0':
        for warning in report.warnings:
            print(f'iafmsr: warning: {args.opt}: {warning}', file=sys.stderr)

    opt, args = basicsr_options.parse_options(root_path, is_train)
    resolve_paths(opt, root_path)
    train = subsection(subsection(opt, 'datasets'), 'train')
    if train.get('total_batch_size'):
        loaders = opt['world_size'] if opt['dist'] else max(1, opt['num_gpu'])
        train['batch_size_per_gpu'] = train['total_batch_size'] // loaders
    return opt, args


def load_options(file: str | Path, forced: Sequence[str] = ()) -> Options:
    """Read an option file and apply ``--force_yml`` entries (``section:key=value``) to it.

    Raises:
        UserError: the file cannot be read or is no YAML mapping, or an entry names a section that is not there.
    """
    try:
        with open(file, encoding='utf-8') as stream:
            opt = yaml.load(stream, StrictLoader)
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}') from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise UserError(f'{file}: not a text file in UTF-8') from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else '?'
        raise UserError(f'{file}, line {line}: not valid YAML: {error.problem}') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'{file}: not valid YAML: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{file}: not an option file: a mapping of keys to values is wanted')
    for entry in forced:
        _force(opt, entry)
    return opt


def options_of_training(file: str | Path, root_path: str | Path) -> Options:
    """Options of a file for a training without validation, as BasicSR's functions want them; checked.

    Args:
        file: option file.
        root_path: repository root, from which its paths count.

    Raises:
        UserError: the option file has faults.
    """
    opt = load_options(file)
    opt['datasets'] = {'train': subsection(subsection(opt, 'datasets'), 'train')}  # others take no part
    resolve_paths(opt, root_path)
    faults = check_options(opt, True, str(root_path)).faults
    if faults:
        raise UserError('\n'.join(f'{file}: {fault}' for fault in faults))
    train = opt['datasets']['train']
    train |= {'phase': 'train', 'scale': opt['scale'],
              'batch_size_per_gpu': train.get('total_batch_size') or train['batch_size_per_gpu']}
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
            section[key] = os.path.normpath(os.path.join(root_path, os.path.expanduser(section[key])))


def _path_keys(opt: Options) -> Iterator[tuple[Options, str]]:
    datasets = subsection(opt, 'datasets')
    for phase in datasets:
        dataset = subsection(datasets, phase)
        yield from ((dataset, key) for key in dataset if str(key).startswith(('dataroot', 'meta_info')))
    teacher = subsection(subsection(opt, 'train'), 'teacher')
    yield from ((teacher, key) for key in teacher if key == 'weights')
    path = subsection(opt, 'path')
    yield from ((path, key) for key in path if str(key).startswith(('pretrain_network', 'resume_state')))


def _force(opt: Options, entry: str) -> None:
    keys, _, value = entry.partition('=')
    names = keys.strip().split(':')
    if entry.count('=') != 1 or not all(re.fullmatch(r'[\w.+-]+', name) for name in names):
        raise UserError(f'--force_yml {entry}: section:key=value is wanted')
    section = opt
    for name in names[:-1]:
        if not isinstance(section.get(name), dict):
            raise UserError(f'--force_yml {entry}: no section {name}'
                            + did_you_mean(name, [key for key in section if isinstance(section[key], dict)]))
        section = section[name]
    section[names[-1]] = parse_value(value.strip())


def _parse_arguments(is_train: bool) -> argparse.Namespace:
    """BasicSR's flags, with help; its own parser reads the same command line afterwards."""
    parser = argparse.ArgumentParser(description=f'{"Train" if is_train else "Test"} a network by an option file.')
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none',
                        help='how the processes were started; pytorch is torchrun')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest state of this run')
    parser.add_argument('--debug', action='store_true', help='validate and save every 8 iterations, as debug_NAME')
    parser.add_argument('--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('--force_yml', nargs='+', metavar='SECTION:KEY=VALUE', help='change options of the file')
    return parser.parse_args()


def _count_processes(launcher: str) -> int:
    """Number of training processes, known from the launcher's environment before they meet."""
    if launcher == 'none':
        return 1
    name = 'WORLD_SIZE' if launcher == 'pytorch' else 'SLURM_NTASKS'
    if not os.environ.get(name, '').isdigit():
        starter = 'torchrun' if launcher == 'pytorch' else 'srun'
        raise UserError(f'--launcher {launcher}: {name} is not set; start the run by {starter}')
    return int(os.environ[name])
