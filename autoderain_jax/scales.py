"""Large photographs: rain is looked for where streaks are as wide as a network knows them. Ours.

A network knows rain at the scale of the images that it was trained on. In a photograph of eight times their side the
same rain is eight times as wide, which it does not know. So the photograph is made smaller and restored, and what has
changed is enlarged and taken over: what was not rain keeps all its pixels. This is done from coarse to fine, as rain
near and far differs in width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from PIL import Image

from autoderain_jax.errors import InputError, shown

Scales = Literal["auto"] | tuple[float, ...]
"""By how much to make an image smaller, one after the other; ``auto``, see ``octaves``."""

AS_IT_IS = (1.0,)
"""Of networks that are to be measured."""


def octaves(pixels: int, known: int | None) -> tuple[float, ...]:
    """The power of two that brings an image nearest to the size that a network knows, and the next finer one, if any.

    Finer ones show what the network has not seen, either: scenes without detail, in which it takes much for rain.

    Args:
      pixels: of the image, its width times its height.
      known: those of the images that the network was trained on; None, not known, gives 1 alone.
    """
    coarsest = 0 if known is None else max(0, round(math.log2(pixels / known) / 2))
    return (2.0**coarsest, 2.0 ** (coarsest - 1)) if coarsest else AS_IT_IS


def check_scales(scales: Scales) -> None:
    """Raises ``InputError`` unless these are ``auto`` or some numbers of at least 1."""
    if isinstance(scales, str) and scales == "auto":
        return
    numbers = isinstance(scales, list | tuple) and all(isinstance(scale, int | float) for scale in scales)
    if not (numbers and scales and all(1 <= scale < math.inf for scale in scales)):
        given = " ".join(map(str, scales)) or "none" if numbers else shown(scales)
        raise InputError(f"scales must be auto or numbers of at least 1, not {given}")


def size_at(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width of an image, in pixels, when it is made smaller so many times."""
    height, width = (max(1, round(side / scale)) for side in size)
    return height, width


def restored_at(image: np.ndarray, scales: Sequence[float], restore: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Restores an image at one scale after the other.

    Args:
      image: uint8 (h, w, 3).
      scales: at least 1; an image is not made smaller than a pixel.
      restore: from uint8 (h, w, 3) to the same.

    Returns:
      As ``image``.
    """
    for scale in scales:
        image = restore(image) if scale == 1 else _changed(image, scale, restore)
    return image


def _changed(image: np.ndarray, scale: float, restore: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize(size_at((height, width), scale)[::-1], Image.Resampling.LANCZOS)
    small = np.asarray(small)
    change = restore(small).astype(np.float32) - small
    result = np.empty_like(image)
    for channel in range(3):
        # Channel by channel, as a large photograph in floats would take more memory than its restoring.
        larger = np.asarray(Image.fromarray(change[..., channel]).resize((width, height), Image.Resampling.BICUBIC))
        result[..., channel] = np.rint(np.clip(image[..., channel] + larger, 0.0, 255.0))
    return result
