"""Which images show the same scene: a perceptual hash proposes, small copies of the pixels decide. All ours.

Thresholds were chosen on Rain100L's 300 clean images. Its different scenes have a likeness of at most 0.34 and
hashes at least 12 bits apart; one scene, cropped by a pixel and compressed to JPEG of quality 80, keeps a likeness of
0.97 and a hash within 4 bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import grey_erosion, uniform_filter

from autoderain_jax.metrics import luma
from data_pipelines.pairs import pixel_digest

SIDE = 48
"""Side of a thumbnail in pixels: small enough that a crop of a pixel hardly moves anything in it."""
NEIGHBOURHOOD = 9
"""Side of the square, in pixels of the thumbnail, whose mean is taken off: light and haze do not count."""
STREAK_WIDTH = 7
"""Bright things up to so many pixels wide are taken off before rainy and clean images are compared."""
SAME_SCENE = 0.8
HASH_DISTANCE = 12
"""Most bits in which hashes of one scene may differ."""
ASPECT = 1.1
"""Most by which the ratio of width to height of two copies of one scene may differ."""


def thumbnail(image: np.ndarray, without_rain: bool = False) -> np.ndarray:
    """What is compared of an image.

    Args:
      image: uint8 RGB (h, w, 3).
      without_rain: first replaces each pixel by the darkest of a short row around it, as rain is brighter than what
        it hides.

    Returns:
      int8 (SIDE * SIDE,): local contrast of luma, of mean 0 and standard deviation 32, unless the image has none.
    """
    gray = luma(image)
    if without_rain:
        gray = grey_erosion(gray, (1, STREAK_WIDTH))
    small = _shrunk(gray, SIDE)
    detail = small - uniform_filter(small, NEIGHBOURHOOD, mode="nearest")
    detail -= detail.mean()
    return np.clip(np.round(detail * (32 / max(detail.std(), 0.5))), -127, 127).astype(np.int8).ravel()


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of thumbnails, in [-1, 1]: (..., d) and (n, d) to (..., n)."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    norms = np.linalg.norm(first, axis=-1, keepdims=True) * np.linalg.norm(second, axis=-1)
    return first @ second.T / np.maximum(norms, 1e-6)


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """64 bits that tell which low frequencies of an image's luma are above their median (pHash, Zauner 2010)."""
    low = dctn(_shrunk(luma(image), 32), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return np.packbits(bits).view(np.uint64)[0]


class Scene:
    """What is remembered of one clean image, to find it again.

    Args:
      image: uint8 RGB (h, w, 3).
    """

    __slots__ = ("aspect", "digest", "hash", "thumbnail")

    def __init__(self, image: np.ndarray):
        self.digest = pixel_digest(image)
        self.aspect = image.shape[1] / image.shape[0]
        self.hash = perceptual_hash(image)
        self.thumbnail = thumbnail(image)


def same_scenes(scenes: Sequence[Scene]) -> list[list[int]]:
    """Groups of two or more indices that show one scene, each sorted; the first of a group stands for it."""
    hashes = np.array([scene.hash for scene in scenes], np.uint64)
    leaders = np.empty(len(scenes), np.int64)
    groups: dict[int, list[int]] = defaultdict(list)
    count = 0
    for index, scene in enumerate(scenes):
        near = leaders[:count][np.bitwise_count(hashes[leaders[:count]] ^ scene.hash) <= HASH_DISTANCE]
        leader = next((int(other) for other in near if _same(scene, scenes[other])), index)
        groups[leader].append(index)
        if leader == index:
            leaders[count] = index
            count += 1
    return [group for group in groups.values() if len(group) > 1]


def _same(first: Scene, second: Scene) -> bool:
    if first.digest == second.digest:
        return True
    ratio = first.aspect / second.aspect
    alike = likeness(first.thumbnail, second.thumbnail[None])[0]
    return 1 / ASPECT < ratio < ASPECT and bool(alike > SAME_SCENE)


def _shrunk(gray: np.ndarray, side: int) -> np.ndarray:
    small = Image.fromarray(gray.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float64)
