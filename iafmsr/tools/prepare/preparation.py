"""From folders of pictures to pairs of HR and bicubic LR, for training or validation.

LR is made of each *whole* picture by :func:`iafmsr.ops.resize.imresize`, to the bit as the standard files, and cut
afterwards. Each set gets its final name when it is whole (:mod:`iafmsr.tools.prepare.stores`): an interrupted run
goes on where it stopped, and one that has nothing to do ends at once.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import lmdb
import numpy as np
import torch
from tqdm import tqdm

from iafmsr.data.parallel import in_order
from iafmsr.errors import UserError
from iafmsr.files.lock import folder_lock
from iafmsr.files.names import PictureFile, list_pictures, printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import is_deep, picture_size, read_picture, read_rgb8
from iafmsr.ops.resize import at_scale
from iafmsr.tools.prepare.forms import SCALES, Form
from iafmsr.tools.prepare.record import ADVICE, RECORD, Report, read_record, write_record
from iafmsr.tools.prepare.stores import encode_png, partial, stored

__all__ = ['prepare']

_SAMPLES = 8  # pictures by which the disk space is estimated and what is there is checked
_SAMPLE_SIZE = 480  # pixels in height and width of their middle
_SPARE = 1.1  # what the estimate may be wrong by


def prepare(
    inputs: Sequence[Path], output: Path, scales: Sequence[int], form: Form, workers: int | None = None
) -> Report:
    """Make HR and bicubic LR of all the pictures in some folders.

    Sets that exist below ``output`` are kept and missing ones made: a later call can add a scale. Pictures that cannot
    be used are left out, and named on stderr.

    Args:
        inputs: Folders with the original pictures.
        output: Folder for the sets, whose names the form gives.
        scales: Any of 2, 3 and 4.
        form: Crops for training or whole pictures for validation.
        workers: Pictures to work on at a time, by default one for each CPU core.

    Raises:
        UserError: A bad value; a missing or empty folder; ``output`` belongs to other pictures or settings; no picture
            is usable; another process is at work in ``output``; the disk is too small, full or read-only.
    """
    if not scales or not set(scales) <= set(SCALES):
        raise UserError(f'scale must be any of {SCALES}, got {list(scales)}')
    if workers is not None and workers < 1:
        raise UserError(f'workers must be at least 1, got {workers}')
    pictures = list_pictures(inputs)
    try:
        with folder_lock(output) if _missing(output, scales, form) else nullcontext():
            report = read_record(output, form, pictures)
            # looked at again: another process may have made them before the lock was free
            if wanted := _missing(output, scales, form):
                report = _make(pictures, output, wanted, form, report, workers)
            elif report is None:
                raise UserError(f'{printable(output / RECORD)} is damaged; {ADVICE}')
    except (OSError, lmdb.Error) as error:
        raise UserError(f'{printable(output)}: {error}; finished parts are kept, run again to continue') from error
    _say(
        f'{printable(output)}: {report.pieces} pairs from {report.pictures} pictures, '
        f'{len(report.unreadable)} unreadable, {len(report.unused)} unused'
    )
    return report


def _missing(output: Path, scales: Sequence[int], form: Form) -> list[int]:
    """The scales, HR's 1 first, of which there is no set yet."""
    return [scale for scale in (1, *sorted(set(scales))) if not (output / form.folder(scale)).exists()]


def _make(
    pictures: list[PictureFile], output: Path, scales: list[int], form: Form, before: Report | None, workers: int | None
) -> Report:
    """Make the sets of ``scales``. ``before`` is the report of the sets that exist, to which they must fit."""
    plan, report = _plan(pictures, form, before or Report())
    with _one_torch_thread(), ExitStack() as stack:
        _check_disk(plan, output, scales, form, workers)
        _check_content(plan, output, form)
        write_record(output, form, pictures, before)
        stores = {scale: form.open(output / form.folder(scale)) for scale in scales}
        for store in stores.values():
            stack.callback(store.close)

        todo = [
            (picture, wanted)
            for picture in plan
            if (wanted := [s for s, store in stores.items() if form.first_name(picture, s) not in store])
        ]
        bar = stack.enter_context(tqdm(total=len(plan), initial=len(plan) - len(todo), unit='picture', disable=None))
        results = stack.enter_context(closing(in_order(lambda item: _encoded(form, *item), todo, workers)))
        for (picture, _), result in zip(todo, results, strict=True):
            if isinstance(result, UnreadableError):
                _leave_out(report.unreadable, picture, result)
            else:
                for scale, items in result.items():
                    stores[scale].add(items)
            bar.update()

        used = [size for picture, size in plan.items() if picture.path.name not in report.unreadable]
        report.pictures, report.pieces = len(used), sum(len(form.boxes(*size)) for size in used)
        _check_whole(output, report, before, [len(store) for store in stores.values()])
        write_record(output, form, pictures, report)  # first, so that no set is ever without its report
        for store in stores.values():
            store.finish()
    return report


