"""Rainy/clean pairs from a folder: found, matched by name, read, and refused in one sentence where they are wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from autoderain_jax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
ORIENTED = ("JPEG", "MPO", "WEBP")
"""Formats whose EXIF orientation is followed: cameras write it, and it is known before the pixels are decoded."""
DEPTHS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of images that become RGB without a change of meaning; others have more than 8 bits per channel."""
CACHE_BYTES = 4 * 2**30
"""Decoded pairs kept in memory by default; the rest is decoded anew each time it is drawn."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One rainy/clean pair.

    Attributes:
      name: file name without folder and suffix.
      background: name of the clean image; pairs with the same one never end up on both sides of a split.
      size: (height, width) in pixels.
      load: reads the pair as uint8 (h, w, 6), rainy RGB then clean RGB, so that one crop or flip serves both.
    """

    name: str
    background: str
    size: tuple[int, int]
    load: Callable[[], np.ndarray]


class Pairs(Sequence[Pair]):
    """An ordered set of pairs that keeps decoded images in memory up to a limit; safe to read from several threads."""

    def __init__(self, pairs: Sequence[Pair], cache_bytes: int = CACHE_BYTES):
        self._pairs = tuple(pairs)
        self._cache: dict[int, np.ndarray] = {}
        self._room = cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        return self._pairs[index]

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
                raise InputError(f"image {pair.name} is {width}x{height}, smaller than the patch ({patch}x{patch})")

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
        backgrounds.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        chosen = set(backgrounds[:count])
        parts = [[pair for pair in self if (pair.background in chosen) == side] for side in (False, True)]
        return Pairs(parts[0], self._room // 2), Pairs(parts[1], self._room // 2)

    def fingerprint(self) -> str:
        """A hash of names and sizes: which images these are, without reading their pixels."""
        text = repr([(pair.name, pair.size) for pair in self])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_rgb(path: Path) -> np.ndarray:
    """Decodes an image file as upright uint8 RGB (h, w, 3); raises ``InputError`` naming it if that fails."""
    try:
        with Image.open(path) as image:
            if image.mode not in DEPTHS:
                raise InputError(f"{path} has more than 8 bits per channel (mode {image.mode}): convert it to 8 bits")
            upright = ImageOps.exif_transpose(image) if image.format in ORIENTED else image
            return np.array(upright.convert("RGB"))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from None


def image_files(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem, sorted; raises ``InputError`` if it is missing, empty or ambiguous."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise InputError(f"{path} and {files[path.stem].name} have the same name but for the suffix")
            files[path.stem] = path
    if not files:
        raise InputError(f"{folder} holds no image ({', '.join(SUFFIXES)})")
    return files


def matched_files(first: Path, second: Path) -> list[tuple[str, Path, Path]]:
    """Files of two folders matched by stem; raises ``InputError`` naming the first file without a partner."""
    left, right = image_files(first), image_files(second)
    for mine, other, folder in ((left, right, second), (right, left, first)):
        lone = next((path for stem, path in mine.items() if stem not in other), None)
        if lone is not None:
            raise InputError(f"{lone} has no partner of the same name in {folder}")
    return [(stem, left[stem], right[stem]) for stem in left]


def folder_pairs(root: Path, split: str) -> Pairs:
    """Pairs of ``root/rainy`` and ``root/clean``, or of those folders in ``root/<split>`` where that exists.

    Every file is opened and its size compared here; pixels are decoded when a pair is first used.

    Args:
      root: the data set.
      split: ``train`` or ``test``. Without a subfolder of that name, all pairs are returned for either.

    Raises:
      InputError: a missing or empty folder, files without a partner, unequal sizes, or files that are no images.
    """
    if not root.is_dir():
        raise InputError(f"data folder {root} does not exist")
    base = root / split if (root / split).is_dir() else root
    if not (base / "rainy").is_dir() or not (base / "clean").is_dir():
        raise InputError(f"{base} needs the folders rainy/ and clean/ (or train/ and test/ with these inside)")
    return Pairs([_file_pair(*files) for files in matched_files(base / "rainy", base / "clean")])


def _file_pair(stem: str, rainy: Path, clean: Path) -> Pair:
    sizes = [_image_size(path) for path in (rainy, clean)]
    if sizes[0] != sizes[1]:
        shown = [f"{width}x{height}" for height, width in sizes]
        raise InputError(f"{rainy} is {shown[0]} but {clean} is {shown[1]}")

    def load() -> np.ndarray:
        return np.concatenate([read_rgb(rainy), read_rgb(clean)], -1)

    return Pair(stem, stem, sizes[0], load)


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            lying = image.format in ORIENTED and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.width, image.height) if lying else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(f"{path} is not an image that can be read") from None
