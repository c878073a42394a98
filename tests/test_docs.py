"""What README and docs promise: their commands are understood and run as written, and their prose keeps its measure."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from iafmsr.cli import COMMANDS, main, parser_of
from iafmsr.tools.demo import EXAMPLE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'datasets/README.md', 'weights/README.md')
] + sorted((ROOT / 'docs').glob('*.md'))
BLOCK = re.compile(r'^ *```(\w*)\n(.*?)^ *```', re.DOTALL | re.MULTILINE)
SHORT = (
    'name=mine train:total_iter=2 num_gpu=0 val=~ datasets:train:total_batch_size=2 datasets:train:num_worker_per_gpu=0'
)


def commands(page: Path) -> list[list[str]]:
    """The calls of `iafmsr` in a page's blocks of commands, as arguments."""
    found = []
    for kind, block in BLOCK.findall(page.read_text(encoding='utf-8')):
        for line in re.split(r'\n|&&', block.replace('\\\n', ' ')) if kind in ('', 'bash') else ():
            words = (
                shlex.split(line, comments=True) if re.match(r'\s*(\w+=\S+ |taskset \S+ \S+ )*iafmsr ', line) else []
            )
            if words:
                found.append(words[words.index('iafmsr') + 1 :])
    return found


def sentences(page: Path) -> list[str]:
    """The prose of a page: no code, tables, headings and pictures, links by their text."""
    text = BLOCK.sub('', page.read_text(encoding='utf-8'))
    text = '\n'.join(line for line in text.splitlines() if not line.lstrip().startswith(('|', '#', '<', '!')))
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text)
    paragraphs = re.split(r'\n\s*\n|\n *(?:-|\d+\.) ', text)
    return [s for each in paragraphs for s in re.split(r'(?<=[.!?:;])\W*\s+', ' '.join(each.split()))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_understood_and_its_option_files_are_there(page: Path) -> None:
    known = yaml.safe_load((ROOT / 'options/ablation.yml').read_text(encoding='utf-8'))
    for name, *arguments in commands(page):
        args = parser_of(name).parse_args(arguments)
        for word in arguments:
            assert not word.startswith('options/') or word == 'options/mine.yml' or list(ROOT.glob(word)), word
        if name == 'ablate' and page.stem != 'experiments-log':  # the log keeps names of its time
            assert set(args.entries) <= set(known['ablations']), arguments


def test_the_commands_of_the_readme_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of the checkout, here a small one, and a folder: upscale, Python, prepare, train, upscale again."""
    monkeypatch.chdir(tmp_path)
    readme = ROOT / 'README.md'
    written = {shlex.join(words[:3]): words for words in commands(readme)}
    picture = Image.open(EXAMPLE)
    shown = [words[1] for words in commands(readme) if words[0] == 'upscale']
    assert [ROOT / name for name in shown] == [EXAMPLE, EXAMPLE]
    Path(shown[0]).parent.mkdir(parents=True)
    picture.resize((48, 32)).save(shown[0])
    for number in range(2):
        Path('my_pictures').mkdir(exist_ok=True)
        picture.save(f'my_pictures/{number}.png')
    blocks = dict(BLOCK.findall(readme.read_text(encoding='utf-8')))
    Path('options').mkdir()
    Path('options/mine.yml').write_text(blocks['yaml'])

    exec(blocks['python'], values := {})
    assert values['picture'].size == (192, 128) and values['bits'].shape == (32, 48)
    assert main(written['prepare --input my_pictures']) == 0
    train = [sys.executable, '-m', 'iafmsr', *written['train -opt options/mine.yml'], '--force_yml', *SHORT.split()]
    done = subprocess.run(train, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    upscales = [words for words in commands(readme) if words[0] == 'upscale']
    assert [words[-1] for words in upscales] == ['IAFMNet_x4', 'experiments/mine']
    for words in upscales:
        assert main(words) == 0
        assert Image.open(words[words.index('--output') + 1]).size == (192, 128)


def test_the_short_commands_of_the_pages_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that need no network, no training and no hour, on small pictures under the names that the pages use."""
    pytest.importorskip('onnx', reason="the extra 'onnx' is not installed")
    monkeypatch.chdir(tmp_path)
    picture = Image.open(EXAMPLE).resize((48, 32))
    sets = [f'datasets/benchmarks/{name}/HR/a.png' for name in ('Set5', 'Set14', 'BSD100')]
    originals = ['datasets/demo/originals/val/coffee.png', 'Set5/HR/a.png', *sets]
    for name in ('photo.jpg', 'holidays/a.png', '2024/b/c.tif', 'Set5/LR_bicubic/X4/ax4.png', *originals):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        picture.resize((192, 128) if name in originals else (48, 32)).save(name)
    (tmp_path / 'options').symlink_to(ROOT / 'options')
    run = tmp_path / 'experiments/train_IAFMNet_x4/models/net_g_latest.pth'
    run.parent.mkdir(parents=True)
    for copy in (run, tmp_path / 'my_weights.pth'):
        shutil.copy(ROOT / 'weights/IAFMNet_x4.pth', copy)
    pages = {page: commands(ROOT / f'docs/{page}.md') for page in ('upscaling', 'benchmark', 'method')}
    short = [words for words in pages['upscaling'] if words[0] != 'serve']
    short += [pages['benchmark'][0], next(words for words in pages['method'] if words[0] == 'complexity')]
    assert len(short) == 8
    for words in short:
        found = [sorted(map(str, Path().glob(word))) if '*' in word else [word] for word in words]
        assert main([word for names in found for word in names]) == 0, words
    assert Image.open('photo_x4.png').size == Image.open('larger/a.png').size == (192, 128)
    assert Path('larger/c.tif').exists() and Path('inspection/coffee_inspect.png').exists()


def test_the_readme_keeps_its_measure() -> None:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 150 and len(text.split()) < 1000
    assert len(re.findall(r'\d+(?:[.,]\d+)*', text)) < 120
    assert text.index('bash scripts/demo.sh') < text.index('bash scripts/test.sh') < text.index('## ')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_numbers_begin_with_a_digit_and_sentences_end(page: Path) -> None:
    assert not re.findall(r'(?<![\w.\])}/*`-])\.\d+', page.read_text(encoding='utf-8'))
    if page.stem != 'experiments-log':  # notes, as they were taken
        assert [s for s in sentences(page) if len(s.split()) > 35] == []


def test_numbers_begin_with_a_digit_in_the_help_of_every_command() -> None:
    for name in COMMANDS:
        assert not re.findall(r'(?<![\w.*])\.\d', parser_of(name).format_help()), name
