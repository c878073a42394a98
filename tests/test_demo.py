"""The demo's parts without its training: the photographs, the measurement, the figure."""

import io
import subprocess

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr, calculate_ssim
from PIL import Image

from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.figures import Panel, colour_panel, draw_figure, frame, image_panel
from iafmsr.files.reading import read_picture
from iafmsr.options.files import load_options
from iafmsr.tools import demo
from iafmsr.tools.inspection.inputs import find_sources
from iafmsr.tools.inspection.picture import inspect_picture
from iafmsr.tools.measure.quality import y_quality


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    demo.prepare_photographs(folder)
    return folder


def test_the_photographs_are_there_and_no_scene_is_on_both_sides(data):
    keys = {line.split('_s')[0] for line in (data / 'train/HR_sub.lmdb/meta_info.txt').read_text().splitlines()}
    held_out = {path.stem for path in (data / 'val/HR').iterdir()}
    assert keys == {name.split('.')[0] for name in demo.TRAINING}
    assert held_out == {name.split('.')[0] for name in demo.VALIDATION} and demo.SHOWN in held_out
    scenes = {name.split('_')[0] for name in keys}
    assert not scenes & {name.split('_')[0] for name in held_out}


def test_each_patch_of_the_option_file_fits_into_each_sub_image(data, repo_root):
    gt_size = load_options(repo_root / 'options/demo_IAFMNet_x4.yml')['datasets']['train']['gt_size']
    for line in (data / 'train/HR_sub.lmdb/meta_info.txt').read_text().splitlines():
        assert min(map(int, line.split('(')[1].split(',')[:2])) >= gt_size


def test_the_example_is_measured_and_drawn_and_the_next_steps_are_named(tmp_path, monkeypatch, capsys):
    """Outside of the checkout all is written below the working directory, and the path that is printed is there."""
    monkeypatch.chdir(tmp_path)
    assert main(['demo', '--weights', 'IAFMNet_x2']) == 0
    out = capsys.readouterr().out
    name, *figures, unit = next(line for line in out.splitlines() if line.startswith('still_life')).split()
    before, _, after, _, gain = map(float, figures)
    assert after - before > 2 and gain == pytest.approx(after - before, abs=0.011) and unit == 'dB'
    folder = tmp_path / 'results/demo'
    assert {path.name for path in folder.iterdir()} == {'still_life_inspect.png', 'still_life_inspect.html'}
    assert 'iafmsr upscale photo.jpg --output photo_x4.png --weights IAFMNet_x2' in out
    assert '\nFigure: results/demo/still_life_inspect.png\n' in out


def test_the_training_of_the_demo_lies_below_the_working_directory(tmp_path, monkeypatch):
    """As its data do; and one that was stopped says how to go on."""
    called = []

    def stopped(command, **keywords):
        called.append((command, keywords['cwd']))
        return subprocess.CompletedProcess(command, 75)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, 'prepare_photographs', lambda data: called.append(data))
    monkeypatch.setattr(demo.subprocess, 'run', stopped)
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.stderr', err := io.StringIO())
        main(['demo', '--train'])
    data, (command, folder) = called
    assert data == tmp_path / 'datasets/demo' and folder == tmp_path and 'path:root=.' in command
    assert err.getvalue().endswith('the training ended with code 75; run the same command again to go on\n')


def test_the_photographs_are_measured(data, repo_root):
    torch.manual_seed(0)
    net = build_network(load_options(repo_root / 'options/demo_IAFMNet_x4.yml')['network_g']).eval()
    (source,) = find_sources([data / 'val/HR/chelsea.png'], None, True, 4)
    found = inspect_picture(source.name, net, 4, *source.load(4))
    assert torch.equal(found.lr, read_picture(data / 'val/LR_bicubic/X4/chelseax4.png'))
    assert found.quality['bicubic'].psnr == pytest.approx(31.47, abs=0.01)
    *_, chelsea, again, mean = demo.table([found, found]).splitlines()
    assert chelsea == again and chelsea.split()[1:] == mean.split()[1:]


@pytest.mark.parametrize('channels', [3, 1])
def test_quality_is_basicsrs_to_the_last_bit(channels):
    generator = torch.Generator().manual_seed(0)
    hr = torch.randint(0, 256, (channels, 40, 53), generator=generator, dtype=torch.uint8)
    sr = (hr.int() + torch.randint(-9, 10, hr.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    a, b = (np.ascontiguousarray(picture.permute(1, 2, 0).flip(-1)) for picture in (sr, hr))
    found = y_quality(sr, hr, 3)
    assert found.psnr == calculate_psnr(a, b, 3, test_y_channel=True)
    assert found.ssim == calculate_ssim(a, b, 3, test_y_channel=True)


def test_quality_is_that_of_the_y_channel_inside_the_border():
    hr = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    sr = hr.clone()
    sr[:, :4] = 255  # in the border
    assert y_quality(sr, hr, 4).psnr == np.inf and y_quality(sr, hr, 4).ssim == pytest.approx(1)
    sr = hr + 20  # gray: Y rises by 20 * 219 / 255
    assert y_quality(sr, hr, 4).psnr == pytest.approx(20 * np.log10(255 / (20 * 219 / 255)), abs=1e-3)


def test_the_colours_of_a_map_are_ordered_by_lightness_and_its_bar_has_values_and_a_unit():
    panel = colour_panel('map', torch.linspace(-3, 5, 256)[None], height=20, width=256, unit='bits')
    assert panel.image.size == (256, 20) and panel.bar == ('-3', '5 bits')
    pixels = np.asarray(panel.image)[10, :256]
    lightness = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all() and lightness[-1] - lightness[0] > 150


def test_a_flat_map_is_drawn():
    assert np.asarray(colour_panel('flat', torch.ones(3, 3), 9, 9).image).std((0, 1)).max() == 0


def test_a_frame_leaves_the_picture_inside_and_far_outside_as_it_is():
    picture = torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)
    framed = frame(picture, 10, 20, 15, 15)
    assert torch.equal(framed[:, 10:25, 20:35], picture[:, 10:25, 20:35])
    assert torch.equal(framed[:, 30:], picture[:, 30:])
    assert (framed[:, 8, 18:37] == 255).all() and (framed[:, 7, 17:38] == 0).all() and (framed[:, 9, 19:36] == 0).all()


def test_the_columns_of_a_figure_meet_and_panels_do_not_overlap():
    red, blue = (
        image_panel('a long title', torch.tensor(c, dtype=torch.uint8)[:, None, None].expand(3, 30, 40))
        for c in ([255, 0, 0], [0, 0, 255])
    )
    small = Panel('x\ny', Image.new('RGB', (9, 9), 'red'), ('0', '1 bits'))
    pixels = np.asarray(draw_figure([[red, blue], [small, red]], 'legend'))
    reds, blues = ((pixels == colour).all(-1) for colour in ((255, 0, 0), (0, 0, 255)))
    assert reds.sum() == 2 * 30 * 40 + 81 and blues.sum() == 30 * 40
    second_column = blues.any(0).argmax()
    assert reds[:, second_column:].sum() == 30 * 40 and reds[:, second_column].any()


def test_a_missing_scikit_image_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('iafmsr.files.photographs.find_spec', lambda name: None)
    with pytest.raises(UserError, match='scikit-image'):
        demo.prepare_photographs(tmp_path)


def test_originals_are_not_changed(data):
    source = read_picture(data / 'originals/val/chelsea.png')
    assert torch.equal(read_picture(data / 'val/HR/chelsea.png'), source)
