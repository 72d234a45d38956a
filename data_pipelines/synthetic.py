"""Synthetic rain: layers of streaks by angle, length, width, density, depth and motion blur, and a veil. All ours.

The model is the usual one of the field, a sum of blurred streak layers over the scene (Li et al., CVPR 2016), with the
veiling of distant rain (Hu et al., CVPR 2019). ``PRESETS`` name ranges of it; what they were fitted to stands there.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from skimage import data as photographs

from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import expanded
from data_pipelines.images import image_size, read_rgb, some_images
from data_pipelines.layouts import part_folders
from data_pipelines.pairs import Pair, Pairs

BUILTIN = "synthetic"
"""Name of the built-in data set: synthetic rain over the photographs that scikit-image ships."""
LEAST_PAIRS = 64
"""Each photograph gets as many rains as it takes to make this many pairs, at least one."""

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Rain:
    """One rainfall.

    Attributes:
      angle: degrees from the vertical, positive leaning right, in [-60, 60].
      spread: degrees by which the layers' angles differ from it at most, at least 0.
      length: of the nearest streaks, in pixels, at least 1.
      motion_blur: standard deviation of the fading of a streak's ends, in pixels, at least 0: the exposure's share.
      width: standard deviation across the nearest streaks, in pixels, above 0.
      density: streaks starting per pixel in the nearest layer, in [0, 1].
      intensity: brightness of a streak's core, in [0, 1].
      depth: number of layers; each further one is half as long and wide, twice as dense and a third dimmer.
      veil: share of the light replaced by bright haze, in [0, 1].
      screen: compose by ``1 - (1 - scene)(1 - rain)`` instead of adding.
    """

    angle: float = 10.0
    spread: float = 0.0
    length: float = 24.0
    motion_blur: float = 1.0
    width: float = 0.7
    density: float = 0.003
    intensity: float = 0.45
    depth: int = 2
    veil: float = 0.0
    screen: bool = False

    def scaled(self, scale: float) -> Rain:
        """The same rainfall in a picture of so many times the pixels along each side; ``scale`` is positive."""
        sizes = {name: getattr(self, name) * scale for name in ("length", "motion_blur", "width")}
        return dataclasses.replace(self, **sizes, density=self.density / scale**2)


@dataclasses.dataclass(frozen=True)
class RainRange:
    """Ranges from which rainfalls are drawn, uniformly unless said otherwise; the fields are those of ``Rain``.

    Attributes:
      length, density, intensity: drawn uniformly in their logarithm.
      depth: fewest and most layers.
      screen: share of the rainfalls that are screened instead of added.
      scale: of the picture, drawn uniformly in its logarithm: streaks are longer, wider and more blurred by it, and
        fewer by its square.
      dry: share of the pictures on which none falls.
      enlarged: of the scene, drawn uniformly in its logarithm: a part of it is so many times as large in the picture,
        which has less detail then, as where a photograph is out of focus; at 1 and below it is left as it is.
    """

    angle: Range
    spread: Range
    length: Range
    motion_blur: Range
    width: Range
    density: Range
    intensity: Range
    depth: tuple[int, int]
    veil: Range
    screen: float
    scale: Range = (1.0, 1.0)
    dry: float = 0.0
    enlarged: Range = (1.0, 1.0)

    def sample(self, rng: np.random.Generator) -> Rain:
        """Draws a rainfall."""
        logarithmic = {
            name: math.exp(rng.uniform(*np.log(getattr(self, name)))) for name in ("length", "density", "intensity")
        }
        uniform = {
            name: rng.uniform(*getattr(self, name)) for name in ("angle", "spread", "motion_blur", "width", "veil")
        }
        depth = int(rng.integers(self.depth[0], self.depth[1] + 1))
        rain = Rain(**logarithmic, **uniform, depth=depth, screen=bool(rng.random() < self.screen))
        return rain if self.scale == (1.0, 1.0) else rain.scaled(math.exp(rng.uniform(*np.log(self.scale))))

    def falls_on(self, scene: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws a rainfall and lets it fall.

        Args:
          scene: uint8 RGB (h, w, 3).
          rng: of rain and scene.

        Returns:
          The rainy picture and the clean one, which is the scene or a part of it, enlarged; both like ``scene``.
        """
        # Presets that do neither draw the numbers that they always drew.
        if self.enlarged != (1.0, 1.0):
            scene = _part_enlarged(scene, math.exp(rng.uniform(*np.log(self.enlarged))), rng)
        if self.dry and rng.random() < self.dry:
            return scene, scene
        return add_rain(scene, self.sample(rng), rng), scene


