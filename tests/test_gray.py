"""A network of one channel is trained, validated, tested and used on gray pictures of the full range."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import option_cases
import pytest
import torch
from option_cases import DELETE, changed
from PIL import Image
from tiny import built, options, train, write_data

import iafmsr
from iafmsr.archs import IAFMNet
from iafmsr.cli import main
from iafmsr.files.picture import Picture
from iafmsr.models.channels import channels_of
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import in_rgb, to_gray
from iafmsr.tools.serve.work import Upload, enlarge

parse, refused, root = option_cases.parse, option_cases.refused, option_cases.root
GRAY = {'network_g.num_in_ch': 1, 'network_g.num_out_ch': 1}


def test_gray_is_luma_of_the_full_range() -> None:
    levels = torch.linspace(0, 1, 256)
    gray = to_gray(levels.expand(1, 3, 1, 256))
    assert gray.shape == (1, 1, 1, 256) and (gray - levels).abs().max() < 1e-6
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    expected = torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32))
    found = 255 * to_gray(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert (found[0, 0] - expected).abs().max() <= 0.51  # OpenCV rounds


def test_the_model_trains_and_validates_on_gray_pictures(tmp_path: Path) -> None:
    model = built(tmp_path, network_g__num_in_ch=1, network_g__num_out_ch=1)
    batch = {'lq': torch.rand(2, 3, 16, 16), 'gt': torch.rand(2, 3, 64, 64), 'teacher': torch.rand(2, 3, 64, 64)}
    model.feed_data(batch)
    for picture, given in ((model.lq, 'lq'), (model.gt, 'gt'), (model.taught, 'teacher')):
        assert torch.equal(picture, to_gray(batch[given]))
    model.optimize_parameters(1)
    assert model.output.shape == (2, 1, 64, 64)


@pytest.mark.parametrize('suffix', ['.lmdb', ''])
def test_a_gray_net_from_training_to_upscaling(tmp_path: Path, repo_root: Path, suffix: str) -> None:
    """And the validation's PSNR is that of the gray pictures, 0 to 255."""
    (tmp_path / 'iafmsr').symlink_to(repo_root / 'iafmsr')
    write_data(tmp_path)
    opt = options('gray', 4, network_g__num_in_ch=1, network_g__num_out_ch=1, val__val_freq=4, val__save_img=True)
    if not suffix:  # gray PNGs in folders, as OnTheFlyDataset takes them
        for phase in ('train', 'val'):
            gray_folders(tmp_path, phase)
            data = opt['datasets'][phase]
            data |= {'io_backend': {'type': 'disk'}, 'dataroot_gt': f'{phase}_gt'}
            data.pop('dataroot_lq')
            data['type'] = 'OnTheFlyDataset'
    code, log = train(tmp_path, opt)
    assert code == 0 and 'Traceback' not in log, log
    psnr = float(re.findall(r'# psnr: ([\d.]+)', log)[-1])
    weights = tmp_path / 'experiments/gray/models/net_g_latest.pth'
    assert load_net(weights).channels == 1
    pictures = sorted((tmp_path / 'experiments/gray/visualization').rglob('*.png'))
    assert len(pictures) == 2 and all(Image.open(picture).mode == 'L' for picture in pictures)
    if suffix:
        return
    found = []
    for picture in pictures:
        sr = np.asarray(Image.open(picture))[4:-4, 4:-4].astype(float)
        hr = np.asarray(Image.open(tmp_path / f'val_gt/{picture.parent.name}.png'))[4:-4, 4:-4]
        found.append(10 * np.log10(255**2 / ((sr - hr) ** 2).mean()))
    assert psnr == pytest.approx(np.mean(found), abs=1e-3)
    source = tmp_path / 'val_gt/000.png'
    assert (
        main(
            ['upscale', str(source), '--output', str(tmp_path / 'x.png'), '--weights', str(weights), '--device', 'cpu']
        )
        == 0
    )
    assert Image.open(tmp_path / 'x.png').mode == 'L'


def gray_folders(root: Path, phase: str) -> None:
    shutil.rmtree(root / f'{phase}_gt', ignore_errors=True)
    (root / f'{phase}_gt').mkdir()
    rng = np.random.default_rng(1)
    for number in range(10 if phase == 'train' else 2):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(root / f'{phase}_gt/{number:03d}.png')


@pytest.fixture
def gray_weights(tmp_path: Path) -> Path:
    network = {'scale': 2, 'num_feat': 8, 'num_block': 1, 'num_in_ch': 1, 'num_out_ch': 1}
    weights = {'params': IAFMNet(**network).state_dict(), 'network_g': {'type': 'IAFMNet', **network}}
    torch.save(weights, tmp_path / 'gray.pth')
    (tmp_path / 'x.yml').write_text(f'scale: 2\nnetwork_g: {weights["network_g"] | {"type": "IAFMNet"}}\n')
    (tmp_path / 'in').mkdir()
    pixels = np.random.default_rng(2).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'in/a.png')
    return tmp_path / 'gray.pth'


