"""The download is resumable, counts and decodes, and says what to do by hand; against a server on this machine."""

import hashlib
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from iafmsr.cli import main
from iafmsr.errors import UserError
from iafmsr.tools.prepare import download as module
from iafmsr.tools.prepare.download import download
from iafmsr.tools.prepare.sources import BENCHMARKS, DF2K, Source


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(buffer, 'png')
    return buffer.getvalue()


PICTURES = {f'{n:04d}.png': png(n) for n in range(1, 6)}


def zip_archive(pictures=PICTURES):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        file.writestr('Set_HR/', '')
        for name, content in pictures.items():
            file.writestr(f'Set_HR/{name}', content)
    return buffer.getvalue()


def tar_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        members = {f'Set/Set_LR/{name}': b'small' for name in PICTURES}
        members |= {f'Set/Set_HR/{name}': content for name, content in PICTURES.items()}
        for name, content in {**members, 'Set/Set_HR/notes.txt': b'text'}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves ``content`` under any path; ``cut`` bytes at most for each request, with or without ranges."""

    def __init__(self, content, cut=None, ranges=True, code=None, length=None):
        self.content, self.cut, self.ranges, self.code, self.asked = content, cut, ranges, code, []
        self.length = length
        super().__init__(('127.0.0.1', 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get('Range')
        server.asked.append(wanted)
        if server.code:
            self.send_error(server.code)
            return
        total = len(server.content)
        start = int(wanted.removeprefix('bytes=').rstrip('-')) if wanted and server.ranges else 0
        if start >= total:
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{total}')
            self.end_headers()
            return
        self.send_response(206 if wanted and server.ranges else 200)
        self.send_header('Content-Length', server.length or str(total - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(module, '_PAUSE', 0)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    servers = []

    def start(*args, **kwargs):
        server = Server(*args, **kwargs)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, f'http://127.0.0.1:{server.server_port}'

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def source(address, archive='set.zip', count=5):
    return Source('Set', f'{address}/{archive}', 'Set_HR', count)


def pictures_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(('archive', 'content'), [('set.zip', zip_archive()), ('set.tar', tar_archive())])
def test_the_pictures_of_an_archive_arrive(serve, tmp_path, archive, content):
    server, address = serve(content)
    folder = download(source(address, archive), tmp_path)
    assert folder == tmp_path / 'Set/Set_HR' and pictures_in(folder) == PICTURES
    download(source(address, archive), tmp_path)
    assert server.asked == [None]  # nothing is asked for twice


def test_a_broken_connection_goes_on_where_it_stopped(serve, tmp_path):
    content = zip_archive()
    server, address = serve(content, cut=len(content) // 3)
    assert pictures_in(download(source(address), tmp_path)) == PICTURES
    third = len(content) // 3
    assert server.asked == [None, f'bytes={third}-', f'bytes={2 * third}-'] + [f'bytes={3 * third}-'] * (
        len(content) > 3 * third
    )


@pytest.mark.parametrize('length', ['many', '-1', '1.5'])
def test_a_length_that_is_no_number_is_passed_over(serve, tmp_path, length):
    _, address = serve(zip_archive(), length=length)
    assert pictures_in(download(source(address), tmp_path)) == PICTURES


def test_a_later_run_goes_on_where_an_earlier_one_stopped(serve, tmp_path):
    content = zip_archive()
    (tmp_path / 'Set').mkdir()
    (tmp_path / 'Set/set.zip.partial').write_bytes(content[:1000])
    server, address = serve(content)
    assert pictures_in(download(source(address), tmp_path)) == PICTURES
    assert server.asked == ['bytes=1000-']


@pytest.mark.parametrize('ranges', [True, False])
def test_an_unfinished_file_that_is_whole_or_of_another_archive_does_no_harm(serve, tmp_path, ranges):
    content = zip_archive()
    for number, begun in enumerate((content, content + b'x' * 10)):
        (tmp_path / f'{number}/Set').mkdir(parents=True)
        (tmp_path / f'{number}/Set/set.zip.partial').write_bytes(begun)
        _, address = serve(content, ranges=ranges)
        assert pictures_in(download(source(address), tmp_path / str(number))) == PICTURES


def test_a_server_that_knows_no_ranges_is_asked_from_the_start(serve, tmp_path):
    content = zip_archive()
    (tmp_path / 'Set').mkdir()
    (tmp_path / 'Set/set.zip.partial').write_bytes(b'other bytes')
    _, address = serve(content, ranges=False)
    assert pictures_in(download(source(address), tmp_path)) == PICTURES


@pytest.mark.parametrize(('code', 'requests'), [(404, 1), (503, 5)])
def test_what_cannot_be_had_is_named_with_its_place(serve, tmp_path, code, requests):
    server, address = serve(b'', code=code)
    with pytest.raises(UserError) as error:
        download(source(address), tmp_path)
    assert f'{address}/set.zip' in str(error.value) and f'{tmp_path}/Set/set.zip' in str(error.value)
    assert len(server.asked) == requests  # a server that is down is asked again, a wrong address is not


def test_no_network_is_said_in_one_line(serve, tmp_path):
    server, address = serve(b'')
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match='by hand') as error:
        download(source(address), tmp_path)
    assert '\n' not in str(error.value)


def test_an_archive_and_a_folder_put_in_place_by_hand_are_taken(tmp_path):
    nowhere = source('http://127.0.0.1:9')
    (tmp_path / 'Set').mkdir()
    (tmp_path / 'Set/set.zip').write_bytes(zip_archive())
    folder = download(nowhere, tmp_path)
    (tmp_path / 'Set/set.zip').unlink()
    assert download(nowhere, tmp_path) == folder


def test_too_few_and_broken_pictures_never_get_the_final_name(serve, tmp_path):
    _, address = serve(zip_archive())
    with pytest.raises(UserError, match='has 5 pictures, but Set has 6'):
        download(source(address, count=6), tmp_path / 'few')
    truncated = {**PICTURES, '0003.png': PICTURES['0003.png'][:500]}
    _, address = serve(zip_archive(truncated))
    with pytest.raises(UserError, match=r'1 pictures are broken, e.g. 0003\.png'):
        download(source(address), tmp_path / 'broken')
    assert not list(tmp_path.rglob('Set_HR'))


@pytest.mark.parametrize(
    ('archive', 'content'),
    [
        ('set.zip', b'<html>404</html>'),
        ('set.zip', zip_archive()[:-200]),
        ('set.zip', zip_archive().replace(b'IDAT', b'IDAX')),
        ('set.tar', b'<html>404</html>'),
        ('set.tar', tar_archive()[:3000]),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, archive, content):
    (tmp_path / 'Set').mkdir()
    (tmp_path / 'Set' / archive).write_bytes(content)
    with pytest.raises(UserError, match=archive.replace('.', r'\.') + ' is damaged'):
        download(source('http://127.0.0.1:9', archive), tmp_path)


def test_names_in_an_archive_cannot_leave_the_folder(tmp_path):
    (tmp_path / 'Set').mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        for name, content in PICTURES.items():
            file.writestr(f'../../Set_HR/{name}', content)
    (tmp_path / 'Set/set.zip').write_bytes(buffer.getvalue())
    download(source('http://127.0.0.1:9'), tmp_path)
    assert pictures_in(tmp_path / 'Set/Set_HR') == PICTURES
    assert sorted(path.name for path in tmp_path.iterdir()) == ['Set']


def test_a_full_disk_is_said_before_it_is_full(serve, tmp_path, monkeypatch):
    _, address = serve(zip_archive())
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda path: module.shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(UserError, match='free'):
        download(source(address), tmp_path)
    assert not list(tmp_path.rglob('*.zip*'))


def test_df2k_is_3450_pictures_from_two_official_addresses():
    assert {s.name: s.count for s in DF2K} == {'DIV2K': 800, 'Flickr2K': 2650}
    assert [s.archive for s in DF2K] == ['DIV2K_train_HR.zip', 'Flickr2K.tar']


def benchmark_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        for name, count in {'Set5': 5, 'Set14': 14, 'B100': 100, 'Urban100': 100}.items():
            for part in ('HR', 'LR_bicubic/X2', 'LR_bicubic/X3', 'LR_bicubic/X4'):
                for number in range(count):
                    info = tarfile.TarInfo(f'benchmark/{name}/{part}/{number}{part[-2:].lower()}.png')
                    content = png(len(name))
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_four_benchmarks_come_in_one_archive_to_where_the_commands_want_them(serve, tmp_path, monkeypatch, capsys):
    """Asked for once, from a server in the place of the authors'. Its sum is not the published one, which is said."""
    server, address = serve(content := benchmark_archive())
    served = tuple(replace(source, url=f'{address}/benchmark.tar') for source in BENCHMARKS)
    monkeypatch.setattr('iafmsr.tools.prepare.sources.BENCHMARKS', served)
    assert main(['download', 'benchmarks', '--output', str(tmp_path)]) == 0
    said = capsys.readouterr().err
    for name, count in {'Set5': 5, 'Set14': 14, 'BSD100': 100, 'Urban100': 100}.items():
        for part in ('HR', 'LR_bicubic/X2', 'LR_bicubic/X3', 'LR_bicubic/X4'):
            assert len(list((tmp_path / 'benchmarks' / name / part).iterdir())) == count
    found = hashlib.md5(content).hexdigest()
    assert (tmp_path / 'benchmarks/benchmark.tar.md5').read_text() == f'{found}  benchmark.tar\n'
    assert said.count(f'its MD5 is {found}, but torchSR gives {BENCHMARKS[0].md5}') == 1 and 'www.manga109.org' in said
    assert main(['download', 'benchmarks', '--output', str(tmp_path)]) == 0 and server.asked == [None]