_VARIED = RainRange(
    angle=(-40, 40),
    spread=(0, 10),
    length=(5, 40),
    motion_blur=(0.5, 8),
    width=(0.5, 1.2),
    density=(0.001, 0.02),
    intensity=(0.06, 0.8),
    depth=(1, 4),
    veil=(0, 0),
    screen=0.7,
    scale=(0.8, 2.5),
)

PRESETS: Mapping[str, RainRange] = {
    "mixed": RainRange(
        angle=(-25, 25),
        spread=(0, 6),
        length=(12, 40),
        motion_blur=(0.5, 4),
        width=(0.5, 1.2),
        density=(0.0008, 0.003),
        intensity=(0.25, 0.6),
        depth=(1, 3),
        veil=(0, 0.12),
        screen=0.5,
    ),
    "light": RainRange(
        angle=(-29, 29),
        spread=(0, 3),
        length=(16, 48),
        motion_blur=(1, 6),
        width=(0.6, 1.1),
        density=(0.0005, 0.002),
        intensity=(0.18, 0.55),
        depth=(1, 2),
        veil=(0, 0),
        screen=0.0,
    ),
    "heavy": RainRange(
        angle=(-30, 30),
        spread=(10, 40),
        length=(20, 60),
        motion_blur=(2, 8),
        width=(0.8, 1.6),
        density=(0.001, 0.004),
        intensity=(0.45, 0.98),
        depth=(2, 4),
        veil=(0, 0.05),
        screen=0.0,
    ),
    "varied": _VARIED,
    "soft": dataclasses.replace(_VARIED, dry=0.15, enlarged=(0.3, 4.0)),
}
"""Rain by name. ``light`` resembles Rain100L and ``heavy`` Rain100H in angles, lengths and widths as far as their
differences from the clean images show them, and in input PSNR on the same backgrounds; ``mixed`` ranges wider.
``varied`` ranges widest, from a few long streaks to dense and faint ones, as photographs of real rain show them; its
ranges were set by eye. ``soft`` is the same rain over scenes of which half are enlarged, and sometimes no rain."""


def streaks(shape: tuple[int, int], rain: Rain, rng: np.random.Generator) -> np.ndarray:
    """Renders the rain's streaks alone: float32 (h, w) in [0, 1]."""
    height, width = shape
    layer = np.zeros(shape)
    for level in range(rain.depth):
        nearness = 0.5**level
        starts = rng.random(shape, np.float32) < rain.density / nearness
        drops = starts * rng.uniform(0.4, 1.0, shape)
        angle = rain.angle + rng.uniform(-rain.spread, rain.spread)
        length, sigma = max(rain.length * nearness, 2.0), max(rain.width * nearness, 0.4)
        kernel = _streak(height, width, angle, length, sigma, max(rain.motion_blur * nearness, sigma))
        blurred = np.fft.irfft2(np.fft.rfft2(drops) * np.fft.rfft2(kernel), s=shape)
        layer += np.clip(blurred, 0.0, 1.0) * rain.intensity * (2 / 3) ** level
    return np.clip(layer, 0.0, 1.0).astype(np.float32)


def _streak(height: int, width: int, angle: float, length: float, sigma: float, fading: float) -> np.ndarray:
    """One streak centred on pixel (0, 0) of a periodic image, its brightest value 1."""
    y = np.fft.fftfreq(height, 1 / height)[:, None]
    x = np.fft.fftfreq(width, 1 / width)[None, :]
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    along, across = y * cosine + x * sine, x * cosine - y * sine
    beyond = np.maximum(np.abs(along) - length / 2, 0.0)
    return np.exp(-0.5 * ((across / sigma) ** 2 + (beyond / fading) ** 2))


def add_rain(clean: np.ndarray, rain: Rain, rng: np.random.Generator) -> np.ndarray:
    """Rains on a photograph: uint8 RGB (h, w, 3) to the same."""
    scene = clean.astype(np.float32) / 255.0
    layer = streaks(clean.shape[:2], rain, rng)[..., None]
    scene = scene * (1.0 - rain.veil) + 0.85 * rain.veil
    rainy = 1.0 - (1.0 - scene) * (1.0 - layer) if rain.screen else scene + layer
    return np.round(np.clip(rainy, 0.0, 1.0) * 255.0).astype(np.uint8)


