"""The package: its lock, its metadata, its installer, and what it says where it cannot run."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import iafmsr
from iafmsr.errors import UserError, cli_errors


def read_pins(repo_root: Path) -> dict[str, str]:
    lines = (repo_root / 'requirements.txt').read_text().splitlines()
    return dict(line.split('==') for line in lines if line and not line.startswith('#'))


@pytest.fixture(scope='module')
def tree(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packaging files, in a folder whose name holds a space."""
    tree = tmp_path_factory.mktemp('a tree')
    for name in ('setup.py', 'pyproject.toml', 'requirements.txt', 'MANIFEST.in', 'LICENSE', 'README.md'):
        shutil.copy(repo_root / name, tree)
    for name in ('iafmsr', 'scripts', 'options', 'weights'):
        shutil.copytree(repo_root / name, tree / name, ignore=shutil.ignore_patterns('__pycache__', 'unfinished'))
    return tree


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_the_installed_stack_is_that_of_the_lock(repo_root: Path) -> None:
    pins = read_pins(repo_root)
    for name in ('torch', 'torchvision', 'numpy', 'opencv-python', 'scikit-image', 'lmdb', 'basicsr'):
        assert version(name).partition('+')[0] == pins[name], name


def requirements(repo_root: Path) -> dict[str, list[Requirement]]:
    """The requirements in pyproject.toml by their extra; the empty name is what everybody needs."""
    tomllib = pytest.importorskip('tomllib')  # from Python 3.11 on
    project = tomllib.loads((repo_root / 'pyproject.toml').read_text())['project']
    every = {'': project['dependencies'], **project['optional-dependencies']}
    return {extra: [Requirement(line) for line in lines] for extra, lines in every.items()}


def test_requirements_are_ranges_without_an_upper_bound_and_the_lock_is_within_them(repo_root: Path) -> None:
    pins = read_pins(repo_root)
    for extra, needed in requirements(repo_root).items():
        for requirement in needed:
            assert {spec.operator for spec in requirement.specifier} <= {'>='}, requirement
            assert requirement.specifier.contains(pins[requirement.name]), f'{extra}: {requirement}'


def test_basicsr_is_never_asked_of_pip(repo_root: Path) -> None:
    """Its build would download a second torch."""
    for needed in requirements(repo_root).values():
        assert 'basicsr' not in {requirement.name for requirement in needed}


def test_the_distributions_are_whole(tree: Path) -> None:
    """Option files and the default weights lie in both, and no copy of them in the tree."""
    build = 'from setuptools import build_meta as b; b.build_sdist("dist"); b.build_wheel("dist")'
    done = run(sys.executable, '-c', build, cwd=tree)
    assert done.returncode == 0, done.stderr
    stem = f'iafmsr-{iafmsr.__version__}'
    names = set(tarfile.open(tree / 'dist' / f'{stem}.tar.gz').getnames())
    shared = {path.relative_to(tree).as_posix() for path in (tree / 'options').rglob('*.yml')}
    brought = ('IAFMNet_x2', 'IAFMNet_x3', 'IAFMNet_x4', 'IAFMNet-fast_x4')
    shared |= {'weights/README.md', *(f'weights/{name}.pth' for name in brought)}
    assert {f'{stem}/{name}' for name in (*shared, 'requirements.txt', 'LICENSE')} <= names
    with zipfile.ZipFile(tree / 'dist' / f'{stem}-py3-none-any.whl') as wheel:
        metadata = wheel.read(f'{stem}.dist-info/METADATA').decode()
        assert 'iafmsr = iafmsr.cli:main' in wheel.read(f'{stem}.dist-info/entry_points.txt').decode().splitlines()
        sizes = {info.filename: info.file_size for info in wheel.infolist()}
    found = {name.removeprefix('iafmsr/shared/') for name in sizes if name.startswith('iafmsr/shared/')}
    assert found == shared and not (tree / 'iafmsr/shared').exists()
    assert sum(size for name, size in sizes.items() if name.endswith('.pth')) <= 3_000_000
    data = {'py.typed', 'tools/benchmark/published.yml', 'tools/inspection/page.html', 'archs/iafmnet_arch.py'}
    assert {f'iafmsr/{name}' for name in data} <= sizes.keys()
    assert 'Requires-Python: >=3.10\n' in metadata and 'License-Expression: Apache-2.0\n' in metadata