@pytest.mark.parametrize(
    'words',
    [
        'inspect in --downscale --output out',
        'export --output out.onnx',
        'export --output out.pth',
        'benchmark --data . --sets in --scale 2 --no-cache --drawn',
        'complexity -opt x.yml',
    ],
)
def test_every_command_takes_a_gray_net(
    tmp_path: Path, gray_weights: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words.endswith('.onnx'):
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(package, reason="the extra 'onnx' is not installed")
    monkeypatch.chdir(tmp_path)
    command, *rest = words.split()
    named = {'complexity': [], 'benchmark': [f'g={gray_weights}']}.get(command, ['--weights', str(gray_weights)])
    assert main([command, *named, *rest]) == 0
    if rest[-1] == 'out.onnx':
        exported, own = load_net(tmp_path / 'out.onnx'), load_net(gray_weights)
        lq = torch.rand(1, 1, 9, 13)
        assert exported.channels == 1 and torch.allclose(exported.net(lq), own.net(lq), atol=1e-5)


def test_a_gray_net_in_python(gray_weights: Path) -> None:
    """Given as a module, too; the map, and what is compared with colours, are those of the luma."""
    net = iafmsr.load(gray_weights)
    colours = torch.rand(1, 3, 12, 16)
    gray = to_gray(colours)
    made = in_rgb(net)(colours)
    assert made.shape == (1, 3, 24, 32) and torch.equal(made[:, :1], net(gray))
    assert torch.equal(in_rgb(net)(colours, return_density=True)[1].idm, net(gray, return_density=True)[1].idm)
    assert torch.equal(iafmsr.density(colours, net), iafmsr.density(gray, net))
    assert torch.allclose(iafmsr.upscale(gray, net), net(gray).clamp(0, 1))
    source = Picture((255 * colours[0]).permute(1, 2, 0).to(torch.uint8).numpy())
    assert enlarge(load_net(gray_weights), Upload('x', source, (16, 12)), 0.05).sr.shape == (3, 24, 32)


# -- the option check ------------------------------------------------------------------------------------------------
def test_a_gray_net_is_taken_with_any_pictures(parse: Callable[..., Any]) -> None:
    parse(changed(**GRAY))


@pytest.mark.parametrize(
    ('changes', 'culprits'),
    [
        (GRAY | {'datasets.train.color': 'y'}, ['datasets.train.color: y gives gray values from 16 to 235']),
        ({'datasets.train.color': 'y'}, ['datasets.train: its pictures have 1 channels, network_g takes 3']),
        (
            GRAY | {'model_type': 'SRModel', 'train.ie_opt': DELETE, 'datasets.train.color': 'y'},
            ['datasets.val: its pictures have 3 channels, network_g takes 1; model_type: IAFMNetModel makes them gray'],
        ),
        ({'network_g.num_out_ch': 1}, ['network_g.num_out_ch: 1, but num_in_ch is 3']),
        (
            {'network_g.num_in_ch': 4, 'network_g.num_out_ch': 4},
            [f'datasets.{phase}: its pictures have 3 channels, network_g takes 4' for phase in ('train', 'val')],
        ),
        (
            GRAY | {'train.perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}},
            ['train.perceptual_opt: its network takes pictures of 3 channels'],
        ),
    ],
)
def test_channels_that_do_not_fit_are_faults(
    refused: Callable[..., list[str]], changes: dict[str, Any], culprits: list[str]
) -> None:
    lines = refused(changed(**changes))
    assert len(lines) == len(culprits)
    for line, culprit in zip(lines, culprits, strict=True):
        assert culprit in line


def test_luma_alone_is_taken_under_basicsrs_own_model(parse: Callable[..., Any]) -> None:
    luma = {'datasets.train.color': 'y', 'datasets.val.color': 'y'}
    parse(changed(**GRAY, **luma, **{'model_type': 'SRModel', 'train.ie_opt': DELETE}))


def test_channels_are_those_of_the_keywords() -> None:
    assert channels_of({'type': 'IAFMNet'}) == 3
    assert channels_of({'type': 'SwinIR', 'in_chans': 1}) == 1
    assert channels_of({'type': 'Spandrel', 'id': 'HAT'}) is None


def test_a_teacher_of_colours_is_none_for_a_gray_net(root: Path, refused: Callable[..., list[str]]) -> None:
    network = {'scale': 4, 'num_feat': 8, 'num_block': 1}
    weights = {'params': IAFMNet(**network).state_dict(), 'network_g': {'type': 'IAFMNet', **network}}
    torch.save(weights, root / 'data/teacher.pth')
    teacher = {'train.teacher': {'weight': 1.0, 'weights': 'data/teacher.pth'}}
    (line,) = refused(changed(**GRAY, **teacher))
    assert line.endswith('teacher.pth: a network of 3 channels, network_g has others')
