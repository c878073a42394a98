"""Draw the example picture of ``iafmsr demo``: a still life by formulas alone, so that it is nobody else's.

python examples/still_life.py iafmsr/tools/still_life.png
"""

import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT, SAMPLES = 480, 320, 4  # pixels; rays for each pixel: 4x4
EYE, LAMP, WALL, NOTHING = np.array([0.0, 1.35, -3.6]), np.array([-3.0, 4.5, -3.0]), 2.6, 1e6


class Ball(NamedTuple):
    centre: tuple[float, float, float]
    radius: float
    mirror: float  # share of the reflection in its colour


BALLS = (
    Ball((-1.25, 0.8, 0.5), 0.8, 0.06),
    Ball((0.28, 0.5, -0.55), 0.5, 0.75),
    Ball((1.45, 0.95, 0.8), 0.95, 0.04),
)


def still_life() -> np.ndarray:
    """Three balls on a chequered cloth before a brick wall, uint8 (320, 480, 3), RGB."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[: HEIGHT * SAMPLES, : WIDTH * SAMPLES] + 0.5
    across = columns / (SAMPLES * WIDTH) - 0.5
    down = (rows / (SAMPLES * HEIGHT) - 0.5) * HEIGHT / WIDTH
    rays = unit(np.stack([across, -0.12 - down, np.full_like(across, 0.86)], -1).reshape(-1, 3))
    lamps = LAMP + 0.25 * random.standard_normal(rays.shape)  # a lamp of some size: shadows have soft edges
    colours = seen(np.broadcast_to(EYE, rays.shape), rays, lamps, bounces=2)
    pixels = colours.reshape(HEIGHT, SAMPLES, WIDTH, SAMPLES, 3).mean((1, 3))
    return (255 * pixels.clip(0, 1) ** (1 / 2.2)).round().astype(np.uint8)


def seen(eyes: np.ndarray, rays: np.ndarray, lamps: np.ndarray, bounces: int) -> np.ndarray:
    """What each ray (N, 3) from an eye (N, 3) meets: linear RGB (N, 3)."""
    with np.errstate(divide='ignore'):
        planes = [-eyes[:, 1] / rays[:, 1], (WALL - eyes[:, 2]) / rays[:, 2]]
    far = np.stack([*(distance(ball, eyes, rays) for ball in BALLS), *(np.where(t > 1e-4, t, NOTHING) for t in planes)])
    met, nearest = far.min(0) < NOTHING, far.argmin(0)
    points = eyes + np.where(met, far.min(0), 0)[:, None] * rays
    normals, albedo, mirror = np.zeros_like(rays), np.zeros_like(rays), np.zeros(len(rays))
    for number, ball in enumerate(BALLS):
        here = met & (nearest == number)
        normals[here] = (points[here] - ball.centre) / ball.radius
        albedo[here], mirror[here] = paint(number, normals[here]), ball.mirror
    cloth, wall = met & (nearest == len(BALLS)), met & (nearest == len(BALLS) + 1)
    normals[cloth], normals[wall] = (0, 1, 0), (0, 0, -1)
    albedo[cloth], albedo[wall] = gingham(points[cloth]), bricks(points[wall])

    to_lamp = unit(lamps - points)
    starts = points + 1e-3 * normals
    lit = np.all([distance(ball, starts, to_lamp) == NOTHING for ball in BALLS], axis=0)
    colours = albedo * (0.22 + 0.95 * lit * (normals * to_lamp).sum(-1).clip(0))[:, None]
    mirrored = rays - 2 * (rays * normals).sum(-1, keepdims=True) * normals
    colours += (0.6 * lit * (mirrored * to_lamp).sum(-1).clip(0) ** 60 * (mirror > 0))[:, None]
    shiny = np.flatnonzero(mirror)
    if bounces and len(shiny):
        reflected = seen(starts[shiny], mirrored[shiny], lamps[shiny], bounces - 1)
        colours[shiny] += mirror[shiny, None] * (reflected - 0.6 * colours[shiny])
    colours[~met] = (0.55, 0.65, 0.8)  # the room behind, in the mirror alone
    return colours


def distance(ball: Ball, eyes: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Along each ray to a ball."""
    offset = eyes - np.array(ball.centre)
    half = (offset * rays).sum(-1)
    inside = half**2 - (offset**2).sum(-1) + ball.radius**2
    nearer = -half - np.sqrt(inside.clip(0))
    return np.where((inside > 0) & (nearer > 1e-4), nearer, NOTHING)


def paint(ball: int, normals: np.ndarray) -> np.ndarray:
    """The colour of a ball's surface where its normal is (n, 3)."""
    x, y, z = normals.T
    if ball == 0:  # tilted stripes, finer towards the poles
        stripes = np.sin(34 * np.arcsin((0.8 * y + 0.6 * x).clip(-1, 1)) ** 2) > 0
        return either(stripes, (0.75, 0.1, 0.07), (0.9, 0.85, 0.75))
    if ball == 2:  # meridians and parallels, as on a globe
        east = 18 / np.pi * np.arctan2(0.9 * x + 0.43 * y, -z)
        north = 18 / np.pi * np.arcsin((0.9 * y - 0.43 * x).clip(-1, 1))
        lines = (np.abs(east - east.round()) < 0.07) | (np.abs(north - north.round()) < 0.07)
        return either(lines, (0.85, 0.8, 0.55), (0.05, 0.17, 0.3))
    return np.full_like(normals, 0.35)


def gingham(points: np.ndarray) -> np.ndarray:
    """A chequered cloth at (n, 3)."""
    x, _, z = 3.2 * points.T
    dark = (np.floor(x) % 2 + np.floor(z) % 2)[:, None] / 2
    return np.array([0.85, 0.83, 0.78]) - dark * np.array([0.75, 0.55, 0.3])


def bricks(points: np.ndarray) -> np.ndarray:
    """A brick wall at (n, 3): each brick has its own colour, and a grain."""
    row = np.floor(points[:, 1] / 0.24)
    along = (points[:, 0] + 0.3 * (row % 2)) / 0.6
    column = np.floor(along)
    x, y = along - column, points[:, 1] / 0.24 - row
    shade = 0.8 + 0.4 * ((np.sin(row * 12.9 + column * 78.2) * 43758.5) % 1)
    waves = np.sin(23 * points[:, 1]), np.sin(31 * points[:, 0])
    grain = np.sin(71 * points[:, 0] + 9 * waves[0]) * np.sin(97 * points[:, 1] + 7 * waves[1])
    mortar = (np.minimum(x, 1 - x) < 0.025) | (np.minimum(y, 1 - y) < 0.06)
    factor = np.where(mortar, 1, shade * (1 + 0.12 * grain))
    return either(mortar, (0.5, 0.48, 0.45), (0.36, 0.15, 0.09)) * factor[:, None]


def either(chosen: np.ndarray, yes: tuple[float, float, float], no: tuple[float, float, float]) -> np.ndarray:
    return np.where(chosen[:, None], yes, no)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


if __name__ == '__main__':
    Image.fromarray(still_life()).save(sys.argv[1], optimize=True)
