"""A pretrained model as a function from photograph to photograph."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.metrics import to_uint8
from autoderain_jax.model import Model

PRETRAINED = Path(__file__).parent / "pretrained"
"""The model that comes with the package."""


class Derainer:
    """Removes rain from images of any size.

    Example:
      derainer = Derainer.from_pretrained()
      restored = derainer(np.asarray(Image.open("rainy.jpg").convert("RGB")))

    Attributes:
      model: the network and its weights.
    """

    def __init__(self, model: Model):
        self.model = model
        self._apply = jax.jit(model.network().apply)
        self._variables = jax.device_put({"params": model.params})

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Derainer:
        """Loads the model folder ``path``, by default the model that comes with the package.

        Raises:
          InputError: the folder is missing, incomplete or of another version.
        """
        return cls(Model.load(PRETRAINED if path is None else path))

    def with_params(self, params: Mapping[str, Any]) -> Derainer:
        """The same network with other weights; what is compiled stays compiled."""
        other = copy.copy(self)
        other.model = dataclasses.replace(self.model, params=params)
        other._variables = {"params": params}
        return other

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Restores one image, uint8 RGB (h, w, 3) in and out. Each new image size is compiled once.

        Raises:
          ValueError: another shape or dtype.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(f"a derainer takes uint8 RGB images (h, w, 3), not {image.dtype} {image.shape}")
        rainy = jnp.asarray(image, jnp.float32)[None] / 255.0
        return to_uint8(self._apply(self._variables, rainy)[0])
