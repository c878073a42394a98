"""Option files: what is wrong is said in one line that names the key, before anything is created or renamed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import option_cases
import pytest
import torch
import yaml
from basicsr.archs.edsr_arch import EDSR
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from option_cases import DELETE, OPTION_FILES, changed, flags, set_key, train_options, write_pictures
from PIL import Image

from iafmsr.archs.iafmnet_arch import IAFMNet
from iafmsr.errors import UserError
from iafmsr.options.datasets import DATASETS, OtherDataset
from iafmsr.options.files import load_options
from iafmsr.options.page import sections_below
from iafmsr.options.schema import Options, section_class
from iafmsr.training.checks.check import check_options
from iafmsr.training.options import keep_options, parse_options, resolve_paths

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
TINY = {'num_feat': 8, 'num_block': 1}
FULL = os.environ.get('IAFMSR_FULL') == '1'


def test_minimal_options_pass(parse: Callable[..., Any], root: Path) -> None:
    opt = parse(train_options())
    assert opt['datasets']['train']['dataroot_gt'] == str(root / 'data/gt.lmdb')
    assert opt['path']['experiments_root'] == str(root / 'experiments/run')
    assert (root / 'experiments/run/precious.txt').exists()


@pytest.mark.parametrize('file', OPTION_FILES, ids=lambda file: file.stem)
def test_option_files_of_the_project_pass(file: Path, repo_root: Path) -> None:
    opt = load_options(file)
    resolve_paths(opt, repo_root)
    report = check_options(opt, 'train' in opt, str(repo_root), files=False)
    assert report.faults == [] and report.warnings == []


@pytest.mark.parametrize(
    'key, value, culprit, near',
    [
        # misspelt keys, section by section
        ('modl_type', 'SRModel', 'modl_type: unknown key', 'model_type'),
        ('netwrok_d', {}, 'netwrok_d: unknown key', 'network_d'),
        ('datasets.train.gt_sise', 32, 'datasets.train.gt_sise: unknown key', 'gt_size'),
        ('datasets.train.total_batchsize', 4, 'datasets.train.total_batchsize: unknown key', 'total_batch_size'),
        ('datasets.train.io_backend.typ', 'lmdb', 'datasets.train.io_backend.typ: unknown key', 'type'),
        ('datasets.val.filename_templ', '{}', 'datasets.val.filename_templ: unknown key', 'filename_tmpl'),
        ('network_g.num_feats', 8, 'network_g.num_feats: unknown key', 'num_feat'),
        ('path.pretrained_network_g', 'x.pth', 'path.pretrained_network_g: unknown key', 'pretrain_network_g'),
        ('train.optimg', {}, 'train.optimg: unknown key', 'optim_g'),
        ('train.pixle_opt', {}, 'train.pixle_opt: unknown key', 'pixel_opt'),
        ('train.optim_g.weight_decai', 0, 'train.optim_g.weight_decai: unknown key', 'weight_decay'),
        ('train.scheduler.etamin', 0, 'train.scheduler.etamin: unknown key', 'eta_min'),
        ('train.pixel_opt.loss_wieght', 1, 'train.pixel_opt.loss_wieght: unknown key', 'loss_weight'),
        ('train.ie_opt.reductoin', 'mean', 'train.ie_opt.reductoin: unknown key', 'reduction'),
        ('val.val_freqs', 5, 'val.val_freqs: unknown key', 'val_freq'),
        ('val.metrics.psnr.crop_boarder', 4, 'val.metrics.psnr.crop_boarder: unknown key', 'crop_border'),
        ('logger.print_frq', 5, 'logger.print_frq: unknown key', 'print_freq'),
        ('logger.wandb', {'projct': 'x'}, 'logger.wandb.projct: unknown key', 'project'),
        ('dist_params', {'backnd': 'nccl'}, 'dist_params.backnd: unknown key', 'backend'),
        # misspelt names of classes
        ('model_type', 'IAFMNetmodel', "model_type: 'IAFMNetmodel' is not known", 'IAFMNetModel'),
        ('network_g.type', 'IAFMNett', "network_g.type: 'IAFMNett' is not known", 'IAFMNet'),
        ('datasets.val.type', 'PairedImageDatset', "datasets.val.type: 'PairedImageDatset'", 'PairedImageDataset'),
        ('train.pixel_opt.type', 'L1', "train.pixel_opt.type: 'L1' is not known", 'L1Loss'),
        ('train.optim_g.type', 'adam', "train.optim_g.type: 'adam' is not known", 'Adam'),
        ('train.scheduler.type', 'CosineAnnealingLR', "'CosineAnnealingLR' is not known", 'CosineAnnealingRestartLR'),
        ('val.metrics.psnr.type', 'psnr', "val.metrics.psnr.type: 'psnr' is not known", 'calculate_psnr'),
    ],
)
def test_misspelt_is_refused_with_the_nearest_name(
    refused: Callable[..., list[str]], key: str, value: Any, culprit: str, near: str
) -> None:
    lines = refused(changed(**{key: value}))
    assert any(line.startswith('x.yml: ') and culprit in line and f'(did you mean {near}?)' in line for line in lines)


@pytest.mark.parametrize(
    'key, value, culprit',
    [
        *[
            (key, DELETE, f'x.yml: {key}: missing')
            for key in (
                'name',
                'model_type',
                'scale',
                'num_gpu',
                'manual_seed',
                'datasets',
                'network_g',
                'path',
                'train',
                'logger',
                'datasets.train',
                'datasets.val.name',
                'datasets.val.type',
                'datasets.val.dataroot_lq',
                'datasets.train.gt_size',
                'datasets.train.batch_size_per_gpu',
                'datasets.train.num_worker_per_gpu',
                'network_g.type',
                'train.total_iter',
                'train.optim_g',
                'train.optim_g.lr',
                'train.scheduler',
                'train.scheduler.periods',
                'val.val_freq',
                'val.save_img',
                'val.metrics.psnr.crop_border',
                'logger.print_freq',
                'logger.save_checkpoint_freq',
                'logger.use_tb_logger',
            )
        ],
        ('train.pixel_opt', DELETE, 'train: a loss is missing'),
        ('name', 'a/../b', 'name: must be a plain folder name'),
        ('name', 7, 'name: must be a string, got 7'),
        ('scale', 'four', "scale: must be a whole number from 1, got 'four'"),
        ('num_gpu', 'all', 'num_gpu: must be auto or a whole number'),
        ('network_g.num_feat', 'wide', "network_g.num_feat: must be a number, got 'wide'"),
        ('network_g.k', 5, 'network_g: IAFMNet cannot be built: k must be in (0, 1], got 5'),
        ('network_g.scale', 2, 'network_g.scale: 2, but the scale of the option file is 4'),
        ('datasets.train.gt_size', 34, 'datasets.train.gt_size: 34 is no multiple of the scale, 4'),
        ('datasets.train.gt_size', '32px', "datasets.train.gt_size: must be a whole number from 1, got '32px'"),
        ('datasets.train.prefetch_mode', 'gpu', 'datasets.train.prefetch_mode: must be ~, cpu or cuda'),
        ('datasets.val.persistent_workers', True, 'datasets.val.persistent_workers: there are no data workers to keep'),
        ('datasets.val.io_backend.type', 'disc', 'datasets.val.io_backend.type: must be disk, lmdb'),
        ('datasets.extra', {}, 'datasets.extra: unknown phase'),
        ('train.autocast', 'fp8', "train.autocast: must be bf16 or fp16, got 'fp8'"),
        ('train.max_bad_steps', 0, 'train.max_bad_steps: must be a whole number from 1'),
        ('logger.keep_last', 'all', 'logger.keep_last: must be a whole number from 1'),
        (
            'datasets.train',
            {'type': 'PairedSRDataset', 'max_unreadable': 5},
            'max_unreadable: must be a number from 0 to 1',
        ),
        ('train.total_iter', 0, 'train.total_iter: must be a whole number from 1, got 0'),
        ('train.total_iter', 21, 'train.scheduler.periods: they end at iteration 20, before total_iter, 21'),
        ('train.scheduler.restart_weights', [1, 1], 'periods and restart_weights differ in length: 1, 2'),
        ('train.optim_g.lr', 'fast', "train.optim_g.lr: must be a number, got 'fast'"),
        ('network_g.gdn', 'no', "network_g.gdn: must be true or false, got 'no'"),
        ('network_g.type', ['IAFMNet'], "network_g.type: ['IAFMNet'] is not known"),
        ('path.pretrain_network_g', 5, 'path.pretrain_network_g: must be a string, got 5'),
        ('val.val_freq', -5, 'val.val_freq: must be a whole number from 1, got -5'),
        ('train.optim_g.lr', -1, 'train.optim_g: Adam cannot be built: Invalid learning rate: -1'),
        (
            'train.pixel_opt.reduction',
            'avg',
            'train.pixel_opt: L1Loss cannot be built: Unsupported reduction mode: avg',
        ),
        ('train.scheduler.periods', [20, 'x'], 'train.scheduler.periods: must be a list of numbers'),
        ('val.metrics.psnr.crop_border', 'x4', 'val.metrics.psnr.crop_border: must be a whole number from 0'),
        ('val.metrics.psnr.test_y_channel', 'yes', 'val.metrics.psnr.test_y_channel: must be true or false'),
        ('val.metrics.psnr.better', 'more', 'val.metrics.psnr.better: must be higher or lower'),
        ('model_type', 'SRModel', 'train.ie_opt: SRModel does not use it, IAFMNetModel does'),
        ('model_type', 'ESRGANModel', 'train.gan_opt: missing'),
        (
            'network_g',
            {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 4},
            'train.ie_opt: needs a density, EDSR gives none',
        ),
        ('network_g', {'type': 'EDSR', 'num_in_ch': 3, 'upscale': 4}, 'network_g.num_out_ch: missing, EDSR needs it'),
        ('network_g', {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2}, 'network_g.upscale: 2, but'),
        ('name', 'a\0b', 'name: must be a plain folder name'),
        ('name', 'x' * 300, 'name: must be a plain folder name'),
        ('datasets.val.name', 'x' * 300, 'datasets.val.name: must be a plain folder name'),
        *[
            ('datasets.val.filename_tmpl', template, 'filename_tmpl: ')
            for template in ('{0[a]}', '{x}', '{', '{:>999999999}', 'x', '{}{}')
        ],
        ('manual_seed', 2**70, 'manual_seed: must be a whole number from 0 to 2147483647'),
        ('train.ema_decay', 2.0, 'train.ema_decay: must be a number from 0 to 1'),
    ],
)
def test_wrong_value_is_refused(refused: Callable[..., list[str]], key: str, value: Any, culprit: str) -> None:
    assert any(culprit in line for line in refused(changed(**{key: value})))


@pytest.mark.parametrize('scale', [5, 7, 16])
def test_scale_of_no_network_is_refused(refused: Callable[..., list[str]], scale: int) -> None:
    lines = refused(changed(**{'scale': scale, 'network_g.scale': scale}))
    assert f'x.yml: scale: must be 1, 2, 3, 4 or 8, got {scale}' in lines


def test_all_faults_are_listed_at_once(refused: Callable[..., list[str]]) -> None:
    lines = refused(changed(**{'scal': 4, 'train.optimg': {}, 'datasets.val.dataroot_gt': 'nowhere'}))
    assert len(lines) == 3
    assert all(any(name in line for line in lines) for name in ('scal', 'optimg', 'nowhere'))


@pytest.mark.parametrize(
    'text, culprit',
    [
        ('name: [run', 'x.yml, line 1: not valid YAML'),
        ('name: run\nname: other\n', 'x.yml, line 2: not valid YAML: name is given twice'),
        ('- a\n- b\n', 'x.yml: not an option file'),
        ('', 'x.yml: not an option file'),
        ("name: !!python/object/apply:os.mkdir ['hacked']\n", 'x.yml, line 1: not valid YAML'),
    ],
)
def test_file_that_is_no_mapping_is_refused(refused: Callable[..., list[str]], text: str, culprit: str) -> None:
    (line,) = refused(text)
    assert line.startswith(culprit)


def test_missing_and_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='nowhere.yml: No such file'):
        load_options(tmp_path / 'nowhere.yml')
    (tmp_path / 'binary.yml').write_bytes(b'\xff\xfe\x00name')
    with pytest.raises(UserError, match='binary.yml: not a text file'):
        load_options(tmp_path / 'binary.yml')


# -- numbers, --force_yml, batch sizes --------------------------------------------------------------------------------
def test_numbers_in_scientific_notation_are_numbers(parse: Callable[..., Any]) -> None:
    text = yaml.safe_dump(train_options()).replace('0.001', '1e-3').replace('total_iter: 20', 'total_iter: 2e1')
    opt = parse(text, '--force_yml', 'train:optim_g:weight_decay=1e-4', 'train:warmup_iter=-1')
    assert opt['train']['optim_g']['lr'] == 1e-3
    assert opt['train']['optim_g']['weight_decay'] == 1e-4
    assert opt['train']['warmup_iter'] == -1
    assert opt['train']['total_iter'] == 20


@pytest.mark.parametrize(
    'entry, culprit',
    [
        ('trian:total_iter=5', '--force_yml trian:total_iter=5: no section trian (did you mean train?)'),
        ('train:totl_iter=5', '--force_yml: train.totl_iter: unknown key (did you mean total_iter?)'),
        ('train:total_iter=soon', "--force_yml: train.total_iter: must be a whole number from 1, got 'soon'"),
        ('train:total_iter', '--force_yml train:total_iter: must be section:key=value'),
        ('train"]=1;x["total_iter=5', 'must be section:key=value'),
    ],
)
def test_force_yml_is_checked(refused: Callable[..., list[str]], entry: str, culprit: str) -> None:
    (line,) = refused(train_options(), '--force_yml', entry)
    assert culprit in line


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_total_batch_is_kept_over_processes(processes: int) -> None:
    opt = changed(**{'datasets.train.total_batch_size': 64, 'datasets.train.batch_size_per_gpu': DELETE})
    assert check_options(opt, True, '', processes, distributed=True, files=False).faults == []


def test_total_batch_sets_the_batch_of_a_gpu(parse: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    opt = parse(changed(**{'datasets.train.total_batch_size': 2}))
    assert opt['datasets']['train']['batch_size_per_gpu'] == 2
    assert 'total_batch_size: 2 replaces batch_size_per_gpu 4' in capsys.readouterr().err


def test_total_batch_that_does_not_divide_names_its_neighbours() -> None:
    opt = changed(**{'datasets.train.total_batch_size': 64})
    (fault,) = check_options(opt, True, '', 3, distributed=True, files=False).faults
    assert 'total_batch_size: 64 is no multiple of 3' in fault and '63, 66' in fault


def test_launcher_without_its_environment_is_refused(
    refused: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    (line,) = refused(train_options(), '--launcher', 'pytorch')
    assert 'WORLD_SIZE' in line and 'torchrun' in line


def test_too_few_pictures_for_a_batch_are_refused(refused: Callable[..., list[str]], parse: Callable[..., Any]) -> None:
    (line,) = refused(changed(**{'datasets.train.batch_size_per_gpu': 17}))
    assert 'datasets.train.dataset_enlarge_ratio: 1: 8 pictures do not fill a batch of 17; use at least 3' in line
    parse(changed(**{'datasets.train.batch_size_per_gpu': 17, 'datasets.train.dataset_enlarge_ratio': 3}))


@pytest.mark.parametrize(
    ('name', 'culprit'),
    [
        ('V', "datasets.val_2.name: 'V' is also the name of datasets.val"),
        ('a/b', 'datasets.val_2.name: must be a plain folder'),
    ],
)
@pytest.mark.parametrize('is_train', [True, False])
def test_validation_sets_of_one_name_are_refused(
    refused: Callable[..., list[str]], name: str, culprit: str, is_train: bool
) -> None:
    """Their records and pictures would be mixed."""
    opt = train_options()
    opt['datasets']['val_2'] = opt['datasets']['val'] | {'name': name}
    if not is_train:
        opt['datasets'] |= {'test': opt['datasets'].pop('train') | {'name': 'T'}}
        for key in ('gt_size', 'use_hflip', 'use_rot', 'batch_size_per_gpu', 'num_worker_per_gpu'):
            del opt['datasets']['test'][key]
    (line,) = refused(opt, is_train=is_train)
    assert culprit in line


def test_two_pictures_whose_results_have_one_name_are_refused(
    refused: Callable[..., list[str]], parse: Callable[..., Any], root: Path, capsys: pytest.CaptureFixture
) -> None:
    for side, sizes in (('gt', (32, 32)), ('lq', (8, 8))):
        write_pictures(root / f'data/two_{side}', {'a.png': sizes, 'a.bmp': sizes})
    opt = changed(**{'datasets.val.dataroot_gt': 'data/two_gt', 'datasets.val.dataroot_lq': 'data/two_lq'})
    del opt['datasets']['val']['filename_tmpl']
    assert parse(opt)
    capsys.readouterr()
    (line,) = refused(opt | {'val': opt['val'] | {'save_img': True}})
    assert 'datasets.val: two pictures are called a: val.save_img would keep only one of them' in line


# -- classes of others ------------------------------------------------------------------------------------------------
def test_unknown_keyword_of_a_foreign_class_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    class ForeignLoss(torch.nn.Module):
        def __init__(self, weight: float = 1.0) -> None:
            super().__init__()

    monkeypatch.setitem(LOSS_REGISTRY._obj_map, 'ForeignLoss', ForeignLoss)
    report = check_options(changed(**{'train.pixel_opt': {'type': 'ForeignLoss', 'wieght': 1}}), True, '', files=False)
    assert report.faults == []
    assert report.warnings == ['train.pixel_opt.wieght: unknown key (did you mean weight?)']


def test_dataset_class_may_declare_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnDataset:
        OPTION_KEYS = ('dataroot_gt', 'gt_size', 'cache_size', 'use_hflip', 'use_rot')

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, 'OwnDataset', OwnDataset)
    opt = changed(
        **{'datasets.train.type': 'OwnDataset', 'datasets.train.dataroot_lq': DELETE, 'datasets.train.cache_siz': 1}
    )
    assert check_options(opt, True, '', files=False).faults == [
        'datasets.train.cache_siz: unknown key (did you mean cache_size?)'
    ]


def test_arch_that_takes_any_keyword_takes_any(monkeypatch: pytest.MonkeyPatch) -> None:
    class OpenNet(torch.nn.Module):
        def __init__(self, scale: int = 4, **kwargs: Any) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor, return_density: bool = False) -> torch.Tensor:
            return x

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'OpenNet', OpenNet)
    opt = changed(network_g={'type': 'OpenNet', 'anything': 1})
    assert check_options(opt, True, '', files=False).faults == []


# -- data -------------------------------------------------------------------------------------------------------------
def _remove(name: str) -> Callable[[Path], None]:
    return lambda data: (data / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda data: (data / name).write_bytes(content)


def _picture(name: str, height: int, width: int) -> Callable[[Path], None]:
    return lambda data: Image.new('RGB', (width, height)).save(data / name)


def _cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda data: os.truncate(data / name, int(share * (data / name).stat().st_size))


def _same(name: str, other: str) -> Callable[[Path], None]:
    return lambda data: shutil.rmtree(data / other) or (data / other).symlink_to(data / name)


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda data: (data / name).write_text((data / name).read_text().replace(old, new))


def _other_key(name: str, old: str, new: str) -> Callable[[Path], None]:
    def rename(data: Path) -> None:
        with lmdb.open(str(data / name)) as env, env.begin(write=True) as transaction:
            transaction.put(new.encode(), transaction.pop(old.encode()))
        _replace(f'{name}/meta_info.txt', f'{old}.png', f'{new}.png')(data)

    return rename


def _into_subfolder(name: str) -> Callable[[Path], None]:
    def move(data: Path) -> None:
        (data / name).rename(data / 'sub')
        (data / name).mkdir()
        (data / 'sub').rename(data / name / 'sub')

    return move


@pytest.mark.parametrize(
    'damage, culprits',
    [
        (_remove('gt.lmdb/data.mdb'), ['train.dataroot_gt', 'gt.lmdb', 'data.mdb is missing']),
        (_remove('lq.lmdb/meta_info.txt'), ['train.dataroot_lq', 'lq.lmdb', 'meta_info.txt is missing']),
        (_write('lq.lmdb/meta_info.txt', b''), ['train.dataroot_lq', 'lq.lmdb', 'lists no picture']),
        (_replace('lq.lmdb/meta_info.txt', '03.png (', '03.png '), ['lq.lmdb', 'line 4', 'not `name.png']),
        (
            _replace('lq.lmdb/meta_info.txt', '03.png', '13.png'),
            ['lq.lmdb', 'not in data.mdb, but in meta_info.txt: 13'],
        ),
        (_other_key('lq.lmdb', '03', '03.v2'), ['lq.lmdb', '03.v2: a key with a dot']),
        (_other_key('lq.lmdb', '03', '02.v2'), ['lq.lmdb', '02.v2: a key with a dot']),
        (
            _other_key('lq.lmdb', '03', '03x4'),
            ['8 keys', 'only in one of them: 03, 03x4; a pair must have the same key in both'],
        ),
        (_replace('lq.lmdb/meta_info.txt', '07.png (16,12,3) 1\n', ''), ['lq.lmdb', '8 pictures', '7 in meta_info']),
        (
            _replace('lq.lmdb/meta_info.txt', '(16,12,3)', '(16,16,3)'),
            ['HR must be 4 x LR', '48x64', '16x16', '7 more'],
        ),
        (_same('gt.lmdb', 'lq.lmdb'), ['train.dataroot_gt and dataroot_lq', 'the same LMDB']),
        (_cut('gt.lmdb/data.mdb', 0.5), ['train.dataroot_gt', 'gt.lmdb', 'incomplete']),
        (_write('gt.lmdb/data.mdb', b'no database'), ['train.dataroot_gt', 'gt.lmdb', 'cannot be opened']),
        (_remove('val_lq/bx4.png'), ['val.dataroot_lq: 1 pictures, dataroot_gt has 2']),
        (lambda data: (data / 'val_lq/bx4.png').rename(data / 'val_lq/b.png'), ['val.dataroot_lq', 'bx4.png: no such']),
        (
            lambda data: (data / 'val_lq/bx4.png').rename(data / 'val_lq/bx4.jpg'),
            [
                'val.dataroot_lq',
                'bx4.png: no such picture, but bx4.jpg; the pictures of a pair must have the same suffix',
            ],
        ),
        (_into_subfolder('val_gt'), ['val_gt: no pictures in this folder; those of sub-folders, such as sub, are not']),
        (_write('val_gt/b.png', b''), ['val.dataroot_gt', 'b.png: not a picture']),
        (_cut('val_gt/b.png', 0.6), ['val.dataroot_gt', 'b.png: not a picture']),
        (_picture('val_gt/b.png', 40, 52), ['HR must be 4 x LR', 'b.png has HR 52x40, LR 12x10']),
        (_picture('val_gt/b.png', 40, 47), ['HR must be 4 x LR', 'b.png has HR 47x40, LR 12x10']),
    ],
)
def test_damaged_data_is_named(
    refused: Callable[..., list[str]], root: Path, damage: Callable[[Path], Any], culprits: list[str]
) -> None:
    damage(root / 'data')
    (line,) = refused(train_options())
    assert all(culprit in line for culprit in culprits), line


@pytest.mark.parametrize(
    'keys, culprit',
    [
        ({'datasets.val.dataroot_gt': 'data/none'}, 'datasets.val.dataroot_gt: {root}/data/none: no such folder'),
        (
            {'datasets.val.dataroot_gt': 'datasets/demo/val/none'},
            'datasets.val.dataroot_gt: {root}/datasets/demo/val/none: no such folder; iafmsr demo --train, ',
        ),
        ({'datasets.val.dataroot_gt': 'empty'}, 'datasets.val.dataroot_gt: {root}/empty: no pictures'),
        ({'datasets.val.filename_tmpl': '{x}'}, "datasets.val.filename_tmpl: '{{x}}' must be a template"),
        ({'datasets.train.io_backend.type': 'disk'}, 'data/gt.lmdb: an LMDB: set io_backend'),
        (
            {'datasets.train.gt_size': 52},
            'datasets.train.gt_size: patches of 52 do not fit into 00, 48x64 (and 7 more)',
        ),
        ({'datasets.val.meta_info_file': 'none.txt'}, 'datasets.val.meta_info_file: {root}/none.txt: cannot be read'),
        ({'datasets.val.meta_info_file': 'up.txt'}, 'up.txt: ../precious.png leads out of the data folder'),
        ({'datasets.val.meta_info_file': 'absolute.txt'}, 'absolute.txt: /etc/passwd leads out of the data folder'),
    ],
)
def test_wrong_data_option_is_refused(
    refused: Callable[..., list[str]], root: Path, keys: dict[str, Any], culprit: str
) -> None:
    (root / 'empty').mkdir()
    (root / 'up.txt').write_text('a.png (32,35,3)\n../precious.png (1,1,3)\n')
    (root / 'absolute.txt').write_text('/etc/passwd\n')
    lines = refused(changed(**keys))
    assert any(culprit.format(root=root) in line for line in lines), lines


def test_listing_and_relative_paths_are_taken(parse: Callable[..., Any], root: Path) -> None:
    (root / 'list.txt').write_text('a.png (32,35,3)\n')
    assert parse(changed(**{'datasets.val.meta_info_file': 'list.txt'}))['datasets']['val']['meta_info_file'] == str(
        root / 'list.txt'
    )


def test_test_options_may_lack_ground_truth(parse: Callable[..., Any]) -> None:
    opt = {key: value for key, value in train_options().items() if key not in ('train', 'logger')}
    opt['datasets'] = {
        'test_1': opt['datasets']['val'],
        'test_2': {
            'name': 'LR',
            'type': 'SingleImageDataset',
            'dataroot_lq': 'data/val_lq',
            'io_backend': {'type': 'disk'},
        },
    }
    assert parse(opt, is_train=False)['datasets']['test_2']['phase'] == 'test'


# -- checkpoints ------------------------------------------------------------------------------------------------------
def test_checkpoint_that_fits_is_taken(parse: Callable[..., Any], root: Path) -> None:
    torch.save({'params': IAFMNet(scale=4, **TINY).state_dict()}, root / 'net.pth')
    opt = parse(changed(**{'path.pretrain_network_g': 'net.pth', 'path.param_key_g': 'params_ema'}))
    assert opt['path']['pretrain_network_g'] == str(root / 'net.pth')


def test_checkpoint_of_another_scale_names_the_keys(
    refused: Callable[..., list[str]], parse: Callable[..., Any], root: Path
) -> None:
    torch.save({'params': IAFMNet(scale=2, **TINY).state_dict()}, root / 'x2.pth')
    opt = changed(**{'path.pretrain_network_g': 'x2.pth'})
    (line,) = refused(opt)
    assert 'path.pretrain_network_g' in line and 'x2.pth does not fit IAFMNet: 2 of another shape' in line
    assert 'tail.weight (12, 8, 3, 3) instead of (48, 8, 3, 3)' in line
    set_key(opt, 'path.strict_load_g', False)
    parse(opt)


def test_checkpoint_of_another_arch_names_the_keys(refused: Callable[..., list[str]], root: Path) -> None:
    torch.save({'params': EDSR(3, 3, num_feat=8, num_block=1).state_dict()}, root / 'edsr.pth')
    (line,) = refused(changed(**{'path.pretrain_network_g': 'edsr.pth'}))
    assert 'missing: ' in line and 'head.weight' not in line.split('unexpected')[1]
    assert 'unexpected: body.0.conv1.bias' in line


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ('hacked',)


@pytest.mark.parametrize(
    'content, culprit',
    [
        (None, 'no such file'),
        (b'not a checkpoint', 'not a file of weights that loads safely'),
        (pickle.dumps({'params': _Malicious()}), 'not a file of weights that loads safely'),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(
    refused: Callable[..., list[str]], root: Path, content: bytes | None, culprit: str
) -> None:
    if content is not None:
        (root / 'net.pth').write_bytes(content)
    (line,) = refused(changed(**{'path.pretrain_network_g': 'net.pth'}))
    assert f'path.pretrain_network_g: {root}/net.pth: {culprit}' in line


def test_state_without_its_weights_is_refused(refused: Callable[..., list[str]], root: Path) -> None:
    torch.save({'iter': 10, 'epoch': 0, 'optimizers': [], 'schedulers': []}, root / '10.state')
    (line,) = refused(changed(**{'path.resume_state': '10.state'}))
    assert f'the weights of its iteration 10 are missing: {root}/experiments/run/models/net_g_10.pth' in line


def test_option_file_within_its_own_run_is_refused(root: Path) -> None:
    file = root / 'experiments/run/x.yml'
    file.write_text(yaml.safe_dump(train_options()))
    with pytest.raises(UserError, match='lies in the folder of its own run'):
        parse_options(flags('-opt', str(file)), str(root), is_train=True)
    assert file.exists()


def test_a_file_that_starts_from_another(tmp_path: Path) -> None:
    (tmp_path / 'sub').mkdir()
    base = {'name': 'base', 'scale': 4, 'network_g': {'type': 'A', 'width': 40}, 'train': {'ie_opt': {'type': 'L'}}}
    (tmp_path / 'base.yml').write_text(yaml.safe_dump(base))
    (tmp_path / 'sub/x.yml').write_text(
        'base: ../base.yml\nname: x\nnetwork_g: {width: 32, k: 1e-1}\ntrain: {ie_opt: ~}\n'
    )
    (tmp_path / 'y.yml').write_text('base: sub/x.yml\nname: y\nnetwork_g: {type: B, depth: 2}\n')
    x = {'name': 'x', 'scale': 4, 'network_g': {'type': 'A', 'width': 32, 'k': 0.1}, 'train': {}}
    assert load_options(tmp_path / 'sub/x.yml') == x  # ~ took a section out
    # another type: the base's keywords are another class's
    assert load_options(tmp_path / 'y.yml') == {**x, 'name': 'y', 'network_g': {'type': 'B', 'depth': 2}}

    (tmp_path / 'run').mkdir()
    keep_options(str(tmp_path / 'y.yml'), str(tmp_path / 'run'))
    assert load_options(tmp_path / 'run/y.yml') == load_options(tmp_path / 'y.yml')  # whole, without its bases


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / 'x.yml').write_text('base: nowhere.yml\n')
    with pytest.raises(UserError, match='x.yml: base: .*nowhere.yml: No such file'):
        load_options(tmp_path / 'x.yml')
    (tmp_path / 'circle.yml').write_text('base: circle.yml\n')
    with pytest.raises(UserError, match='circle.yml'):
        load_options(tmp_path / 'circle.yml')


# -- any option file at all (1,000 of them under scripts/test.sh --full) ----------------------------------------------
def keys_of(opt: dict[str, Any], where: str = '') -> list[str]:
    return [
        path
        for key, value in opt.items()
        for path in [f'{where}{key}', *(keys_of(value, f'{where}{key}.') if isinstance(value, dict) else [])]
    ]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(['IAFMNet', 'SRModel', 'EDSR', 'lmdb', 'auto', 'data/gt.lmdb', '../..', '1e-4']),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=8), SCALARS, max_size=3), st.just(DELETE)
)
CHANGES = st.lists(st.tuples(st.sampled_from(keys_of(train_options())), VALUES), min_size=1, max_size=3)


def known_keys() -> list[str]:
    """Every key of the sections that a training can have, the data sets' in `train` and `val`."""
    sections: list[tuple[str, Any]] = [('', Options)]
    for name in Options.model_fields:
        if name == 'datasets':
            sections += [(f'{name}.train.', cls) for cls in DATASETS.values()] + [(f'{name}.val.', OtherDataset)]
        elif cls := section_class(name, Options):
            sections += [(f'{path}.', inner) for path, inner in sections_below(name, cls) if '*' not in path]
    known = [f'{path}{key}' for path, cls in sections for key in cls.model_fields]
    return list(dict.fromkeys([*keys_of(train_options()), *known]))