def test_a_missing_basicsr_is_named_with_its_cure(repo_root: Path) -> None:
    code = 'import sys; sys.modules["basicsr"] = None; from iafmsr import train; train.main()'
    done = run(sys.executable, '-c', code, cwd=repo_root)
    assert done.returncode == 2
    assert done.stderr == (
        'iafmsr: error: BasicSR is not installed, and training needs it: '
        "pip install 'iafmsr[train]', then pip install --no-build-isolation --no-deps basicsr\n"
    )


def test_what_basicsr_needs_and_does_not_find_is_named(repo_root: Path) -> None:
    code = 'import sys; sys.modules["lmdb"] = None; from iafmsr import train; train.main()'
    done = run(sys.executable, '-c', code, cwd=repo_root)
    assert done.returncode == 2
    assert done.stderr.startswith('iafmsr: error: BasicSR needs lmdb, which is not installed: pip install ')


def test_the_installer_keeps_its_hands_off_a_foreign_environment(tree: Path) -> None:
    foreign = tree / '.venv' / 'mine'
    foreign.parent.mkdir()
    foreign.touch()
    done = run('bash', tree / 'scripts/install.sh', cwd=Path('/'))
    assert done.returncode == 1
    assert done.stderr == f'install.sh: {tree}/.venv was not made by this script: move it away\n'
    assert foreign.exists()
    shutil.rmtree(foreign.parent)


def test_the_installer_names_the_python_it_needs(tree: Path, tmp_path: Path) -> None:
    for name in ('python3', 'python3.11', 'python3.12'):
        (tmp_path / name).write_text('#!/bin/sh\nexit 1\n')
        (tmp_path / name).chmod(0o755)
    done = run('bash', tree / 'scripts/install.sh', cwd=Path('/'), PATH=f'{tmp_path}:{os.environ["PATH"]}')
    assert done.returncode == 1
    assert done.stderr.startswith('install.sh: no Python 3.11 or 3.12') and done.stderr.count('\n') == 1
    assert not (tree / '.venv').exists()


def test_a_finished_install_is_taken_as_it_is_and_an_outdated_one_is_not(tree: Path, tmp_path: Path) -> None:
    """The stand-in for Python makes an environment of an empty script: what is tested is when it is called."""
    python = tmp_path / 'python3'
    python.write_text(
        '#!/bin/sh\n'
        'case "$*" in\n'
        f'"-m venv "*) echo made >> "{tmp_path}/log"; mkdir "$3/bin"; ln -s /bin/true "$3/bin/python";;\n'
        'esac\n'
    )
    python.chmod(0o755)

    def installs() -> int:
        done = run('bash', tree / 'scripts/install.sh', cwd=Path('/'), PATH=f'{tmp_path}:{os.environ["PATH"]}')
        assert done.returncode == 0, done.stderr
        return (tmp_path / 'log').read_text().count('made')

    assert installs() == 1
    assert installs() == 1
    (tree / '.venv/.iafmsr-install').write_text('unfinished\n')
    assert installs() == 2
    with (tree / 'requirements.txt').open('a') as file:
        file.write('# another pin\n')
    assert installs() == 3
    moved = tree.rename(tree.with_name('moved'))
    try:
        done = run('bash', moved / 'scripts/install.sh', cwd=Path('/'), PATH=f'{tmp_path}:{os.environ["PATH"]}')
        assert '[1/3]' in done.stdout  # its files name the old place
    finally:
        shutil.rmtree(moved / '.venv')
        moved.rename(tree)


def test_the_licence_is_apache_2(repo_root: Path) -> None:
    text = (repo_root / 'LICENSE').read_text()
    assert text.split()[:4] == ['Apache', 'License', 'Version', '2.0,']
    assert 'END OF TERMS AND CONDITIONS' in text


def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    @cli_errors()
    def command() -> None:
        raise UserError('options/a.yml: no such file')

    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'iafmsr: error: options/a.yml: no such file\n'


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop, cli_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr() == ('', '')


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), cli_errors():
        1 / 0  # noqa: B018


def test_version_citation_and_changelog_agree(repo_root: Path) -> None:
    texts = [(repo_root / name).read_text() for name in ('CITATION.cff', 'CHANGELOG.md')]
    assert f'\nversion: {iafmsr.__version__}\n' in texts[0]
    assert texts[1].split('\n## ')[1].startswith(iafmsr.__version__)