def test_the_command_downloads_df2k_and_goes_on_where_it_stopped(serve, tmp_path, monkeypatch):
    """From a server that breaks off, with five pictures in the place of 800 and 2,650."""
    _, address = serve(zip_archive(), cut=4000)
    served = tuple(replace(s, url=f'{address}/{s.name}.zip', pictures='Set_HR', count=5) for s in DF2K)
    monkeypatch.setattr('iafmsr.tools.prepare.sources.DF2K', served)
    assert main(['download', '--output', str(tmp_path)]) == 0
    for name in ('DIV2K', 'Flickr2K'):
        assert pictures_in(tmp_path / name / 'Set_HR') == PICTURES


def test_an_archive_that_has_changed_is_named(tmp_path):
    (tmp_path / 'Set').mkdir()
    (tmp_path / 'Set/set.zip').write_bytes(zip_archive())
    (tmp_path / 'Set/set.zip.md5').write_text('0' * 32 + '  set.zip\n')
    with pytest.raises(
        UserError, match=r'set\.zip is damaged \(its MD5 is [0-9a-f]{32}, it was 0{32}\): delete it and'
    ):
        download(source('http://127.0.0.1:9'), tmp_path)


def test_a_set_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit) as error:
        main(['download', 'benchmark'])
    assert error.value.code == 2 and 'benchmark: no such set (did you mean benchmarks?)' in capsys.readouterr().err