def _part_enlarged(scene: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """A part of the scene, anywhere in it, enlarged to its size; the scene itself for a factor of at most 1."""
    if factor <= 1.0:
        return scene
    height, width = scene.shape[:2]
    top, left = rng.uniform(0.0, 1.0 - 1.0 / factor, 2) * (height, width)
    part = (left, top, left + width / factor, top + height / factor)
    return np.asarray(Image.fromarray(scene).resize((width, height), Image.Resampling.BICUBIC, box=part))


PHOTOGRAPHS = {"train": ("astronaut", "coffee", "motorcycle", "rocket"), "test": ("chelsea",)}
"""Colour photographs that scikit-image ships, by part of the built-in data set."""


@functools.cache
def photograph(name: str) -> np.ndarray:
    """One of the shipped photographs, uint8 RGB."""
    image = photographs.stereo_motorcycle()[0] if name == "motorcycle" else getattr(photographs, name)()
    return np.ascontiguousarray(image)


class Backdrop(NamedTuple):
    """A clean photograph to rain on: its name, (height, width), and what reads it as uint8 RGB."""

    name: str
    size: tuple[int, int]
    load: Callable[[], np.ndarray]


class RainOver(NamedTuple):
    """Photographs to be opened as pairs, the same each time: one part of a synthetic data set."""

    backdrops: Sequence[Backdrop]
    preset: str

    def open(self) -> Pairs:
        """The pairs; rain is rendered when one is first used."""
        renderings = max(1, math.ceil(LEAST_PAIRS / len(self.backdrops)))
        return Pairs(rained_on(self.backdrops, self.preset, renderings))


def rained_on(backdrops: Sequence[Backdrop], preset: str, renderings: int, first: int = 0) -> list[Pair]:
    """Pairs of each photograph with so many different rains of a preset; a function of names and numbers alone.

    Numbers begin with ``first``.
    """
    return [_rained_on(backdrop, preset, first + i) for backdrop in backdrops for i in range(renderings)]


def _rained_on(backdrop: Backdrop, preset: str, number: int) -> Pair:
    def load() -> np.ndarray:
        rng = np.random.default_rng([number, *os.fsencode(backdrop.name)])
        return np.concatenate(PRESETS[preset].falls_on(backdrop.load(), rng), -1)

    return Pair(_name(backdrop, preset, number), backdrop.name, backdrop.size, load)


def _name(backdrop: Backdrop, preset: str, number: int) -> str:
    return f"{backdrop.name}_{preset}{number:02}"


def with_synthetic(pairs: Pairs, preset: str, renderings: int) -> Pairs:
    """Augments a data set: its pairs, and so many synthetic rains of a preset over each of its backgrounds.

    Raises:
      InputError: there is no such preset.
    """
    _require_preset(preset)
    clean = {pair.background: pair for pair in reversed(pairs)}
    backdrops = [Backdrop(name, pair.size, lambda pair=pair: pair.load()[..., 3:]) for name, pair in clean.items()]
    names = {pair.name for pair in pairs}
    # In a synthetic data set of this preset, the first of them fall already.
    first = next(n for n in itertools.count() if not any(_name(backdrop, preset, n) in names for backdrop in backdrops))
    return Pairs([*pairs, *rained_on(backdrops, preset, renderings, first)], pairs.cache_bytes)


def is_synthetic(data: str) -> bool:
    """Whether a data set's name asks for synthetic rain: ``synthetic``, ``synthetic/PRESET``, ``...:FOLDER``."""
    return data.partition(":")[0].partition("/")[0] == BUILTIN


def synthetic_parts(data: str) -> Mapping[str, RainOver]:
    """The parts of a synthetic data set.

    Args:
      data: ``synthetic[/PRESET][:FOLDER]``; the preset is ``mixed`` if none is given, and without a folder of
        photographs, scikit-image's are used.

    Raises:
      InputError: there is no such preset, or no photograph in the folder.
    """
    kind, _, folder = data.partition(":")
    preset = kind.partition("/")[2] or "mixed"
    _require_preset(preset)
    if folder:
        return {part: RainOver(backdrops, preset) for part, backdrops in _backdrops(expanded(folder)).items()}
    return {
        part: RainOver(
            [Backdrop(name, photograph(name).shape[:2], partial(photograph, name)) for name in names], preset
        )
        for part, names in PHOTOGRAPHS.items()
    }


def _backdrops(folder: Path) -> dict[str, list[Backdrop]]:
    """The photographs of a folder, or of its parts."""
    if not os.path.isdir(folder):
        raise InputError(f"folder of photographs {shown(str(folder))} does not exist")
    found = {part: some_images(place) for part, place in part_folders(folder).items()}
    for files in found.values():
        for one, other in itertools.pairwise(sorted(files, key=lambda path: path.stem)):
            if one.stem == other.stem:
                raise InputError(f"{one} and {other.name} have the same name but for the suffix: remove one of the two")
    return {part: [_backdrop(path) for path in files] for part, files in found.items()}


def _backdrop(path: Path) -> Backdrop:
    size = image_size(path)
    return Backdrop(path.stem, size, partial(read_rgb, path, size))


def _require_preset(preset: str) -> None:
    if preset not in PRESETS:
        raise InputError(f"there is no preset {shown(preset)} of synthetic rain; there are {', '.join(PRESETS)}")
