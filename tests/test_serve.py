"""The page of `iafmsr serve`: what it computes, and the page itself in a real browser where there is one."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.archs.smfanet_arch import SMFANet
from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.files.whole import own_folder
from iafmsr.nets.trained import TrainedNet
from iafmsr.tools.serve.work import (
    Superseded,
    enlarge,
    idm_view,
    pixels_within,
    read_upload,
    save,
    sites_view,
    summary,
)


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
    return enlarge(trained, read_upload(picture, 10**6, 2), 0.05)


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


def test_a_budget_is_the_work_of_the_routed_blocks(found):
    torch.manual_seed(0)
    net = IAFMNet(num_feat=8, num_block=2, num_routed=1).eval().requires_grad_(False)
    routed = TrainedNet(net, 'IAFMNet', 4)
    net.router.thresholds.fill_(float(enlarge(routed, found.upload, 0.05).idm.median()))
    whole, half = (enlarge(routed, found.upload, 0.05, budget).sr for budget in (1, 0.5))
    net.budget = 0.5
    lq = found.lr[None].float() / 255
    assert torch.equal(half, (net(lq)[0].clamp(0, 1) * 255).round().to(torch.uint8))
    assert not torch.equal(half, whole)


def test_the_share_moves_the_mask_and_the_result_without_touching_the_net(trained, found):
    other = enlarge(trained, found.upload, 0.5)
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


def test_what_is_no_picture_is_refused_before_it_is_decoded(picture, tmp_path):
    (tmp_path / 'text.png').write_text('text')
    (tmp_path / 'cut.png').write_bytes(picture.read_bytes()[:3000])
    with pytest.raises(UserError, match='^text.png: not a picture$'):
        read_upload(tmp_path / 'text.png', 10**6, 2)
    with pytest.raises(UserError, match='^cut.png: cannot be decoded'):
        read_upload(tmp_path / 'cut.png', 10**6, 2)
    Image.new('1', (20_000, 10_000)).save(tmp_path / 'bomb.png')
    with pytest.raises(UserError, match='^bomb.png: .*(decompression bomb|at most 178 megapixels)'):
        read_upload(tmp_path / 'bomb.png', 10**6, 2)


@pytest.mark.parametrize(
    ('size', 'shown'), [((4000, 3000), (365, 274)), ((3000, 4000), (274, 365)), ((16385, 1), (8192, 1))]
)
def test_a_picture_that_would_take_too_long_is_made_smaller_and_the_page_says_so(size, shown, trained, tmp_path):
    Image.new('L', size, 90).save(tmp_path / 'photo.png')
    upload = read_upload(tmp_path / 'photo.png', 100_000, 2)
    assert upload.size == size and upload.picture.colour.shape == (*shown[::-1], 3)
    told = summary(enlarge(trained, upload, 0.05))
    assert f'Reduced from {size[0]}x{size[1]} first' in told and told.startswith(f'{shown[0]}x{shown[1]} ')


def test_the_limit_follows_the_time_that_is_allowed(trained):
    assert pixels_within(trained, 1e-9) == 128**2 < pixels_within(trained, 20)


def test_a_picture_that_nobody_wants_any_more_is_not_finished(trained, found):
    asked = iter([True, False])
    with pytest.raises(Superseded):
        enlarge(trained, found.upload, 0.05, wanted=lambda: next(asked))
    assert torch.equal(enlarge(trained, found.upload, 0.05).sr, found.sr)  # nobody is asked any more


def test_what_is_downloaded_keeps_the_profile_and_the_resolution(trained, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.new('RGB', (24, 16)).save(tmp_path / 'a.png', icc_profile=profile, dpi=(300, 300))
    found = enlarge(trained, read_upload(tmp_path / 'a.png', 10**6, 2), 0.05)
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
            (['--weights', str(tmp_path / 'net.pth'), '--max-seconds', '0'], '--max-seconds 0'),
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
    from selenium.webdriver.common.keys import Keys

    from iafmsr.tools.serve.page import serving

    (tmp_path / 'text.png').write_text('text')
    downloads = tmp_path / 'downloads'
    downloads.mkdir()
    Image.new('RGB', (300, 200)).save(tmp_path / 'large.png')
    with serving(trained, '127.0.0.1', 0, 50_000) as app, chromium(1280, 1000, downloads) as browser:
        page = Page(browser, app.local_url)
        assert '240x160 → 480x320' in page.told  # the example
        page.drop(tmp_path / 'text.png')
        assert 'text.png: not a picture' in page.message
        page.drop(tmp_path / 'large.png')
        assert '274x183 → 548x366' in page.told and 'Reduced from 300x200 first' in page.told

        page.drop(picture)
        assert '60x40 → 120x80' in page.told and '120 of 2,400 sites' in page.told and not page.message
        sites, idm = page.image('#sites .layers'), page.image('#idm .layers')
        page.slide('share', 10, Keys.ENTER)
        page.wait_until(lambda: '240 of 2,400 sites' in page.told)
        page.press('share', Keys.ARROW_RIGHT)
        page.wait_until(lambda: '252 of 2,400 sites' in page.told)
        page.slide('share', 20)
        page.wait_until(lambda: '480 of 2,400 sites' in page.told)
        assert page.image('#sites .layers') != sites and page.image('#idm .layers') == idm

        assert page.style('#idm .over', 'opacity') == '0.6'
        page.slide('opacity', 25)
        page.wait_until(lambda: page.style('#idm .over', 'opacity') == '0.25')

        result = page.download(downloads)
        assert result.name.endswith('_x2.png')
        expected = enlarge(trained, read_upload(picture, 50_000, 2), 0.2).sr
        assert np.array_equal(np.asarray(Image.open(result)), expected.permute(1, 2, 0).numpy())
        assert page.hosts() == {app.local_url.split('/')[2]}  # nothing comes from elsewhere
        assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []


_VISIT = """
import sys, urllib.error, urllib.request
from pathlib import Path
import torch
from gradio_client import Client, handle_file
from iafmsr.archs import IAFMNet
from iafmsr.nets.trained import TrainedNet
from iafmsr.tools.serve import page

