"""The page, in Gradio."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from iafmsr.errors import UserError
from iafmsr.nets.trained import TrainedNet
from iafmsr.tools.demo import EXAMPLE
from iafmsr.tools.serve.layout import CSS, FOLDER, HEAD, KEPT, SET_OPACITY, Parts, gr, parts
from iafmsr.tools.serve.work import (
    Enlarged,
    Superseded,
    Upload,
    enlarge,
    idm_view,
    read_upload,
    reduced,
    save,
    sites_view,
    summary,
)

__all__ = ['serving']

_VISITORS = 20  # whose pictures are kept at a time


@dataclass(frozen=True)
class _Kept:
    """What the server keeps of a visitor: the picture, and the folder of its files."""

    found: Enlarged
    folder: Path


@contextmanager
def serving(trained: TrainedNet, host: str, port: int, most_pixels: int) -> Iterator[gr.Blocks]:
    """A context in which the page is served, at the ``local_url`` of what it gives.

    Args:
        trained: a net with an information density map.
        host: address that is listened at; 127.0.0.1 is reached from this machine alone.
        port: 0: the first that is free from 7860 on.
        most_pixels: that are enlarged; a larger picture is made smaller first.

    Raises:
        UserError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix='results-', dir=FOLDER) as folder:
        with gr.Blocks(title='iafmsr', analytics_enabled=False, delete_cache=(KEPT, KEPT)) as app:
            _Page(trained, most_pixels, Path(folder)).connect(app, parts(trained, _forget))
        app.queue(max_size=20)
        try:
            app.launch(
                server_name=host,
                server_port=port or None,
                share=False,
                quiet=True,
                footer_links=[],
                ssr_mode=False,
                max_file_size='100mb',
                prevent_thread_lock=True,
                state_session_capacity=_VISITORS,
                app_kwargs={'middleware': [Middleware(TrustedHostMiddleware, allowed_hosts=_names_of(host))]},
                css=CSS,
                head=HEAD,
                # no fonts from elsewhere
                theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
            )
        except OSError as error:
            raise UserError(f'--host {host} --port {port}: {str(error).splitlines()[0]}') from None
        try:
            yield app
        finally:
            app.close(verbose=False)


def _names_of(host: str) -> list[str]:
    """Names under which the page is asked for: another site's name may not lead a browser to a page of this machine
    alone."""
    return ['localhost', host] if host.startswith('127.') else ['*']


class _Page:
    """What the page does when something on it is set."""

    def __init__(self, trained: TrainedNet, most_pixels: int, folder: Path) -> None:
        self.trained, self.most_pixels, self.folder = trained, most_pixels, folder
        self.newest: defaultdict[str, int] = defaultdict(int)  # of each visitor's session: the number of the last wish

    def connect(self, app: gr.Blocks, on: Parts) -> None:
        """Wish by wish: the number of the newest is known at once, and the one in progress ends when it is not its."""
        shown = [on.kept, on.slider, on.idm, on.sites, on.told, on.download]
        settings = [on.share, on.budget, on.turn, on.kept]
        hidden: dict[str, Any] = {'queue': False, 'show_progress': 'hidden', 'api_visibility': 'private'}
        app.load(self.example, settings, shown)
        on.upload.upload(self.wish, None, on.turn, **hidden).then(self.first, [on.upload, *settings], shown)
        for slider in (on.share, on.budget):
            slider.release(self.wish, None, on.turn, **hidden).then(
                self.again, settings, shown, trigger_mode='multiple'
            )
        on.share.input(
            self.moved,
            [on.share, on.kept],
            on.sites,
            show_progress='hidden',
            trigger_mode='always_last',
            concurrency_limit=4,
        )
        on.opacity.input(None, on.opacity, js=SET_OPACITY)

    def wish(self, request: gr.Request) -> int:
        """The number of a visitor's new wish."""
        if len(self.newest) > 1000:  # visitors who have gone
            self.newest.clear()
        self.newest[str(request.session_hash)] += 1
        return self.newest[str(request.session_hash)]

    def example(self, percent: float, budget: float, turn: int, before: _Kept | None, request: gr.Request) -> Any:
        def small() -> Upload:
            picture = reduced(read_upload(EXAMPLE, 10**9, 1), self.trained.scale).picture
            return Upload(EXAMPLE.stem, picture, picture.colour.shape[1::-1])

        return self.answer(small, percent, budget, turn, before, request)

    def first(
        self, path: str, percent: float, budget: float, turn: int, before: _Kept | None, request: gr.Request
    ) -> Any:
        def read() -> Upload:
            try:
                return read_upload(Path(path), self.most_pixels, self.trained.scale)
            finally:
                if FOLDER in Path(path).parents:  # it is in memory, or of no use
                    Path(path).unlink(missing_ok=True)

        return self.answer(read, percent, budget, turn, before, request)

    def again(self, percent: float, budget: float, turn: int, before: _Kept | None, request: gr.Request) -> Any:
        if before is None:
            return self.unchanged()
        return self.answer(lambda: before.found.upload, percent, budget, turn, before, request)

    def moved(self, percent: float, before: _Kept | None) -> Any:
        return gr.skip() if before is None else sites_view(before.found, percent / 100)

    def answer(
        self,
        read: Callable[[], Upload],
        percent: float,
        budget: float,
        turn: int,
        before: _Kept | None,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        def wanted() -> bool:
            return self.newest[str(request.session_hash)] == turn

        try:
            found = enlarge(self.trained, read(), percent / 100, budget / 100, wanted)
        except Superseded:
            return self.unchanged()
        except UserError as error:
            gr.Warning(str(error), title='Not upscaled')
            return self.unchanged()
        return self.shown(found, before)

    def unchanged(self) -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in range(6))

    def shown(self, found: Enlarged, before: _Kept | None) -> tuple[Any, ...]:
        """The values of the page's components; the files of the picture before are removed."""
        _make_room(self.folder, _VISITORS)
        _make_room(FOLDER, 3 * _VISITORS)  # Gradio's copies
        place = Path(tempfile.mkdtemp(dir=self.folder))
        name = found.upload.name
        bicubic, result = (place / f'{name}_{ending}.png' for ending in ('bicubic', f'x{found.scale}'))
        for path, picture in ((bicubic, found.bicubic), (result, found.sr)):
            save(found, picture, path)
        _forget(before)
        return (
            _Kept(found, place),
            (str(bicubic), str(result)),
            idm_view(found),
            sites_view(found, found.k),
            summary(found),
            gr.DownloadButton(value=str(result), interactive=True),
        )


def _forget(kept: _Kept | None) -> None:
    if kept is not None:
        shutil.rmtree(kept.folder, ignore_errors=True)


def _make_room(folder: Path, most: int) -> None:
    """Remove the oldest pictures where there are those of many visitors, so that another folder is not too many."""
    with suppress(FileNotFoundError):  # another visitor's call has removed them
        found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('results-'))
        places = sorted(found, key=lambda path: path.stat().st_mtime)
        for place in places[: max(0, len(places) + 1 - most)]:
            shutil.rmtree(place, ignore_errors=True)
