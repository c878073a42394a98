"""The page, in Gradio."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from iafmsr.files.whole import own_folder

_FOLDER = own_folder('iafmsr-serve')  # of all that is uploaded, made, or kept by Gradio
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
# read at the import: nothing is sent anywhere, nothing is left elsewhere
os.environ |= {'GRADIO_ANALYTICS_ENABLED': 'False', 'GRADIO_TEMP_DIR': str(_FOLDER)}

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: E402

from iafmsr.errors import UserError  # noqa: E402
from iafmsr.files.picture import Picture  # noqa: E402
from iafmsr.nets.trained import TrainedNet  # noqa: E402
from iafmsr.tools.serve.work import Enlarged, enlarge, idm_view, read_upload, save, sites_view, summary  # noqa: E402

__all__ = ['serving']

_KEPT = 3600  # seconds that a visitor's pictures are kept
_VISITORS = 20  # whose pictures are kept at a time
_OPACITY = 60
_CSS = f"""
:root {{ --opacity: {_OPACITY / 100}; }}
.layers {{ position: relative; }}
.layers img {{ display: block; width: 100%; }}
.layers .over {{ position: absolute; inset: 0; height: 100%; opacity: var(--opacity); image-rendering: pixelated; }}
.bar {{ display: flex; gap: .5rem; align-items: center; font-size: .85rem; margin-top: .3rem; }}
.bar span {{ white-space: nowrap; }}
.bar img {{ height: 12px; flex: 1; min-width: 0; }}
"""
_SET_OPACITY = "value => document.documentElement.style.setProperty('--opacity', value / 100)"


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
        most_pixels: of a picture.

    Raises:
        UserError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix='results-', dir=_FOLDER) as folder:
        app = _page(trained, most_pixels, Path(folder))
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
                css=_CSS,
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


def _refuse_addresses(upload: gr.File) -> None:
    """A visitor sends a file, and may not name an address for the server to fetch it from."""
    take = upload.async_move_resource_to_block_cache

    async def take_file(path: str | Path | None) -> str | None:
        if path is not None and str(path).startswith(('http://', 'https://')):
            raise gr.Error('a file is wanted, not an address', print_exception=False)
        return await take(path)

    upload.async_move_resource_to_block_cache = take_file


def _page(trained: TrainedNet, most_pixels: int, folder: Path) -> gr.Blocks:
    with gr.Blocks(title='iafmsr', analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        _connect(_parts(trained, most_pixels), trained, most_pixels, folder)
    return page


class _Parts(NamedTuple):
    """What stands on the page: what a visitor sets, and what is shown."""

    upload: gr.File
    share: gr.Slider
    budget: gr.Slider
    opacity: gr.Slider
    kept: gr.State
    slider: gr.ImageSlider
    idm: gr.HTML
    sites: gr.HTML
    told: gr.Markdown
    download: gr.DownloadButton


def _parts(trained: TrainedNet, most_pixels: int) -> _Parts:
    """The layout of the page."""
    kept = gr.State(None, time_to_live=_KEPT, delete_callback=_forget)
    gr.Markdown(f'### {trained.arch} x{trained.scale}: before and after, and where the network worked')
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.File(label=f'A picture, at most {most_pixels / 1e6:g} MP', elem_id='upload')
            _refuse_addresses(upload)
            share, budget = _share(trained.net), _budget(trained.net)
            opacity = gr.Slider(0, 100, _OPACITY, step=1, label='opacity of the maps, %', elem_id='opacity')
            told = gr.Markdown(elem_id='told')
            download = gr.DownloadButton('Download the result', interactive=False, elem_id='download')
        with gr.Column(scale=3):
            slider = gr.ImageSlider(
                label='bicubic | result', format='png', interactive=False, max_height=480, elem_id='slider'
            )
    with gr.Row():
        with gr.Column():
            gr.Markdown('**Information density map**')
            idm = gr.HTML(elem_id='idm')
        with gr.Column():
            gr.Markdown('**Active sites**: what is not dark')
            sites = gr.HTML(elem_id='sites')
    return _Parts(upload, share, budget, opacity, kept, slider, idm, sites, told, download)


def _share(net: Any) -> gr.Slider:
    usual = round(100 * net.density.k, 1)
    return gr.Slider(
        0.5,
        50,
        usual,
        step=0.5,
        label='active sites, % (k)',
        elem_id='share',
        info=f'trained with {usual:g}; let go to compute the picture anew',
    )


def _budget(net: Any) -> gr.Slider:
    return gr.Slider(
        5,
        100,
        100,
        step=5,
        label='positions that the routed blocks work at, %',
        elem_id='budget',
        info='of the pictures of the training; a flat picture takes fewer',
        visible=bool(getattr(net, 'num_routed', 0)),
    )


def _connect(parts: _Parts, trained: TrainedNet, most_pixels: int, folder: Path) -> None:
    """What the page does when something on it is set."""
    shown = [parts.kept, parts.slider, parts.idm, parts.sites, parts.told, parts.download]

    def answer(
        read: Callable[[], tuple[str, Picture]], percent: float, budget: float, before: _Kept | None
    ) -> tuple[Any, ...]:
        try:
            return _shown(enlarge(trained, *read(), percent / 100, budget / 100), before, folder)
        except UserError as error:
            gr.Warning(str(error), title='Not upscaled')
            return tuple(gr.skip() for _ in shown)

    def first(path: str, percent: float, budget: float, before: _Kept | None) -> tuple[Any, ...]:
        return answer(lambda: (Path(path).stem, read_upload(Path(path), most_pixels)), percent, budget, before)

    def again(percent: float, budget: float, before: _Kept | None) -> tuple[Any, ...]:
        if before is None:
            return tuple(gr.skip() for _ in shown)
        return answer(lambda: (before.found.name, before.found.source), percent, budget, before)

    def moved(percent: float, before: _Kept | None) -> Any:
        return gr.skip() if before is None else sites_view(before.found, percent / 100)

    share, budget, kept = parts.share, parts.budget, parts.kept
    parts.upload.upload(first, [parts.upload, share, budget, kept], shown)
    share.input(
        moved, [share, kept], parts.sites, show_progress='hidden', trigger_mode='always_last', concurrency_limit=4
    )
    for slider in (share, budget):
        slider.release(again, [share, budget, kept], shown)
    parts.opacity.input(None, parts.opacity, js=_SET_OPACITY)


def _shown(found: Enlarged, before: _Kept | None, folder: Path) -> tuple[Any, ...]:
    """The values of the page's components; the files of the picture before are removed."""
    _make_room(folder)
    place = Path(tempfile.mkdtemp(dir=folder))
    bicubic, result = (place / f'{found.name}_{ending}.png' for ending in ('bicubic', f'x{found.scale}'))
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


def _make_room(folder: Path) -> None:
    """Remove the oldest pictures where there are those of many visitors."""
    places = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for place in places[: max(0, len(places) + 1 - _VISITORS)]:
        shutil.rmtree(place, ignore_errors=True)
