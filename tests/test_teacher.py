"""Learning from a teacher: its prepared pictures, its loss and schedule, and what does not fit."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import built, finish, options, start, train, write_data

from iafmsr.bridge.basicsr_api import build_dataset
from iafmsr.cli import main
from iafmsr.data.in_memory import TrainSetInMemory
from iafmsr.data.sampling import EpochSampler
from iafmsr.errors import UserError
from iafmsr.files.reading import read_picture
from iafmsr.models.teacher import Teacher
from iafmsr.nets.loading import load_net
from iafmsr.nets.tiles import Enlarger
from iafmsr.ops.resize import imresize
from iafmsr.tools.prepare.forms import SubImages
from iafmsr.tools.prepare.preparation import prepare
from iafmsr.tools.prepare.stores import LmdbStore, encode_png
from iafmsr.tools.prepare.teacher_pictures import add_teacher
from iafmsr.training.checks.check import check_options
from iafmsr.training.checks.data_files import check_dataset

CPU = torch.device('cpu')
FORM = SubImages(crop_size=48, step=24, min_size=48)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A repository root with the package, a set of sub-images at x2 and x4, and weights of a teacher at each scale."""
    from iafmsr.archs import SMFANet

    root = tmp_path_factory.mktemp('root')
    (root / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(root)
    (root / 'pictures').mkdir()
    for i in range(4):
        coarse = np.random.default_rng(i).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(coarse).resize((101, 77), Image.Resampling.BICUBIC).save(root / f'pictures/{i}.png')
    for scale in (2, 4):
        torch.manual_seed(scale)
        net = SMFANet(dim=8, n_blocks=1, scale=scale)
        torch.save({'params': net.state_dict()}, root / f'smfanet_x{scale}.pth')
    prepare([root / 'pictures'], root / 'set', [2, 4], FORM)
    add_teacher([root / 'pictures'], root / 'set', FORM, str(root / 'smfanet_x4.pth'))
    # what a teacher would make that has been trained: HR, but softer
    store = LmdbStore(root / 'set/soft.lmdb')
    store.add(
        [
            (key, encode_png(imresize(imresize(decoded(png, root), Fraction(1, 4)), 4)))
            for key, png in entries(root / 'set/HR_sub.lmdb').items()
        ]
    )
    store.finish()
    return root


def teacher_lmdb(root: Path) -> Path:
    (found,) = (path for path in (root / 'set').glob('SR_smfanet_x4_*_X4_sub.lmdb') if 'ensemble' not in path.name)
    return found


def dataset(root: Path, **changes: Any) -> dict[str, Any]:
    return (
        options('x')['datasets']['train']
        | {
            'phase': 'train',
            'scale': 4,
            'dataroot_gt': str(root / 'set/HR_sub.lmdb'),
            'dataroot_lq': str(root / 'set/LR_bicubic_X4_sub.lmdb'),
            'dataroot_teacher': str(root / 'set/soft.lmdb'),
        }
        | changes
    )


def run_options(root: Path, name: str, **changes: Any) -> dict[str, Any]:
    opt = options(name, train__teacher={'weight': 0.5, 'until': 16}, **changes)
    data = dataset(root)
    del data['phase'], data['scale']
    opt['datasets']['train'] = data | {
        key: value for key, value in opt['datasets']['train'].items() if key not in data or key == 'in_memory'
    }
    return opt


def entries(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return {key.decode(): bytes(value) for key, value in transaction.cursor()}


def decoded(png: bytes, folder: Path) -> torch.Tensor:
    (folder / 'x.png').write_bytes(png)
    return read_picture(folder / 'x.png')


@pytest.mark.parametrize('ensemble', [False, True])
def test_the_pictures_are_the_teachers_of_the_whole_lr_cut_as_hr_is(root: Path, tmp_path: Path, ensemble: bool) -> None:
    from iafmsr.ops.resize import at_scale

    path = add_teacher([root / 'pictures'], root / 'set', FORM, str(root / 'smfanet_x4.pth'), ensemble)
    assert ('_ensemble_' in path.name) == ensemble
    found, hr = entries(path), entries(root / 'set/HR_sub.lmdb')
    assert found.keys() == hr.keys()
    lq = at_scale(read_picture(root / 'pictures/2.png'), 4)
    whole = Enlarger(load_net(root / 'smfanet_x4.pth'), CPU)(lq.permute(1, 2, 0).contiguous().numpy(), 0, ensemble)
    for number, (top, left, height, width) in enumerate(FORM.boxes(77, 101), 1):
        piece = decoded(found[f'2_s{number:03d}'], tmp_path).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(piece, whole[top : top + height, left : left + width])
    lines = (path / 'meta_info.txt').read_text()
    assert lines == (root / 'set/HR_sub.lmdb/meta_info.txt').read_text()


def test_a_second_call_does_nothing_and_an_interrupted_one_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / 'pictures', tmp_path / 'pictures')
    prepare([tmp_path / 'pictures'], tmp_path / 'set', [4], FORM)
    calls = []
    stock = Enlarger.__call__

    def counted(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return stock(self, *args)

    monkeypatch.setattr(Enlarger, '__call__', counted)
    with pytest.raises(KeyboardInterrupt):
        add_teacher([tmp_path / 'pictures'], tmp_path / 'set', FORM, str(root / 'smfanet_x4.pth'))
    assert not list((tmp_path / 'set').glob('SR_*.lmdb'))
    path = add_teacher([tmp_path / 'pictures'], tmp_path / 'set', FORM, str(root / 'smfanet_x4.pth'))
    assert len(calls) == 5 and entries(path) == entries(teacher_lmdb(root))
    add_teacher([tmp_path / 'pictures'], tmp_path / 'set', FORM, str(root / 'smfanet_x4.pth'))
    assert len(calls) == 5


def test_a_teacher_without_its_set_is_refused(root: Path, tmp_path: Path) -> None:
    prepare([root / 'pictures'], tmp_path / 'set', [2], FORM)
    with pytest.raises(UserError, match='no prepared set of scale 4'):
        add_teacher([root / 'pictures'], tmp_path / 'set', FORM, str(root / 'smfanet_x4.pth'))
    with pytest.raises(UserError, match='was made from other pictures'):
        (tmp_path / 'other').mkdir()
        shutil.copy(root / 'pictures/1.png', tmp_path / 'other/9.png')
        add_teacher([tmp_path / 'other'], root / 'set', FORM, str(root / 'smfanet_x4.pth'))


def test_the_command_prepares_and_teaches(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ['--input', str(root / 'pictures'), '--output', str(tmp_path / 'set')]
    sizes = ['--scale', '4', '--crop-size', '48', '--step', '24', '--min-size', '48']
    assert main(['prepare', *folders, *sizes, '--teacher', str(root / 'smfanet_x4.pth')]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert entries(path) == entries(teacher_lmdb(root))


@pytest.mark.parametrize('in_memory', [False, True])
def test_the_teachers_patch_lies_and_is_turned_as_hr(root: Path, tmp_path: Path, in_memory: bool) -> None:
    """A teacher whose pictures are HR inverted: each patch is the inverse of gt."""
    copy = tmp_path / 'inverse.lmdb'
    shutil.copytree(root / 'set/HR_sub.lmdb', copy)
    with lmdb.open(str(copy), map_size=1 << 26) as env, env.begin(write=True) as transaction:
        for key, png in entries(root / 'set/HR_sub.lmdb').items():
            transaction.put(key.encode(), encode_png(255 - decoded(png, tmp_path)))
    pairs = build_dataset(dataset(root, dataroot_teacher=str(copy)))
    draws = list(EpochSampler(pairs, ratio=2, seed=4))[:30]
    samples = (
        TrainSetInMemory(pairs, CPU, CPU).batch(draws)
        if in_memory
        else torch.utils.data.default_collate([pairs[draw] for draw in draws])
    )
    assert samples['teacher'].shape == samples['gt'].shape == (30, 3, 32, 32)
    assert (samples['teacher'] + samples['gt'] - 1).abs().max() < 1e-6


def test_augmented_patches_have_their_teacher(root: Path) -> None:
    pairs = build_dataset(dataset(root, colour_augment=0.5, synthetic=0.3))
    batch = TrainSetInMemory(pairs, CPU, CPU).batch(draws := list(EpochSampler(pairs, ratio=4))[:60])
    expected = [pairs[draw] for draw in draws]
    for key in ('lq', 'gt', 'teacher'):
        assert torch.equal(batch[key], torch.stack([sample[key] for sample in expected]))
    same = [torch.equal(gt, taught) for gt, taught in zip(batch['gt'], batch['teacher'], strict=True)]
    assert 8 < sum(same) < 30  # the synthetic ones, 18 on average


def test_the_loss_is_the_weighted_distance_and_ends() -> None:
    teacher = Teacher(weight=0.5, until=100)
    assert [teacher.weight_at(i) for i in (50, 100, 101)] == [0.25, 0, 0]
    assert Teacher(weight=2).weight_at(10**6) == 2
    sr, picture = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert teacher.loss(sr, picture, 50) == 0.125


@pytest.mark.parametrize('precision', [None, 'bf16'])
def test_a_network_teaches_in_evaluation_mode_without_gradients(
    root: Path, tmp_path: Path, precision: str | None, bf16_everywhere: None
) -> None:
    weights = root / 'smfanet_x4.pth'
    model = built(tmp_path, train__teacher={'weight': 0.5, 'weights': str(weights)}, train__autocast=precision)
    batch = {'lq': torch.rand(2, 3, 8, 8), 'gt': torch.rand(2, 3, 32, 32)}
    model.feed_data(batch)
    losses, _ = model.compute_losses(1)
    expected = load_net(weights).net(batch['lq']).clamp(0, 1)
    tolerance = 1e-6 if precision is None else 5e-3
    assert losses['l_teacher'].item() == pytest.approx(
        0.5 * (model.output - expected).abs().mean().item(), rel=tolerance
    )
    sum(losses.values()).backward()
    assert not model.teacher.net.training and all(p.grad is None for p in model.teacher.net.parameters())
    assert (model.aim(model.teacher) - expected).abs().max() < 10 * tolerance


def test_a_run_learns_from_prepared_pictures_stops_and_resumes_to_the_bit(root: Path) -> None:
    code, straight = train(root, run_options(root, 'straight', total_iter=20))
    assert code == 0, straight
    opt = run_options(root, 'stopped', total_iter=20, datasets__train__in_memory='host')
    code, first = finish(start(root, opt, '--auto_resume'), lambda line: 'iter:       6,' in line)
    assert code == 75, first
    code, second = train(root, opt, '--auto_resume')
    assert code == 0, second

    def losses(log: str) -> list[str]:
        return [line.partition('l_ie:')[2] for line in log.splitlines() if 'l_ie:' in line]

    assert len(losses(straight)) == 20 and losses(first) + losses(second) == losses(straight)
    assert ['l_teacher' in line for line in losses(straight)] == [True] * 15 + [False] * 5


# -- what does not fit ------------------------------------------------------------------------------------------------
def faults(root: Path, teacher: dict[str, Any], **changes: Any) -> list[str]:
    opt = run_options(root, 'x')
    opt['train']['teacher'] = teacher
    opt['datasets']['train'] |= changes
    for data in opt['datasets'].values():
        data |= {key: str(root / value) for key, value in data.items() if key.startswith('dataroot') and value}
    return check_options(opt, True, str(root)).faults


def test_a_sound_section_is_accepted_with_pictures_or_with_weights(root: Path) -> None:
    assert not faults(root, {'weight': 1, 'until': 1e4})
    assert not faults(root, {'weight': 1, 'weights': str(root / 'smfanet_x4.pth')}, dataroot_teacher=None)


@pytest.mark.parametrize(
    'teacher, changes, line',
    [
        ({'until': 5}, {}, 'train.teacher.weight: missing'),
        ({'weight': 0}, {}, 'train.teacher.weight: must be a number above 0, got 0'),
        ({'weight': 1, 'util': 5}, {}, 'train.teacher.util: unknown key (did you mean until?)'),
        (
            {'weight': 1},
            {'dataroot_teacher': None},
            'train.teacher: needs weights of a network or datasets.train.dataroot_teacher, one of the two',
        ),
        (
            {'weight': 1, 'weights': 'smfanet_x4.pth'},
            {},
            'train.teacher: needs weights of a network or datasets.train.dataroot_teacher, not both',
        ),
        (None, {}, 'datasets.train.dataroot_teacher: is only for training with a section train.teacher'),
    ],
)
def test_a_section_that_is_wrong_is_one_line(
    root: Path, teacher: dict[str, Any], changes: dict[str, Any], line: str
) -> None:
    assert faults(root, teacher, **changes) == [line]


def test_a_teacher_of_another_scale_is_refused(root: Path) -> None:
    weights = str(root / 'smfanet_x2.pth')
    assert faults(root, {'weight': 1, 'weights': weights}, dataroot_teacher=None) == [
        f'train.teacher.weights: {weights}: a network of scale 2, but the option file has scale 4'
    ]
    (fault,) = faults(root, {'weight': 1}, dataroot_teacher=str(root / 'set/LR_bicubic_X2_sub.lmdb'))
    assert (
        'LR_bicubic_X2_sub.lmdb: made at another scale or from other pictures: ' in fault
        and ' is 24x24, HR is 48x48' in fault
    )


def test_an_lmdb_of_other_pictures_is_refused(root: Path, tmp_path: Path) -> None:
    (fault,) = faults(root, {'weight': 1}, dataroot_teacher=str(root / 'train_gt.lmdb'))
    assert 'train_gt.lmdb: 10 keys, dataroot_gt: ' in fault
    other = tmp_path / 'others.lmdb'
    shutil.copytree(root / 'set/soft.lmdb', other)
    pictures = entries(other)
    with lmdb.open(str(other), map_size=1 << 26) as env, env.begin(write=True) as transaction:
        for key, png in zip(pictures, reversed(pictures.values()), strict=True):
            transaction.put(key.encode(), png)
    (fault,) = check_dataset(dataset(root, dataroot_teacher=str(other)), 4, 'train')[1]
    assert 'others.lmdb: made from other pictures: ' in fault and 'is not an enlargement of its LR' in fault


def test_a_run_with_a_wrong_teacher_makes_no_folder(root: Path) -> None:
    opt = run_options(root, 'refused')
    opt['datasets']['train']['dataroot_teacher'] = 'nowhere.lmdb'
    code, log = train(root, opt)
    assert code == 2 and 'datasets.train.dataroot_teacher: ' in log and 'no such folder' in log
    assert not (root / 'experiments/refused').exists()
