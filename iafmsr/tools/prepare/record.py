"""What prepared sets are made of, kept beside them: a later call goes on with them, or refuses others."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from iafmsr.errors import UserError
from iafmsr.files.names import PictureFile, printable
from iafmsr.files.whole import replace_file
from iafmsr.tools.prepare.forms import SCALES, Form

__all__ = ['ADVICE', 'RECORD', 'Report', 'read_record', 'write_record']

RECORD = 'prepare.json'
ADVICE = 'choose another output folder, or delete this one'


@dataclass
class Report:
    """What the sets are made of: numbers of pictures and of pieces in each set, and what was left out and why.

    ``unreadable`` are broken files, ``unused`` sound pictures that the form has no use for; file name -> reason.
    """

    pictures: int = 0
    pieces: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)


def read_record(output: Path, form: Form, pictures: list[PictureFile]) -> Report | None:
    """The report of the sets that exist below ``output``, None when they are still to be made.

    Raises:
        UserError: They are of other pictures or settings.
    """
    path = output / RECORD
    if not path.exists():
        for folder in map(form.folder, (1, *SCALES)):
            if (output / folder).exists():
                raise UserError(f'{printable(output / folder)} exists and was not made by this command; {ADVICE}')
        return None
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        report = Report(**found['report']) if found['report'] else None
        settings, files = found['settings'], found['pictures']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{printable(path)} is damaged; {ADVICE}') from error
    if settings != _settings(form):
        raise UserError(f'{printable(output)} was made with {settings}, not {_settings(form)}; {ADVICE}')
    changed = sorted(set(files.items()) ^ set(_files(pictures).items()))
    if changed:
        raise UserError(f'{printable(output)} was made of other pictures ({changed[0][0]!a} differs); {ADVICE}')
    return report


def write_record(output: Path, form: Form, pictures: list[PictureFile], report: Report | None) -> None:
    """Write down what the sets are made of; without a report they are still to be made."""
    record = {'settings': _settings(form), 'report': report and asdict(report), 'pictures': _files(pictures)}
    output.mkdir(parents=True, exist_ok=True)
    replace_file(output / RECORD, json.dumps(record, indent=1).encode())


def _settings(form: Form) -> dict[str, object]:
    return {'form': type(form).__name__, **asdict(form)}


def _files(pictures: list[PictureFile]) -> dict[str, int]:
    return {picture.path.name: picture.size_bytes for picture in pictures}
