"""The list of what has never run on a GPU, rehearsed on the CPU: on the day it must not fail for a dull reason."""

import json
from pathlib import Path

import pytest
import torch

from iafmsr.cli import main
from iafmsr.tools.profiling import gpu
from iafmsr.training.options import options_of_training

for package in ('skimage', 'onnxruntime', 'onnxscript'):
    pytest.importorskip(package, reason='an extra is not installed')


class Profile:
    """Stands for the profile of a training, which has tests of its own; its option file is read."""

    def __init__(self, file: str, root: Path, iterations: int, turns: int) -> None:
        self.opt = options_of_training(file, root)

    def as_text(self) -> str:
        return str(self.opt['name'])

    def as_json(self) -> str:
        return json.dumps({'batch': self.opt['datasets']['train']['batch_size_per_gpu']})


def test_a_rehearsal_goes_through_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, 'profile_training', Profile)
    file = tmp_path / 'out.json'
    assert main(f'profile gpu --rehearse --device cpu --threads 1 --output {file}'.split()) == 0
    parts, text = json.loads(file.read_text())['parts'], file.with_suffix('.md').read_text()
    assert [name for name, part in parts.items() if part['failed']] == [], text
    assert list(parts) == list(gpu.PARTS) and all(f'## {name} (' in text for name in parts)
    assert parts['several processes, kill and resume']['figures'] == {'processes': 1, 'difference': 0.0}
    assert set(parts['sparse convolution: values and gradients']['figures']) == {'dense', 'gather'}
    assert parts['training compared with stock BasicSR']['figures'] == {'batch': 2}


def test_a_part_that_fails_is_said_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError('no such kernel\nat some place')

    monkeypatch.setattr(gpu, 'PARTS', {'one': fail, 'two': lambda *_: ('fine', 1)})
    one, two = gpu.try_out(torch.device('cpu'), gpu.SMALL, tmp_path)
    assert (one.failed, one.text, two.failed, two.figures) == (True, 'RuntimeError: no such kernel', False, 1)
    assert 'FAILED' in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason='a CUDA device is here')
def test_without_a_gpu_only_a_rehearsal_is_done(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['profile', 'gpu'])
    assert capsys.readouterr().err.startswith('iafmsr: error: profile gpu: this machine has no CUDA device')
