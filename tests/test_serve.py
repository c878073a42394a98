"""The page of `iafmsr serve`: what it computes, and the page itself in a real browser where there is one."""

import base64
import io
import re
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.archs.smfanet_arch import SMFANet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.nets.trained import TrainedNet
from iafmsr.serve.work import enlarge, idm_view, read_upload, save, sites_view, summary


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(0)
    return TrainedNet(IAFMNet(scale=2, num_feat=8, num_block=1).eval().requires_grad_(False), 'IAFMNet', 2)


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp('pictures') / 'noise <b>.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope='module')
def found(trained, picture):
    return enlarge(trained, 'noise', read_upload(picture, 10**6), 0.05)


def layers(html: str) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
        for source in re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    ]


def test_the_result_is_the_nets(trained, found):
    lq = found.lr[None] / 255
    assert torch.equal(found.sr, (trained.net(lq)[0].clamp(0, 1) * 255).round().to(torch.uint8))
    assert found.bicubic.shape == found.sr.shape == (3, 80, 120) and found.seconds > 0
    assert summary(found).startswith('60x40 → 120x80 in ') and '120 of 2,400 sites active' in summary(found)


def test_the_share_moves_the_mask_and_the_result_without_touching_the_net(trained, found):
    other = enlarge(trained, 'noise', found.source, 0.5)
    assert trained.net.density.k == 0.05 and torch.equal(other.idm, found.idm)
    assert not torch.equal(other.sr, found.sr)
    for share, active in ((0.05, 120), (0.5, 1200)):
        _, shade = layers(sites_view(found, share))
        assert shade.shape == (40, 60, 4) and (shade[..., 3] == 0).sum() == active
        idm = found.idm[0, 0].numpy()
        assert idm[shade[..., 3] == 0].min() >= idm[shade[..., 3] == 255].max()


def test_the_map_lies_over_the_picture_with_its_bar(found):
    under, over, bar = layers(idm_view(found))
    assert under.shape == (80, 120, 3) and over.shape == (40, 60, 3) and bar.shape == (1, 256, 3)
    place = int(found.idm.argmax())
    assert over.reshape(-1, 3)[place].tolist() == bar[0, 255].tolist()


def test_what_is_no_small_picture_is_refused_before_it_is_decoded(picture, tmp_path):
    with pytest.raises(UserError, match=r'^noise <b>\.png: 60x40 pixels, at most 0\.002 MP'):
        read_upload(picture, 2000)
    (tmp_path / 'text.png').write_text('text')
    (tmp_path / 'cut.png').write_bytes(picture.read_bytes()[:3000])
    with pytest.raises(UserError, match='^text.png: not a picture$'):
        read_upload(tmp_path / 'text.png', 10**6)
    with pytest.raises(UserError, match='^cut.png: cannot be decoded'):
        read_upload(tmp_path / 'cut.png', 10**6)


def test_what_is_downloaded_keeps_the_profile_and_the_resolution(trained, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.new('RGB', (24, 16)).save(tmp_path / 'a.png', icc_profile=profile, dpi=(300, 300))
    found = enlarge(trained, 'a', read_upload(tmp_path / 'a.png', 10**6), 0.05)
    save(found, found.sr, tmp_path / 'b.png')
    with Image.open(tmp_path / 'b.png') as image:
        assert image.size == (48, 32) and image.info['icc_profile'] == profile
        assert image.info['dpi'] == pytest.approx((300, 300), rel=1e-3)


def test_the_command_refuses_what_it_cannot_serve(trained, tmp_path, capsys):
    pytest.importorskip('gradio', reason="the extra 'serve' is not installed")
    network = {'type': 'IAFMNet', 'scale': 2, 'num_feat': 8, 'num_block': 1}
    torch.save({'params': trained.net.state_dict(), 'network_g': network}, tmp_path / 'net.pth')
    torch.save({'params': SMFANet(scale=2).state_dict()}, tmp_path / 'smfanet.pth')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, fault in [
            (['--weights', str(tmp_path / 'none.pth')], 'no such file'),
            (['--weights', str(tmp_path / 'smfanet.pth')], 'SMFANet has no information density map'),
            (['--weights', str(tmp_path / 'net.pth'), '--max-megapixels', '0'], '--max-megapixels 0'),
            (['--weights', str(tmp_path / 'net.pth'), '--port', port], f'--port {port}: '),
        ]:
            with pytest.raises(SystemExit) as stop:
                main(['serve', *arguments])
            err = capsys.readouterr().err
            assert stop.value.code == 2 and fault in err and 'Traceback' not in err


@pytest.mark.skipif(
    not (shutil.which('chromium') and shutil.which('chromedriver')), reason='no chromium and chromedriver'
)
def test_the_page_in_a_browser(trained, picture, tmp_path):
    for package, extra in (('gradio', 'serve'), ('selenium', 'browser')):
        pytest.importorskip(package, reason=f"the extra '{extra}' is not installed")
    from browser import Page, chromium

    from iafmsr.serve.page import serving

    (tmp_path / 'text.png').write_text('text')
    downloads = tmp_path / 'downloads'
    downloads.mkdir()
    Image.new('RGB', (300, 200)).save(tmp_path / 'large.png')
    with serving(trained, '127.0.0.1', 0, 50_000) as app, chromium(1280, 1000, downloads) as browser:
        page = Page(browser, app.local_url)
        page.drop(tmp_path / 'text.png')
        assert 'text.png: not a picture' in page.message and not page.told
        page.drop(tmp_path / 'large.png')
        assert '300x200 pixels, at most 0.05 MP' in page.message and not page.told

        page.drop(picture)
        assert '60x40 → 120x80' in page.told and '120 of 2,400 sites' in page.told and not page.message
        sites, idm = page.image('#sites .layers'), page.image('#idm .layers')
        page.slide('share', 20)
        page.wait_until(lambda: '480 of 2,400 sites' in page.told)
        assert page.image('#sites .layers') != sites and page.image('#idm .layers') == idm

        assert page.style('#idm .over', 'opacity') == '0.6'
        page.slide('opacity', 25)
        page.wait_until(lambda: page.style('#idm .over', 'opacity') == '0.25')

        result = page.download(downloads)
        assert result.name.endswith('_x2.png')
        expected = enlarge(trained, '', read_upload(picture, 50_000), 0.2).sr
        assert np.array_equal(np.asarray(Image.open(result)), expected.permute(1, 2, 0).numpy())
        assert page.hosts() == {app.local_url.split('/')[2]}  # nothing comes from elsewhere
        assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []
