"""What stands on the page. Gradio is imported here, after it has been told where to keep its files."""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from iafmsr.files.whole import own_folder

FOLDER = own_folder('iafmsr-serve')  # of all that is uploaded, made, or kept by Gradio
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# read at the import: nothing is sent anywhere, nothing is left elsewhere
os.environ |= {'GRADIO_ANALYTICS_ENABLED': 'False', 'GRADIO_TEMP_DIR': str(FOLDER)}

import gradio as gr  # noqa: E402

from iafmsr.nets.trained import TrainedNet  # noqa: E402

__all__ = ['CSS', 'FOLDER', 'HEAD', 'KEPT', 'SET_OPACITY', 'Parts', 'gr', 'parts']

KEPT = 3600  # seconds that a visitor's pictures are kept
_OPACITY = 60
SET_OPACITY = "value => document.documentElement.style.setProperty('--opacity', value / 100)"
CSS = f"""
:root {{ --opacity: {_OPACITY / 100}; }}
#slider {{ position: relative; }}
#slider::before, #slider::after {{ position: absolute; bottom: .6rem; z-index: 100; padding: .1rem .5rem;
  background: #000a; color: #fff; border-radius: .3rem; font-size: .9rem; pointer-events: none; }}
#slider::before {{ content: 'before: bicubic'; left: .6rem; }}
#slider::after {{ content: 'after: network'; right: .6rem; }}
.layers {{ position: relative; width: fit-content; margin: auto; }}
.layers img {{ display: block; max-width: 100%; max-height: 75vh; }}
.layers .over {{ position: absolute; inset: 0; width: 100%; height: 100%; max-height: none; opacity: var(--opacity);
  image-rendering: pixelated; }}
.bar {{ display: flex; gap: .5rem; align-items: center; font-size: .85rem; margin-top: .3rem; }}
.bar span {{ white-space: nowrap; }}
.bar img {{ height: 12px; flex: 1; min-width: 0; }}
"""
# Enter in a number field, and arrow keys on a slider, count as letting go of it
HEAD = """<script>
document.addEventListener('keydown', e => { if (e.key === 'Enter' && e.target.type === 'number') e.target.blur(); });
document.addEventListener('keyup', e => { if (e.target.type === 'range' && /^(Arrow|Page|Home|End)/.test(e.key))
  e.target.dispatchEvent(new PointerEvent('pointerup', {bubbles: true})); });
</script>"""


class Parts(NamedTuple):
    """What a visitor sets, what is kept of him, and what is shown."""

    upload: gr.File
    share: gr.Slider
    budget: gr.Slider
    opacity: gr.Slider
    turn: gr.State
    kept: gr.State
    slider: gr.ImageSlider
    idm: gr.HTML
    sites: gr.HTML
    told: gr.Markdown
    download: gr.DownloadButton


def parts(trained: TrainedNet, forget: Any) -> Parts:
    """The layout of the page; ``forget`` is called with what was kept of a visitor who is gone."""
    turn, kept = gr.State(0), gr.State(None, time_to_live=KEPT, delete_callback=forget)
    gr.Markdown(
        f'### {trained.arch} makes pictures {trained.scale} times as wide and as high\n'
        'The network first estimates how many bits each place of the picture costs. This is the information density '
        'map. At its highest values (the active sites), the network computes an additional sparse convolution.'
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.File(label='Your picture', elem_id='upload', height=180)
            _refuse_addresses(upload)
            told = gr.Markdown(elem_id='told')
            download = gr.DownloadButton(
                'Download the result', variant='primary', interactive=False, elem_id='download'
            )
            share, budget = _share(trained.net), _budget(trained.net)
        with gr.Column(scale=3, min_width=280):
            slider = gr.ImageSlider(
                label='Before and after: move the line',
                format='png',
                interactive=False,
                max_height=560,
                elem_id='slider',
            )
    opacity = gr.Slider(0, 100, _OPACITY, step=1, label='Opacity of the maps, %', elem_id='opacity')
    with gr.Row():
        with gr.Column(min_width=280):
            gr.Markdown('**Information density map**, in bits; bright: much information')
            idm = gr.HTML(elem_id='idm')
        with gr.Column(min_width=280):
            gr.Markdown('**Active sites**: all other places are darkened')
            sites = gr.HTML(elem_id='sites')
    return Parts(upload, share, budget, opacity, turn, kept, slider, idm, sites, told, download)


def _share(net: Any) -> gr.Slider:
    usual = round(100 * net.density.k, 1)
    return gr.Slider(
        0.5,
        50,
        usual,
        step=0.5,
        label='Active sites, %',
        elem_id='share',
        info=f'the network was trained with {usual:g}',
    )


def _budget(net: Any) -> gr.Slider:
    return gr.Slider(
        5,
        100,
        100,
        step=5,
        label='Budget of the last blocks, %',
        elem_id='budget',
        info='share of the positions of an average picture at which the last blocks work',
        visible=bool(getattr(net, 'num_routed', 0)),
    )


def _refuse_addresses(upload: gr.File) -> None:
    """A visitor sends a file, and may not name an address for the server to fetch it from."""
    take = upload.async_move_resource_to_block_cache

    async def take_file(path: str | Path | None) -> str | None:
        if path is not None and str(path).startswith(('http://', 'https://')):
            raise gr.Error('upload a file, not an address', print_exception=False)
        return await take(path)

    upload.async_move_resource_to_block_cache = take_file
