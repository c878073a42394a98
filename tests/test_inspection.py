"""What `iafmsr inspect` shows: figures by definition, a page that needs nothing else, faults in one line."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.archs.smfanet_arch import SMFANet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.figures import PALETTE, colour_levels
from iafmsr.tools.inspection.attribution import attribution, diffusion_index, receptive_field
from iafmsr.tools.inspection.figure import SHARE, caption, densest, draw
from iafmsr.tools.inspection.inputs import find_sources
from iafmsr.tools.inspection.page import page
from iafmsr.tools.inspection.picture import has_map, inspect_picture
from iafmsr.tools.inspection.report import Figures, as_json, as_text
from iafmsr.tools.inspection.training import checkpoints
from iafmsr.tools.measure.map_quality import error_maps, fixed_maps, rank_correlation


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return IAFMNet(scale=2, num_feat=8, num_block=1).eval().requires_grad_(False)


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope='module')
def found(net):
    return inspect_picture('a </script> name', net, 2, noise(13, 17), noise(27, 34, 1), {500: net})


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.removeprefix('data:image/png;base64,'))))


def test_figures_are_those_of_their_definitions(net, found):
    lq, hr = noise(13, 17)[None] / 255, noise(27, 34, 1)[:, :26][None] / 255
    sr, density = net(lq, return_density=True)
    error, _ = error_maps((sr.clamp(0, 1) * 255).round() / 255, hr, 2)
    torch.testing.assert_close(found.error, error[0, 0])
    assert torch.equal(found.idm, density.idm[0, 0]) and torch.equal(found.mask, density.mask[0, 0])
    assert found.correlation['IDM'] == pytest.approx(rank_correlation(density.idm, error), abs=1e-6)
    assert found.correlation['Laplacian'] == pytest.approx(
        rank_correlation(fixed_maps(lq)['laplacian'], error), abs=1e-6
    )
    assert found.history_correlation == {500: found.correlation['IDM']}


def test_without_the_true_picture_there_is_no_error(net):
    found = inspect_picture('a', net, 2, noise(9, 11))
    assert found.error is None and found.correlation == {} and found.quality == {}
    assert 'error' not in [each['name'] for each in data_of(page(found))['maps']]


def test_hr_of_another_size_is_refused(net):
    with pytest.raises(UserError, match='a: HR has 30x20 pixels, but must have 34x26'):
        inspect_picture('a', net, 2, noise(13, 17), noise(20, 30))


def test_a_picture_beyond_memory_is_refused(net):
    with pytest.raises(UserError, match='a: 2001x2000 pixels, at most 4 megapixels'):
        inspect_picture('a', net, 2, torch.zeros(3, 2000, 2001, dtype=torch.uint8))


def test_nets_with_a_map_are_told_from_others(net):
    assert has_map(net) and not has_map(SMFANet(scale=2))


def test_the_densest_part_is_the_one_with_the_highest_mean():
    idm = torch.zeros(20, 30)
    idm[5:9, 11:15] = 1
    idm[0, 0] = 5  # one high value does not make a dense part
    assert densest(idm, 4, 4) == (5, 11, 4, 4)
    assert densest(idm[:3], 4, 5)[2:] == (3, 5)


def test_the_figure_explains_the_error_where_it_is_shown(net, found):
    assert 'Error: mean of |HR - result|' in caption(found) and 'Rank correlation: 1 if' in caption(found)
    without = caption(inspect_picture('a', net, 2, noise(9, 11)))
    assert 'the IDM is highest on average' in without and 'rror' not in without


@pytest.mark.parametrize('size', [(1, 1), (2, 700), (700, 2)])
def test_pictures_of_any_shape_are_drawn(net, size):
    figure = draw(inspect_picture('a', net, 2, noise(*size), noise(2 * size[0], 2 * size[1])))
    assert figure.width < 2200 and figure.height < 1500


def test_colours_are_spread_over_the_share_of_the_values():
    values = torch.cat([torch.linspace(2, 3, 999), torch.tensor([1000.0])]).view(10, 100)
    levels = colour_levels(values, 0.995)
    assert levels.low == 2 and levels.high == pytest.approx(3, abs=0.01) and levels.labels[1].startswith('>= ')
    assert levels.levels.flat[500] == pytest.approx(128, abs=2) and levels.levels.flat[999] == 255
    assert colour_levels(values).high == 1000 and colour_levels(values).labels == ('2', '1e+03')
    # mostly flat: the quantile is the least value
    assert colour_levels(torch.tensor([[0.0, 0.0, 0.0, 7.0]]), 0.5).high == 7


def test_lightness_of_the_colours_rises_evenly():
    y = PALETTE @ np.array([0.2126, 0.7152, 0.0722])
    assert np.diff(y).min() > -1.5 and y[255] - y[0] > 150
    # the page reads values off the colours: those that are equal are neighbours
    number = {tuple(colour): i for i, colour in enumerate(PALETTE.tolist())}
    assert all(number[tuple(colour)] - i in (0, 1) for i, colour in enumerate(PALETTE.tolist()))


def test_the_page_holds_all_it_needs(found):
    html = page(found)
    assert not re.search(r'https?:|@import|src=|href=', html.split('id="data"')[0])
    data = data_of(html)
    assert data['name'] == 'a </script> name' and html.count('</script>') == 2
    assert {name: decoded(source).size for name, source in data['pictures'].items()} == {
        'LR': (17, 13),
        'bicubic': (34, 26),
        'result': (34, 26),
        'HR': (34, 26),
    }
    assert np.array_equal(np.asarray(decoded(data['pictures']['result'])), found.sr.permute(1, 2, 0).numpy())
    idm = next(each for each in data['maps'] if each['name'] == 'IDM')
    image, levels = decoded(idm['source']), colour_levels(found.idm, SHARE)
    assert np.array_equal(np.asarray(image), levels.levels) and idm['range'] == [levels.low, levels.high]
    assert np.array_equal(np.asarray(image.convert('RGB')), PALETTE[levels.levels])
    assert [each['name'] for each in data['history']] == ['IDM after 500 iterations']


def test_text_and_json_give_the_mean_over_pictures():
    figures = [
        Figures(name, {}, {'IDM': idm, 'Sobel': 0.5}, {10: idm / 2}) for name, idm in (('a', 0.25), ('bb', 0.75))
    ]
    lines = as_text(figures).splitlines()
    assert [line.split() for line in lines[3:6]] == [
        ['a', '0.250', '0.500'],
        ['bb', '0.750', '0.500'],
        ['mean', '0.500', '0.500'],
    ]
    assert lines[-1].split() == ['10', 'iterations', '0.250']
    found = json.loads(as_json(figures, 'w.pth', 4))
    assert found['mean'] == {'IDM': 0.5, 'Sobel': 0.5} and found['pictures'][1]['correlation']['IDM'] == 0.75


def test_checkpoints_are_spread_evenly_and_the_last_is_among_them(tmp_path):
    assert checkpoints(tmp_path) == {}
    (tmp_path / 'models').mkdir()
    for iteration in range(100, 2100, 100):
        (tmp_path / f'models/net_g_{iteration}.pth').touch()
    assert list(checkpoints(tmp_path)) == [200, 500, 800, 1100, 1400, 1700, 2000]


def test_true_pictures_are_found_by_name(tmp_path):
    for name in ('lr/ax4.png', 'lr/b.png', 'hr/a.png', 'hr/b.png', 'other/b.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    lr, hr, other = (tmp_path / name for name in ('lr', 'hr', 'other'))
    assert [(s.lr.name, s.hr.name) for s in find_sources([lr], hr, False, 4)] == [
        ('ax4.png', 'a.png'),
        ('b.png', 'b.png'),
    ]
    assert [(s.lr, s.hr) for s in find_sources([hr / 'a.png'], None, True, 4)] == [(None, hr / 'a.png')]
    for images, hr_path, fault in [
        ([tmp_path / 'none.png'], None, 'none.png: no such file'),
        ([lr, other], None, 'b.jpg: its figure would replace that of .*b.png'),
        ([lr], other, 'no picture ax4 in it'),
        ([lr], hr / 'a.png', '2 pictures need a folder'),
    ]:
        with pytest.raises(UserError, match=fault) as caught:
            find_sources(images, hr_path, False, 4)
        assert '\n' not in str(caught.value)


@pytest.fixture
def folder(tmp_path, net):
    """Weights of the net, a run, and pictures of which one is broken."""
    (tmp_path / 'run/models').mkdir(parents=True)
    for name in ('net_g_5.pth', 'net_g_latest.pth'):
        network = {'type': 'IAFMNet', 'scale': 2, 'num_feat': 8, 'num_block': 1}
        torch.save({'params': net.state_dict(), 'network_g': network}, tmp_path / 'run/models' / name)
    (tmp_path / 'pictures').mkdir()
    for name in ('a', 'b'):
        Image.fromarray(noise(30, 40).permute(1, 2, 0).numpy()).save(tmp_path / f'pictures/{name}.png')
    broken = (tmp_path / 'pictures/a.png').read_bytes()[:500]
    (tmp_path / 'pictures/a2.png').write_bytes(broken)
    return tmp_path


def test_the_command_names_what_fails_and_goes_on(folder, capsys):
    failed = main(f'inspect {folder}/pictures --downscale --weights {folder}/run --output {folder}/out'.split())
    out, err = capsys.readouterr()
    assert failed == 1 and [line for line in err.splitlines() if 'error' in line] == [
        line for line in err.splitlines() if line.startswith(f'iafmsr: error: {folder}/pictures/a2.png: ')
    ]
    assert sorted(path.name for path in (folder / 'out').iterdir()) == [
        'a_inspect.html',
        'a_inspect.png',
        'b_inspect.html',
        'b_inspect.png',
        'inspect.json',
    ]
    figures = json.loads((folder / 'out/inspect.json').read_text())
    assert figures['scale'] == 2 and [each['name'] for each in figures['pictures']] == ['a', 'b']
    assert f'{figures["mean"]["IDM"]:.3f}' in out and list(figures['pictures'][0]['history_correlation']) == ['5']
    assert 'IDM after 5 iterations' in (folder / 'out/a_inspect.html').read_text()


def test_the_command_refuses_what_it_cannot_show(folder, capsys):
    torch.save({'params': SMFANet(scale=2).state_dict()}, folder / 'smfanet.pth')
    image, run, weights = (str(folder / name) for name in ('pictures/a.png', 'run', 'run/models/net_g_5.pth'))
    (folder / 'file').touch()
    for arguments, fault in [
        ([image, '--weights', str(folder / 'smfanet.pth')], 'smfanet.pth: SMFANet has no information density map'),
        ([image, '--weights', image], 'a.png: not a file of weights'),
        ([image, '--weights', str(folder)], 'not the folder of a run'),
        ([str(folder / 'none'), '--weights', run], 'none: no such file'),
        ([image, '--weights', weights, '--output', str(folder / 'file')], 'cannot be written'),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(['inspect', *arguments])
        out, err = capsys.readouterr()
        assert stop.value.code == 2 and err.count('\n') == 1 and fault in err, err


@pytest.mark.skipif(
    not (shutil.which('chromium') and shutil.which('chromedriver')), reason='no chromium and chromedriver'
)
def test_the_page_in_a_browser_reads_values_off_its_maps(found, tmp_path):
    pytest.importorskip('selenium', reason="the extra 'browser' is not installed")
    from browser import chromium
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    (tmp_path / 'page.html').write_text(page(found), encoding='utf-8')
    with chromium(1200, 1600, tmp_path) as browser:
        browser.get((tmp_path / 'page.html').as_uri())
        assert browser.find_element(By.ID, 'title').text == found.name

        panel, row, column = browser.find_elements(By.CSS_SELECTOR, '#maps figure')[0], 3, 11
        picture = panel.find_element(By.CSS_SELECTOR, '.picture')
        offset = [
            round(side * ((place + 0.5) / count - 0.5))
            for side, place, count in ((picture.size['width'], column, 17), (picture.size['height'], row, 13))
        ]
        ActionChains(browser).move_to_element_with_offset(picture, *offset).perform()
        place, value = panel.find_element(By.CSS_SELECTOR, '.value').text.split(': ')
        levels = colour_levels(found.idm, SHARE)
        assert place == f'column {column}, row {row}'
        number, unit = value.removeprefix('at least ').split()
        assert unit == 'bits' and float(number) == pytest.approx(
            min(float(found.idm[row, column]), levels.high), abs=(levels.high - levels.low) / 100
        )

        chosen = Select(browser.find_element(By.ID, 'over'))
        over = browser.find_elements(By.CSS_SELECTOR, '#view img')[2]
        assert chosen.first_selected_option.text == 'IDM' and over.is_displayed()
        sides = [side.text for side in browser.find_elements(By.CSS_SELECTOR, '#view .side')]
        assert sides == ['bicubic', 'result'] and over.value_of_css_property('opacity') == '0.45'
        chosen.select_by_visible_text('error')
        assert over.is_displayed()
        split = browser.find_element(By.CSS_SELECTOR, '#view .split')
        before = split.rect['x']
        view = browser.find_element(By.ID, 'view')
        ActionChains(browser).move_to_element_with_offset(view, view.size['width'] // 4, 0).click().perform()
        assert split.rect['x'] - before == pytest.approx(view.size['width'] / 4, abs=2)
        assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []


# -- attribution ------------------------------------------------------------------------------------------------------
def convolution() -> torch.nn.Module:
    """Of one kernel, whose answers are known: [[1, 2, 1], [2, 4, 2], [1, 2, 1]] / 16 of each channel."""
    conv = torch.nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    row = torch.tensor([1.0, 2.0, 1.0])
    conv.weight.data[:] = torch.outer(row, row) / 16
    return conv


def test_the_receptive_field_of_a_convolution_is_its_kernel():
    shares = receptive_field(convolution(), torch.rand(1, 3, 9, 11), x=6, y=3)
    expected = torch.zeros(9, 11)
    expected[2:5, 5:8] = convolution().weight[0, 0]
    torch.testing.assert_close(shares, expected.detach())


def test_the_attribution_of_a_convolution_ends_a_pixel_outside_of_the_box():
    lq = torch.rand(1, 3, 16, 18)
    lam = attribution(convolution(), lq, (6, 4, 10, 9), steps=20)
    assert lam.sum() == pytest.approx(1) and lam.min() >= 0 and lam[4:9, 6:10].min() > 0
    lam[3:10, 5:11] = 0
    assert not lam.any()


def test_the_attribution_of_an_edge_is_where_its_detail_ends():
    """Of the identity: differences within a ramp cancel, and the columns at its ends decide, each by a half."""
    flat = torch.full((1, 3, 8, 8), 0.4)
    assert not attribution(torch.nn.Identity(), flat, (2, 2, 6, 6)).any()
    edge = flat.clone()
    edge[..., 4:] = 0.9
    lam = attribution(torch.nn.Identity(), edge, (2, 2, 6, 6))
    assert lam[2:6, 2].sum() == pytest.approx(0.5, abs=1e-3) == lam[2:6, 5].sum()


def test_the_diffusion_index_is_one_less_gini():
    one = torch.zeros(10, 10)
    one[3, 4] = 1
    assert diffusion_index(one) == pytest.approx(100 * 1 / 100)
    assert diffusion_index(torch.full((10, 10), 0.01)) == pytest.approx(100)
    half = torch.tensor([0.0, 0.0, 0.5, 0.5])
    assert diffusion_index(half) == pytest.approx(50)
    assert diffusion_index(torch.zeros(3)) == 0


def test_lam_of_a_picture_is_a_figure_and_an_index(tmp_path, net, capsys):
    torch.save({'params': net.state_dict(), 'network_g': {'type': 'IAFMNet', **net.keywords}}, tmp_path / 'net.pth')
    Image.fromarray(noise(13, 17).permute(1, 2, 0).numpy()).save(tmp_path / 'a.png')
    words = ['inspect', str(tmp_path / 'a.png'), '--weights', str(tmp_path / 'net.pth'), '--output', str(tmp_path)]
    assert main([*words, '--lam', '20,11']) == 0
    assert Image.open(tmp_path / 'a_lam.png').width > 600
    assert re.search(r'^a: diffusion index \d+\.\d\d at 20,11$', capsys.readouterr().out, re.M)
    assert main([*words, '--lam', '34,0']) == 1
    assert '--lam 34,0: is outside of the result of a, 34x26 pixels' in capsys.readouterr().err
