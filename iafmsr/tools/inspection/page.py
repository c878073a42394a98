"""The inspection of a picture as a page for a browser, in one file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from iafmsr.files.figures import PALETTE, colour_levels, image_panel
from iafmsr.tools.inspection.figure import SHARE, in_units
from iafmsr.tools.inspection.picture import Inspection

__all__ = ['page']

_CAPTION = (
    'IDM: the information density map, the bits that each place costs. Active sites: its highest values, where the '
    'sparse convolution works. Levels are values of the brightness Y, from 0 to 255. The last colour of a bar also '
    'stands for the highest 0.5 % of its values.'
)
_WITH_TRUTH = (
    ' PSNR / SSIM: Y, without the border. Rank correlation: 1 if a map orders the places as the error does, 0 if they '
    'have nothing in common.'
)


def page(found: Inspection) -> str:
    """HTML: two pictures under one slider, any map over them, all maps with their values under the pointer."""
    pictures = {'LR': found.lr, 'bicubic': found.bicubic, 'result': found.sr}
    maps = [_map('IDM', found.idm, _rank(found, 'IDM')), _mask(found.mask)]
    if found.hr is not None and found.error is not None:
        pictures['HR'] = found.hr
        maps.append(_map('error', found.error, '|HR - result| of Y'))
    maps += [_map(name, values, _rank(found, name)) for name, values in found.fixed.items()]
    history = [
        _map(
            f'IDM after {iteration:,} iterations',
            values,
            f'rank correlation {found.history_correlation[iteration]:.2f}' if found.history_correlation else '',
        )
        for iteration, values in found.history.items()
    ]
    quality = [f'{name}: {q.psnr:.2f} dB / {q.ssim:.4f}' for name, q in found.quality.items()]
    data = {
        'name': found.name,
        'summary': ' · '.join([f'x{found.scale}', found.title, *quality]),
        'caption': _CAPTION + (_WITH_TRUTH if found.hr is not None else ''),
        'size': found.sr.shape[1:],
        'lr_size': found.lr.shape[1:],
        'pictures': {name: _source(image_panel('', picture).image) for name, picture in pictures.items()},
        'maps': maps,
        'history': history,
        'ranks': sorted(found.correlation.items(), key=lambda item: -item[1]),
        'palette': [','.join(map(str, colour)) for colour in PALETTE.tolist()],
        'bar': _source(_coloured(np.arange(255, -1, -1, dtype=np.uint8)[:, None])),
    }
    # a name may hold anything; nothing in the JSON may end the script element
    text = json.dumps(data).replace('<', '\\u003c')
    return files('iafmsr.tools.inspection').joinpath('page.html').read_text(encoding='utf-8').replace('DATA', text)


def _rank(found: Inspection, name: str) -> str:
    return f'rank correlation {found.correlation[name]:.2f}' if found.correlation else ''


def _map(name: str, values: Tensor, note: str) -> dict[str, Any]:
    values, unit = in_units(name, values)
    levels = colour_levels(values, SHARE)
    return {
        'name': name,
        'note': note,
        'source': _source(_coloured(levels.levels)),
        'ends': levels.labels,
        'unit': unit,
        'range': [levels.low, levels.high],
        'clipped': levels.clipped,
    }


def _mask(mask: Tensor) -> dict[str, Any]:
    return {
        'name': 'active sites',
        'note': f'{100 * mask.float().mean().item():.1f} %',
        'source': _source(Image.fromarray(255 * mask.numpy().astype(np.uint8))),
    }


def _coloured(levels: np.ndarray) -> Image.Image:
    """A picture whose file holds the numbers of the colours."""
    image = Image.frombytes('P', levels.shape[::-1], levels.tobytes())
    image.putpalette(PALETTE.tobytes())
    return image


def _source(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, 'PNG')
    return 'data:image/png;base64,' + base64.b64encode(content.getvalue()).decode()