ODD = ([], [[]], [1, 'a'], {}, {'type': []}, {'a': {}}, '', '\n', True, -1, 10**30, float('nan'), -float('inf'))


@pytest.mark.parametrize('part', range(8) if FULL else [0])
def test_an_odd_value_of_any_key_is_taken_or_refused(root: Path, part: int) -> None:
    """All keys, one at a time; without --full each with a value or two, and the data sets are not looked at."""
    for number, key in enumerate(known_keys()):
        for value in ODD[(number + part) % 8 :: 8]:
            opt = changed(**{key: value})
            resolve_paths(opt, root)
            try:
                check_options(opt, True, str(root), files=FULL)
            except Exception as error:
                raise AssertionError(f'{key}: {value!r}') from error


def test_a_type_that_is_no_name_and_a_time_beyond_all_clocks(refused: Callable[..., list[str]]) -> None:
    for value in ([], {}):
        (line,) = refused(changed(**{'train.optim_g.type': value}))
        assert line == f'x.yml: train.optim_g.type: {value} is not known'
    (line,) = refused(changed(**{'train.timeout': 10**10}))
    assert line == 'x.yml: train.timeout: must be a whole number from 1 to 1000000000, got 10000000000'


@settings(
    max_examples=1000 if FULL else 40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=CHANGES)