def _plan(pictures: list[PictureFile], form: Form, before: Report) -> tuple[dict[PictureFile, tuple[int, int]], Report]:
    """The pictures to use with their heights and widths, and a report that names the others."""
    plan, deep = {}, []
    report = Report(unreadable=dict(before.unreadable), unused=dict(before.unused))
    for picture in pictures:
        if picture.path.name in report.unreadable or picture.path.name in report.unused:
            continue
        try:
            size = picture_size(picture.path)
            sixteen_bits = is_deep(picture.path)
        except UnreadableError as error:
            _leave_out(report.unreadable, picture, error)
            continue
        if objection := form.objection(picture, *size):
            _leave_out(report.unused, picture, objection)
        else:
            plan[picture] = size
            deep += [picture.path] * sixteen_bits
    if not plan:
        raise UserError(f'none of the {len(pictures)} pictures can be used')
    if deep:
        _say(f'16 bits a channel, of which the high 8 are kept: {len(deep)} pictures, the first {printable(deep[0])}')
    return plan, report


def _leave_out(reasons: dict[str, str], picture: PictureFile, reason: object) -> None:
    reasons[picture.path.name] = str(reason)
    _say(f'left out: {printable(picture.path)}: {reason}')


def _check_disk(
    plan: dict[PictureFile, tuple[int, int]], output: Path, scales: list[int], form: Form, workers: int | None
) -> None:
    """Say how much space the sets need, and refuse to begin when it is not there."""
    boxes = [box for size in plan.values() for box in form.boxes(*size)]
    pixels = sum(height * width for _, _, height, width in boxes)
    samples = list(plan)[:: max(1, len(plan) // _SAMPLES)]
    needed = _SPARE * pixels * _bytes_per_pixel(samples, scales, workers)
    begun = sum(file.stat().st_size for scale in scales for file in partial(output / form.folder(scale)).glob('*'))
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    figures = (
        f'about {needed / 1e9:.2f} GB of disk needed, of which {begun / 1e9:.2f} GB are written already, '
        f'{free / 1e9:.2f} GB free'
    )
    if needed > begun + free:
        raise UserError(f'{printable(output)}: not enough disk space: {figures}')
    _say(f'{len(plan)} pictures, {len(boxes)} pairs, {figures}')


def _bytes_per_pixel(samples: list[PictureFile], scales: list[int], workers: int | None) -> float:
    """Size of the PNG files of all scales together, for each HR pixel, in the middle of some pictures."""

    def measure(picture: PictureFile) -> tuple[int, int]:
        try:
            hr = read_picture(picture.path)
        except UnreadableError:
            return 0, 0
        top, left = (max(0, (side - _SAMPLE_SIZE) // 2) for side in hr.shape[-2:])
        middle = hr[:, top : top + _SAMPLE_SIZE, left : left + _SAMPLE_SIZE]
        return sum(len(encode_png(at_scale(middle, scale))) for scale in scales), middle[0].numel()

    sizes, pixels = zip(*in_order(measure, samples, workers), strict=True)
    return sum(sizes) / max(1, sum(pixels))


def _check_content(plan: dict[PictureFile, tuple[int, int]], output: Path, form: Form) -> None:
    """What is there of some of the pictures, in sets that are finished or begun, has to be made of them."""
    for picture in list(plan)[:: max(1, len(plan) // _SAMPLES)]:
        names = {scale: form.first_name(picture, scale) for scale in (1, *SCALES)}
        there = {s: content for s, name in names.items() if (content := stored(output / form.folder(s), name))}
        try:
            pieces = form.cut(picture, read_picture(picture.path), there) if there else {}
        except UnreadableError:
            continue  # named where it is to be used
        for scale, content in there.items():
            with suppress(UnreadableError):
                if np.array_equal(read_rgb8(content), pieces[scale][0][1].permute(1, 2, 0).numpy()):
                    continue
            place = printable(output / form.folder(scale) / names[scale])
            raise UserError(f'{place} was not made from {printable(picture.path)}; {ADVICE}')


def _check_whole(output: Path, report: Report, before: Report | None, sizes: list[int]) -> None:
    """All sets must hold the same pictures: those of an earlier run, and those that were begun in one."""
    if report.pictures == 0:
        raise UserError('none of the pictures can be used')
    pieces = before.pieces if before else report.pieces
    if any(size != pieces for size in sizes):
        raise UserError(
            f'{printable(output)}: a picture that was readable in an earlier run is not readable now, so the '
            'sets would differ; repair it, or delete the folder and start again'
        )


def _encoded(
    form: Form, picture: PictureFile, scales: list[int]
) -> dict[int, list[tuple[str, bytes]]] | UnreadableError:
    """One picture's named pieces as PNG files, for each scale."""
    try:
        hr = read_picture(picture.path)
    except UnreadableError as error:
        return error
    pieces = form.cut(picture, hr, scales)
    return {scale: [(name, encode_png(image)) for name, image in named] for scale, named in pieces.items()}


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """The pictures are the parallel unit: inside one, torch must not compete for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
