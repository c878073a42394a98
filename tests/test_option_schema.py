"""The schema of option files: what it fills in, and the two pages that are made from it."""

from __future__ import annotations

import copy
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator
from option_cases import OPTION_FILES, changed, train_options

from iafmsr.models.compilation import MODES
from iafmsr.options import page
from iafmsr.options.files import ValueLoader, load_options
from iafmsr.options.kinds import Number, key
from iafmsr.options.schema import Options, Train
from iafmsr.training.checks.check import check_options, fill_defaults

LOCK = Path(__file__).resolve().parent.parent / 'requirements.txt'
LOCKED = re.search(r'^pydantic==(.+)$', LOCK.read_text(encoding='utf-8'), re.M)[1]

ROOT = Path(__file__).resolve().parent.parent


def filled(opt: dict[str, Any]) -> dict[str, Any]:
    full = copy.deepcopy(opt)
    fill_defaults(full, opt, is_train=True)
    return full


# -- defaults ---------------------------------------------------------------------------------------------------------
def test_defaults_are_filled_in_once() -> None:
    opt = filled(train_options())
    train, data = opt['train'], opt['datasets']['train']
    assert (train['warmup_iter'], train['ema_decay']) == (-1, 0)
    assert (train['channels_last'], train['max_bad_steps']) == (False, 10)
    assert (data['dataset_enlarge_ratio'], data['filename_tmpl'], data['pin_memory']) == (1, '{}', False)
    assert (opt['path']['strict_load_g'], opt['path']['param_key_g'], opt['val']['pbar']) == (True, 'params', False)
    assert opt['val']['suffix'] == ''  # BasicSR looks it up: without the key, saving pictures would fail
    assert 'autocast' not in train and 'dist_params' not in opt and 'wandb' not in opt['logger']


def test_what_the_file_says_stands() -> None:
    opt = changed(
        **{
            'train.warmup_iter': 7,
            'train.max_bad_steps': None,
            'datasets.train.filename_tmpl': None,
            'path.strict_load_g': False,
        }
    )
    given = filled(opt)
    assert given['train']['warmup_iter'] == 7 and given['path']['strict_load_g'] is False
    # ~ is 'not given'
    assert given['train']['max_bad_steps'] == 10 and given['datasets']['train']['filename_tmpl'] == '{}'
    # no keyword is invented for a constructor
    assert given['network_g'] == opt['network_g'] and given['val']['metrics'] == opt['val']['metrics']
    built = {name: section for name, section in opt['train'].items() if isinstance(section, dict)}
    assert {name: section for name, section in given['train'].items() if isinstance(section, dict)} == built


def test_what_basicsr_has_added_stays() -> None:
    read = train_options()
    opt = copy.deepcopy(read)
    opt['path']['models'], opt['datasets']['train']['phase'], opt['rank'] = '/run/models', 'train', 0
    fill_defaults(opt, read, is_train=True)
    assert (opt['path']['models'], opt['datasets']['train']['phase'], opt['rank']) == ('/run/models', 'train', 0)
    assert opt['path']['strict_load_g'] is True and opt['datasets']['train']['pin_memory'] is False


def test_a_model_gets_no_default_that_it_does_not_read() -> None:
    opt = changed(**{'model_type': 'SRModel'})
    del opt['train']['ie_opt']
    given = filled(opt)
    assert not {'max_bad_steps', 'channels_last', 'net_d_iters'} & given['train'].keys()
    assert 'strict_load_d' not in given['path'] and 'net_d_iters' not in filled(train_options())['train']


def test_filled_options_pass_again() -> None:
    assert check_options(filled(train_options()), True, '', files=False).faults == []


# -- a new key --------------------------------------------------------------------------------------------------------
def test_a_new_key_of_train_is_a_line_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type, its default, its nearest name, the models that read it and its line in the page come with that line."""

    class NewTrain(Train):
        clip_norm: Number = key('largest norm of a gradient', 1.5, ('IAFMNetModel',))

    class NewOptions(Options):
        train: NewTrain | None = key('needed in training', None)

    for place in ('training.checks.check.Schema', 'options.page.Options'):
        monkeypatch.setattr(f'iafmsr.{place}', NewOptions)
    monkeypatch.setattr('iafmsr.options.schema.sections.__defaults__', (NewOptions, ''))

    def faults(**keys: Any) -> list[str]:
        return check_options(changed(**keys), True, '', files=False).faults

    assert faults(**{'train.clip_norm': 2}) == []
    assert faults(**{'train.clip_norm': 'x'}) == ["train.clip_norm: must be a number, got 'x'"]
    assert faults(**{'train.clip_nrm': 2}) == ['train.clip_nrm: unknown key (did you mean clip_norm?)']
    assert faults(**{'train.clip_norm': 2, 'train.ie_opt': None, 'model_type': 'SRModel'}) == [
        'train.clip_norm: SRModel does not use it, IAFMNetModel does'
    ]
    assert filled(train_options())['train']['clip_norm'] == 1.5
    assert '| `clip_norm` | a number | `1.5` | largest norm of a gradient (IAFMNetModel) |' in page.markdown()
    assert page.schema()['$defs']['NewTrain']['properties']['clip_norm']['anyOf'][0]['type'] == 'number'


def test_the_modes_of_the_compiler_are_the_models() -> None:
    literal = get_args(get_args(Train.model_fields['compile'].annotation)[0])[0]
    assert get_args(literal) == MODES


# -- the two pages ----------------------------------------------------------------------------------------------------
@pytest.mark.skipif(version('pydantic') != LOCKED, reason='a JSON schema is what the pydantic of the lock makes')
def test_the_pages_are_those_that_the_schema_makes(repo_root: Path) -> None:
    """Else: python -m iafmsr.options.page"""
    assert (repo_root / 'docs/options.md').read_text(encoding='utf-8') == page.markdown()
    assert json.loads((repo_root / 'docs/options.schema.json').read_text(encoding='utf-8')) == page.schema()


def test_the_page_has_every_key() -> None:
    text = page.markdown()
    for name in (*Options.model_fields, *Train.model_fields):
        assert f'| `{name}` | ' in text
    assert '| `total_iter` | a whole number from 1 | needed | iterations of the whole run |' in text
    assert '| `autocast` | bf16 or fp16 |  | ' in text


@pytest.mark.parametrize('file', OPTION_FILES, ids=lambda file: file.stem)
def test_an_editor_finds_no_fault_in_the_projects_files(file: Path) -> None:
    validator = Draft202012Validator(page.schema())
    validator.validate(yaml.load(file.read_text(encoding='utf-8'), ValueLoader))  # as it is written, with its base
    validator.validate(load_options(file))


@pytest.mark.parametrize(
    ('name', 'value', 'path'),
    [
        ('trian', {}, '$'),
        ('scale', 'four', '$.scale'),
        ('train.totl_iter', 5, '$.train'),
        ('train.autocast', 'fp8', '$.train'),
        ('datasets.train.gt_sise', 5, '$.datasets.train'),
        ('datasets.val.io_backend.type', 'disc', '$.datasets.val'),
        ('val.metrics.psnr.better', 'more', '$.val'),
        ('path.strict_load_g', 'yes', '$.path.strict_load_g'),
        ('logger.keep_last', 0, '$.logger'),
    ],
)
def test_an_editor_marks_what_is_wrong(name: str, value: Any, path: str) -> None:
    validator = Draft202012Validator(page.schema())
    validator.validate(train_options())
    (error,) = validator.iter_errors(changed(**{name: value}))
    assert error.json_path == path