def test_any_options_are_taken_or_refused_in_our_lines(
    parse: Callable[..., Any], capsys: pytest.CaptureFixture[str], root: Path, changes: list[tuple[str, Any]]
) -> None:
    opt = train_options()
    for key, value in changes:
        try:
            set_key(opt, key, value)
        except (KeyError, TypeError, AttributeError):  # an earlier change has taken its section away
            continue
    before = sorted(root.glob('experiments/**'))
    try:
        parse(opt)
    except SystemExit as error:
        lines = capsys.readouterr().err.splitlines()
        assert error.code == 2
        assert any(line.startswith('iafmsr: error: x.yml: ') for line in lines)
        assert all(line.startswith(('iafmsr: error: x.yml', 'iafmsr: warning: x.yml')) for line in lines)
    assert sorted(root.glob('experiments/**')) == before


@settings(max_examples=1000 if FULL else 40, deadline=None, database=None, derandomize=True)
@given(position=st.floats(0, 1), text=st.text(max_size=6), cut=st.integers(0, 40))
def test_any_text_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, position: float, text: str, cut: int
) -> None:
    file = tmp_path_factory.getbasetemp() / 'any.yml'
    whole = yaml.safe_dump(train_options())
    start = int(position * len(whole))
    file.write_text(whole[:start] + text + whole[start + cut :], encoding='utf-8', errors='replace')
    try:
        assert isinstance(load_options(file), dict)
    except UserError as error:
        assert str(error).startswith(str(file)) and '\n' not in str(error)
