"""A pretrained model as a function from photograph to photograph."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet
from autoderain_jax.tiles import STEP, largest_tile, memory_limit, reach, spans

PRETRAINED = Path(__file__).parent / "pretrained"
"""The model that comes with the package."""


class Derainer:
    """Removes rain from images of any size, in tiles where they would take too much memory.

    Example:
      derainer = Derainer.from_pretrained()
      restored = derainer(np.asarray(Image.open("rainy.jpg").convert("RGB")))

    Args:
      model: the network and its weights.
      memory: bytes that restoring an image may take; by default a quarter of what the device has.

    Attributes:
      model: as given.
    """

    def __init__(self, model: Model, memory: int | None = None):
        self.model = model
        network = model.network()
        self._apply = jax.jit(lambda variables, image: _restore(network, variables, image))
        self._variables = jax.device_put({"params": model.params})
        stride = model.config.stride
        self._margin = -(-reach(model.config, model.genotype, model.pool_window) // stride) * stride
        self._tile = largest_tile(model.config, memory_limit() if memory is None else memory)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, memory: int | None = None) -> Derainer:
        """Loads the model folder ``path``, by default the model that comes with the package.

        Raises:
          InputError: the folder is missing, incomplete or of another version.
        """
        return cls(Model.load(PRETRAINED if path is None else path), memory)

    def with_params(self, params: Mapping[str, Any]) -> Derainer:
        """The same network with other weights; what is compiled stays compiled."""
        other = copy.copy(self)
        other.model = dataclasses.replace(self.model, params=params)
        other._variables = {"params": params}
        return other

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Restores one image, uint8 RGB (h, w, 3) in and out. Each new size of images, or of tiles, is compiled once.

        Raises:
          ValueError: another shape or dtype.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(f"a derainer takes uint8 RGB images (h, w, 3), not {image.dtype} {image.shape}")
        # With smaller tiles most of the work would be done on what they overlap by.
        least = 2 * self._margin + STEP
        while True:
            tile = max(self._tile, least)
            try:
                return self._in_tiles(image, tile)
            except jax.errors.JaxRuntimeError as error:
                tried = min(tile, math.isqrt(image.shape[0] * image.shape[1]))
                if "RESOURCE_EXHAUSTED" not in str(error) or tried <= least:
                    raise
                self._tile = tried // 2 // STEP * STEP

    def _in_tiles(self, image: np.ndarray, tile: int) -> np.ndarray:
        height, width = image.shape[:2]
        if height * width <= tile**2:
            return np.asarray(self._apply(self._variables, image))
        # Padded as the network does it, so that tiles begin where pixels of its lowest resolution do.
        pad = [(0, -size % self.model.config.stride) for size in (height, width)]
        padded = np.pad(image, (*pad, (0, 0)), "reflect")
        restored = np.empty_like(padded)
        for row in spans(padded.shape[0], tile, self._margin):
            for column in spans(padded.shape[1], tile, self._margin):
                tile_restored = np.asarray(self._apply(self._variables, padded[row.whole, column.whole]))
                restored[row.counting, column.counting] = tile_restored[row.inner, column.inner]
        return restored[:height, :width]


def _restore(network: DerainNet, variables: Mapping[str, Any], image: jax.Array) -> jax.Array:
    """From uint8 (h, w, 3) to uint8, rounded as ``metrics.to_uint8`` does."""
    restored = network.apply(variables, image[None].astype(jnp.float32) / 255.0)[0]
    return jnp.round(jnp.clip(restored, 0.0, 1.0) * 255.0).astype(jnp.uint8)
