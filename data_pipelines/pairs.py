"""Rainy/clean pairs: what they are called, how large they are, their pixels, and which of them are held out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import SSIM_WINDOW

CACHE_BYTES = 4 * 2**30
"""Decoded pairs kept in memory by default; the rest is decoded anew each time it is drawn."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One rainy/clean pair.

    Attributes:
      name: of the rainy image, without folder and suffix; one of its kind in a data set's part.
      background: name of the clean image; pairs with the same one never end up on both sides of a split.
      size: (height, width) in pixels.
      load: reads the pair as uint8 (h, w, 6), rainy RGB then clean RGB, so that one crop or flip serves both.
    """

    name: str
    background: str
    size: tuple[int, int]
    load: Callable[[], np.ndarray]


class Pairs(Sequence[Pair]):
    """An ordered set of pairs that keeps decoded images in memory up to a limit; safe to read from several threads.

    Args:
      pairs: the pairs, in order.
      cache_bytes: the limit.
    """

    def __init__(self, pairs: Sequence[Pair], cache_bytes: int = CACHE_BYTES):
        self._pairs = tuple(pairs)
        self._cache: dict[int, np.ndarray] = {}
        self.cache_bytes = self._room = cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        return self._pairs[index]

    @property
    def sizes(self) -> np.ndarray:
        """(pairs, 2) heights and widths in pixels."""
        return np.array([pair.size for pair in self._pairs])

    @property
    def nbytes(self) -> int:
        """Bytes of all decoded pairs."""
        return int(np.prod(self.sizes, axis=1, dtype=np.int64).sum()) * 6

    def image(self, index: int) -> np.ndarray:
        """Pair ``index`` as uint8 (h, w, 6). Read only: it may be the cached array itself."""
        image = self._cache.get(index)
        if image is None:
            image = self._pairs[index].load()
            image.setflags(write=False)
            with self._lock:
                if index not in self._cache and image.nbytes <= self._room:
                    self._cache[index] = image
                    self._room -= image.nbytes
        return image

    def rainy_clean(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pair ``index`` as two uint8 images (h, w, 3)."""
        image = self.image(index)
        return image[..., :3], image[..., 3:]

    def require_patch(self, patch: int) -> None:
        """Raises ``InputError`` naming the first image that is smaller than a patch of ``patch`` pixels squared."""
        for pair in self:
            height, width = pair.size
            if min(height, width) < patch:
                raise InputError(f"image {pair.name} is {width}x{height}, smaller than --patch {patch}")

    def require_scored(self) -> None:
        """Raises ``InputError`` naming the first image that is too small to have an SSIM."""
        for pair in self:
            height, width = pair.size
            if min(height, width) < SSIM_WINDOW:
                raise InputError(
                    f"image {pair.name}, held out, is {width}x{height}, smaller than the window of SSIM, "
                    f"{SSIM_WINDOW}x{SSIM_WINDOW}"
                )

    def hold_out(self, fraction: float) -> tuple[Pairs, Pairs]:
        """Splits off a fraction of the backgrounds, at least one: (the rest, held out).

        Which ones depends on their names alone, so that all commands and seeds hold out the same, and a smaller
        fraction is a part of a larger one.

        Raises:
          InputError: fewer than two backgrounds.
        """
        backgrounds = sorted({pair.background for pair in self})
        if len(backgrounds) < 2:
            raise InputError(f"the data need at least two different images to hold one out, not {len(backgrounds)}")
        count = min(max(round(fraction * len(backgrounds)), 1), len(backgrounds) - 1)
        backgrounds.sort(key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
        chosen = set(backgrounds[:count])
        parts = [[pair for pair in self if (pair.background in chosen) == side] for side in (False, True)]
        return Pairs(parts[0], self.cache_bytes // 2), Pairs(parts[1], self.cache_bytes // 2)

    def listing_id(self) -> str:
        """A hash of names and sizes: which images these are, without reading their pixels."""
        return _short_hash(os.fsencode(repr([(pair.name, pair.size) for pair in self])))


def fingerprint(digests: Iterable[bytes]) -> str:
    """One name, 16 hexadecimal digits, for a set of images, from the ``pixel_digest`` of each.

    It depends on pixels alone: the same images have it whatever they are called, however they are ordered and packed.
    """
    return _short_hash(b"".join(sorted(digests)))


def pixel_digest(image: np.ndarray) -> bytes:
    """Hash of an image's shape and pixels, uint8 (h, w, channels)."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
