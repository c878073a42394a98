"""The weights that come with the project are those that weights/README.md tells of."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.reading import read_picture
from iafmsr.nets.files import FOLDER
from iafmsr.nets.loading import load_net
from iafmsr.ops.resize import mod_crop
from iafmsr.tools.benchmark.robustness import robustness
from iafmsr.tools.export.publishing import publish
from iafmsr.tools.measure.quality import y_quality

NAMES = sorted(path.stem for path in FOLDER.glob('*.pth'))


def card_of(name: str) -> float:
    """Set5's PSNR in the row of a file in the first table of weights/README.md."""
    text = (FOLDER / 'README.md').read_text(encoding='utf-8')
    return float(re.search(rf'^\| \*{{0,2}}{name}\*{{0,2}} \|[^|]*\| (\d+\.\d+) / ', text, re.MULTILINE)[1])


@pytest.mark.parametrize('name', NAMES)
def test_set5_by_name_in_one_command(name: str, data_root: Path, tmp_path: Path) -> None:
    scale = int(name[-1])
    folder = data_root / f'benchmarks/Set5/LR_bicubic/X{scale}'
    main(['upscale', str(folder), '--output', str(tmp_path / 'sr'), '--weights', name])
    found = []
    for hr in sorted((data_root / 'benchmarks/Set5/HR').iterdir()):
        (sr,) = (tmp_path / 'sr').glob(f'{hr.stem}*')
        found.append(y_quality(read_picture(sr), mod_crop(read_picture(hr), scale), scale).psnr)
    assert len(found) == 5
    assert np.mean(found) == pytest.approx(card_of(name), abs=0.02)


def test_the_list_has_every_file_with_the_figure_of_its_card(capsys: pytest.CaptureFixture) -> None:
    assert main(['weights']) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ['name', 'scale', 'parameters', 'Set5', 'file']
    assert [row[0] for row in rows] == NAMES
    for name, scale, params, psnr, file in rows:
        net = load_net(Path(file)).net
        assert (scale, float(psnr)) == (f'x{name[-1]}', card_of(name))
        assert int(params.replace(',', '')) == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize('name', NAMES)
def test_a_file_is_one_state_dict_in_float32(name: str) -> None:
    content = torch.load(FOLDER / f'{name}.pth', weights_only=True)
    assert content.keys() == {'params', 'network_g'}
    assert {value.dtype for value in content['params'].values()} == {torch.float32}
    trained = load_net(FOLDER / f'{name}.pth')
    assert (trained.arch, trained.scale) == (name.split('_')[0].split('-')[0], int(name[-1]))


@pytest.mark.parametrize('name', NAMES)
def test_every_net_keeps_flat_colours(name: str) -> None:
    found = robustness(load_net(FOLDER / f'{name}.pth').net, int(name[-1]))
    assert (found.broken, found.flat_off) == (0, 0.0) and found.solid_levels <= 2
    assert found.drawn_range[0] > -0.5 and found.drawn_range[1] < 1.5


def test_publishing_takes_the_average_and_says_of_which_network_it_is(tmp_path: Path) -> None:
    options = {'scale': 2, 'num_feat': 8, 'num_block': 1, 'guide': 'idm'}
    nets = [IAFMNet(**options) for _ in range(2)]
    run = tmp_path / 'net_g_latest.pth'
    torch.save(
        {
            'params': nets[0].state_dict(),
            'params_ema': nets[1].half().state_dict(),
            'network_g': {'type': 'IAFMNet', 'sparse_backend': 'gather', **options},
        },
        run,
    )
    assert main(['export', '--weights', str(run), '--output', str(tmp_path / 'new/a.pth')]) == 0
    content = torch.load(tmp_path / 'new/a.pth', weights_only=True)
    network = content['network_g']
    assert network.items() >= {'type': 'IAFMNet', 'gain': 64.0, **options}.items() and 'sparse_backend' not in network
    for name, value in nets[1].state_dict().items():
        assert torch.equal(content['params'][name], value.float())
    torch.save({'params': nets[0].state_dict()}, run)
    with pytest.raises(UserError, match='weights of an IAFMNet whose options are not known'):
        publish(run, {}, tmp_path / 'b.pth')
    assert not (tmp_path / 'b.pth').exists()


def test_a_photograph_in_one_command(tmp_path: Path) -> None:
    if not NAMES:
        pytest.skip('no weights')
    Image.fromarray((np.random.default_rng(0).random((40, 30, 3)) * 255).astype(np.uint8)).save(tmp_path / 'a.jpg')
    main(['upscale', str(tmp_path / 'a.jpg'), '--output', str(tmp_path / 'b.png'), '--weights', NAMES[-1]])
    with Image.open(tmp_path / 'b.png') as larger:
        assert larger.size == (30 * int(NAMES[-1][-1]), 40 * int(NAMES[-1][-1]))
