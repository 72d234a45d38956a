"""Synthetic rain: streaks by angle, length, width, density and depth, and a veil; added or screened. All ours.

The model is the usual one of the field, a sum of blurred streak layers over the scene (Li et al., CVPR 2016), with the
veiling of distant rain (Hu et al., CVPR 2019).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from skimage import data as photographs

from data_pipelines.pairs import Pair, Pairs

VARIANTS = 16
"""Renderings of rain over each photograph in the built-in data set."""


@dataclasses.dataclass(frozen=True)
class Rain:
    """One rainfall.

    Attributes:
      angle: degrees from the vertical, positive leaning right, in [-60, 60].
      length: of the nearest streaks, in pixels, at least 1.
      width: standard deviation across the nearest streaks, in pixels, above 0.
      density: streaks starting per pixel in the nearest layer, in [0, 1].
      intensity: brightness of a streak's core, in [0, 1].
      depth: number of layers; each further one is half as long and wide, twice as dense and a third dimmer.
      veil: share of the light replaced by bright haze, in [0, 1].
      screen: compose by ``1 - (1 - scene)(1 - rain)`` instead of adding.
    """

    angle: float = 10.0
    length: float = 24.0
    width: float = 0.7
    density: float = 0.003
    intensity: float = 0.45
    depth: int = 2
    veil: float = 0.0
    screen: bool = False

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Rain:
        """Draws a rainfall from moderate ranges."""
        return cls(
            angle=rng.uniform(-25.0, 25.0),
            length=rng.uniform(12.0, 40.0),
            width=rng.uniform(0.5, 1.2),
            density=rng.uniform(0.0008, 0.003),
            intensity=rng.uniform(0.25, 0.6),
            depth=int(rng.integers(1, 4)),
            veil=rng.uniform(0.0, 0.12),
            screen=bool(rng.integers(2)),
        )


def streaks(shape: tuple[int, int], rain: Rain, rng: np.random.Generator) -> np.ndarray:
    """Renders the rain's streaks alone: float32 (h, w) in [0, 1]."""
    height, width = shape
    layer = np.zeros(shape)
    for level in range(rain.depth):
        nearness = 0.5**level
        starts = rng.random(shape) < rain.density / nearness
        drops = starts * rng.uniform(0.4, 1.0, shape)
        kernel = _streak(height, width, rain.angle, max(rain.length * nearness, 2.0), max(rain.width * nearness, 0.4))
        blurred = np.fft.irfft2(np.fft.rfft2(drops) * np.fft.rfft2(kernel), s=shape)
        layer += np.clip(blurred, 0.0, 1.0) * rain.intensity * (2 / 3) ** level
    return np.clip(layer, 0.0, 1.0).astype(np.float32)


def _streak(height: int, width: int, angle: float, length: float, sigma: float) -> np.ndarray:
    """One streak centred on pixel (0, 0) of a periodic image, its brightest value 1."""
    y = np.fft.fftfreq(height, 1 / height)[:, None]
    x = np.fft.fftfreq(width, 1 / width)[None, :]
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    along, across = y * cosine + x * sine, x * cosine - y * sine
    beyond = np.maximum(np.abs(along) - length / 2, 0.0)
    return np.exp(-(across**2 + beyond**2) / (2 * sigma**2))


def add_rain(clean: np.ndarray, rain: Rain, rng: np.random.Generator) -> np.ndarray:
    """Rains on a photograph: uint8 RGB (h, w, 3) to the same."""
    scene = clean.astype(np.float32) / 255.0
    layer = streaks(clean.shape[:2], rain, rng)[..., None]
    scene = scene * (1.0 - rain.veil) + 0.85 * rain.veil
    rainy = 1.0 - (1.0 - scene) * (1.0 - layer) if rain.screen else scene + layer
    return np.round(np.clip(rainy, 0.0, 1.0) * 255.0).astype(np.uint8)


SPLITS = {"train": ("astronaut", "coffee", "motorcycle", "rocket"), "test": ("chelsea",)}
"""Colour photographs that scikit-image ships, by split."""


@functools.cache
def photograph(name: str) -> np.ndarray:
    """One of the shipped photographs, uint8 RGB."""
    image = photographs.stereo_motorcycle()[0] if name == "motorcycle" else getattr(photographs, name)()
    return np.ascontiguousarray(image)


def builtin_pairs(split: str) -> Pairs:
    """The built-in data set: synthetic rain over scikit-image's photographs, the same each time."""
    return Pairs([_rendered(name, variant) for name in SPLITS[split] for variant in range(VARIANTS)])


def _rendered(name: str, variant: int) -> Pair:
    clean = photograph(name)

    def load() -> np.ndarray:
        rng = np.random.default_rng([variant, *name.encode()])
        return np.concatenate([add_rain(clean, Rain.sample(rng), rng), clean], -1)

    return Pair(f"{name}_rain{variant:02}", name, clean.shape[:2], load)