def status(host):
    try:
        return urllib.request.urlopen(urllib.request.Request(app.local_url, headers={'Host': host}), timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code

def refused(file):
    try:
        return 'update' in str(client.predict(handle_file(file), 5, api_name='/first'))
    except Exception as error:
        return str(error)

net = TrainedNet(IAFMNet(scale=2, num_feat=8, num_block=1).eval().requires_grad_(False), 'IAFMNet', 2)
page._VISITORS = 3
with page.serving(net, '127.0.0.1', 0, 10**6) as app:
    print(*(status(host) for host in ('127.0.0.1', 'localhost:7860', 'evil.example')))
    client = Client(app.local_url, verbose=False, download_files=False)
    print(refused(sys.argv[1]))
    print(refused('https://example.invalid/x.png'))
    for _ in range(page._VISITORS + 5):
        visitor = Client(app.local_url, verbose=False, download_files=False)
        visitor.predict(handle_file(sys.argv[2]), 5, api_name='/first')
    (folder,) = page.FOLDER.glob('results-*')
    print(len(list(folder.iterdir())) == page._VISITORS)
    copies = [path for path in page.FOLDER.iterdir() if path != folder]
    # those of the last visit are not counted yet when there is made room
    print(len(copies) < 4 * page._VISITORS + 5, not list(page.FOLDER.rglob(Path(sys.argv[2]).name)))
"""


def test_the_page_keeps_to_itself_and_leaves_nothing(picture, tmp_path):
    """Another site's name is not answered, no address is fetched, a text is no traceback; folders are bounded."""
    pytest.importorskip('gradio', reason="the extra 'serve' is not installed")
    (tmp_path / 'text.png').write_text('text')
    (tmp_path / 'temporary').mkdir()
    done = subprocess.run(
        [sys.executable, '-c', _VISIT, str(tmp_path / 'text.png'), str(picture)],
        capture_output=True,
        text=True,
        env=os.environ | {'TMPDIR': str(tmp_path / 'temporary'), 'NO_PROXY': '*'},
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert done.returncode == 0, done.stderr
    hosts, text, address, bounded, copies = done.stdout.splitlines()
    assert hosts == '200 200 400' and text == 'True' and bounded == 'True' and copies == 'True True'
    assert 'upload a file, not an address' in address
    assert 'Traceback' not in done.stderr
    assert list((tmp_path / 'temporary').iterdir()) == []


def test_what_a_killed_page_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    code = 'import time; from iafmsr.files.whole import own_folder; print(own_folder("x"), flush=True); time.sleep(60)'
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, env=os.environ | {'TMPDIR': str(tmp_path)}
    ) as process:
        other = Path(process.stdout.readline().strip())
        mine = own_folder('x')
        assert other.is_dir() and mine.is_dir()
        process.kill()
    assert own_folder('x').is_dir() and mine.is_dir() and not other.exists()
