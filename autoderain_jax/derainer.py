"""A pretrained model as a function from photograph to photograph."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, overload

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from autoderain_jax.blocks import Extent
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet
from autoderain_jax.orientation import upright, upright_size
from autoderain_jax.scales import Scales, check_scales, octaves, restored_at, size_at
from autoderain_jax.sizes import PRICE, PRICES, Size, Sizes
from autoderain_jax.tiles import Span, cuts, grid, largest_tile, lay, margin_of, memory_limit, reach, tile_side

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow images whose colours RGB of 8 bits holds."""
Ensemble = Literal[1, 4, 8]
"""How many orientations of an image are restored."""
Dtype = Literal["float32", "bfloat16"]
"""Precision of the computation."""


class Derainer:
    """Removes rain from images of any size, in tiles where they would take too much memory.

    Programs are compiled for few sizes, see ``sizes``, and images of others run in larger ones: the result is the same
    but for rounding. So it is in tiles that are four times as large as the network looks far; smaller ones overlap by a
    quarter. A long list of images takes fewer programs than one after the other do, unless ``expect`` was told.

    Example:
      derainer = Derainer.from_pretrained()
      restored = derainer(Image.open("rainy.jpg"))

    Args:
      model: the network and its weights.
      memory: bytes that restoring an image may take, as far as tiles of 256 pixels allow; by default a quarter of what
        the device has, and not more than 2.5 GB of a CPU's.
      ensemble: how many orientations of the image to restore, and take the mean of: 1; 4, as it is, mirrored, upside
        down and both, a little better and four times as slow; or 8, these also turned by a quarter, as the literature
        has it (Timofte et al., CVPR 2016). Networks that were trained on rain that falls do not see it then.
      dtype: precision of the computation, ``float32`` or ``bfloat16``, which is faster on a GPU and takes less memory;
        by default the model's own.
      scales: by how much the image is made smaller for each restoring of it, as rain in large photographs is wider than
        a network knows: numbers of at least 1, or ``auto``, the octave that is nearest to the size of the images that
        the network was trained on and the next finer one. It is 1 alone, which is the network as it is, for images of
        up to twice as many pixels, and where their size is not known.

    Attributes:
      model, ensemble, scales: as given.
      programs: (height, width) of those compiled so far.
      first_runs: seconds that the first run of each of them took, compiling included.

    Raises:
      ValueError: an ensemble of another number, an unknown precision, or scales below 1.
    """

    def __init__(
        self,
        model: Model,
        memory: int | None = None,
        ensemble: Ensemble = 1,
        dtype: Dtype | None = None,
        scales: Scales = "auto",
    ):
        if type(ensemble) is not int or ensemble not in get_args(Ensemble):
            raise ValueError(f"ensemble must be 1, 4 or 8, not {ensemble}")
        if dtype not in (None, *get_args(Dtype)):
            raise ValueError(f"dtype must be float32 or bfloat16, not {dtype}")
        check_scales(scales)
        self.model, self.ensemble, self.scales = model, ensemble, scales
        config = dataclasses.replace(model.config, dtype=dtype or model.config.dtype)
        network = dataclasses.replace(model, config=config).network()
        # What is restored takes the place of the image.
        self._restore = jax.jit(lambda *args: _restore(network, *args), donate_argnums=1)
        self._sizes = _sizes(model)
        self.programs: set[Size] = set()
        self.first_runs = 0.0
        self._tried: Size = (0, 0)
        self._variables = jax.device_put({"params": model.params})
        self._reach = reach(model.config, model.genotype, model.pool_window)
        # Only inside of linear choices, whose reach is known, it is known what to clear.
        self._clears = self._reach is not None
        self._grid = grid(model.config, model.pool_window)
        self._tile = tile_side(largest_tile(model.config, memory_limit() if memory is None else memory), self._grid)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, **options: Any) -> Derainer:
        """Loads a model: a folder, or one that comes with the package: ``photo``, as None does, ``fast`` or ``best``.

        Options are as for the class.

        Raises:
          InputError: the folder is missing, incomplete or of another version.
        """
        return cls(Model.load(path), **options)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the model to a folder: ``weights.safetensors`` and ``model.json``."""
        self.model.save(path)

    def with_params(self, params: Mapping[str, Any]) -> Derainer:
        """The same network with other weights; what is compiled stays compiled."""
        other = copy.copy(self)
        other.model = dataclasses.replace(self.model, params=params)
        other._variables = jax.device_put({"params": params})
        # What is restored must not depend on what was before.
        other._sizes = _sizes(self.model)
        return other

    @overload
    def __call__(self, image: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, image: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Any]: ...

    def __call__(self, image):
        """Restores images.

        Args:
          image: uint8 RGB (h, w, 3); or (n, h, w, 3); or a Pillow image; or a list or tuple of these.

        Returns:
          The same kind: an array of the same shape; a Pillow image of mode RGB, upright, without transparency and
          metadata, which ``experiments.derain`` keeps; or a list.

        Raises:
          ValueError: another shape or dtype.
        """
        if isinstance(image, Image.Image):
            if image.mode not in MODES:
                raise ValueError(f"a derainer takes Pillow images of the modes {', '.join(MODES)}, not {image.mode}")
            return Image.fromarray(self(np.array(upright(image).convert("RGB"))))
        if isinstance(image, list | tuple):
            self.expect(_sizes_in(image))
            return [self(one) for one in image]
        if not hasattr(image, "dtype"):
            raise ValueError(f"a derainer takes arrays, Pillow images, and lists of these, not {type(image).__name__}")
        if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(
                f"a derainer takes uint8 RGB images (h, w, 3) or (n, h, w, 3), not {image.dtype} {image.shape}"
            )
        if image.ndim == 4:
            return np.stack([self(one) for one in image])
        return restored_at(np.asarray(image), self._scales_of(image.shape[:2]), self._in_orientations)

    def expect(self, sizes: Iterable[Size]) -> None:
        """Tells of images to come, in any order, so that fewer programs are compiled, and these fit better.

        Args:
          sizes: (height, width) of each in pixels, upright. Others may come, too.
        """
        parts: list[Size] = []
        for size in sizes:
            for scale in self._scales_of(size):
                smaller = size_at(size, scale)
                for height, width in [smaller, smaller[::-1]][: 2 if self.ensemble == 8 else 1]:
                    padded = (height + self._padding(height), width + self._padding(width))
                    rows, columns = self._cuts(padded, self._tile)
                    parts += [(row.stop - row.start, column.stop - column.start) for row in rows for column in columns]
        if self._clears:
            self._sizes.plan(parts, self._tile**2)

    def _scales_of(self, size: Size) -> tuple[float, ...]:
        return octaves(size[0] * size[1], self.model.image_pixels) if self.scales == "auto" else self.scales

    def _in_orientations(self, image: np.ndarray) -> np.ndarray:
        if self.ensemble == 1:
            return self._within_memory(image)
        turns = [np.s_[::up, ::left] for up in (1, -1) for left in (1, -1)]
        restored = [self._within_memory(image[turn])[turn] for turn in turns]
        if self.ensemble == 8:
            turned = image.swapaxes(0, 1)
            restored += [self._within_memory(turned[turn])[turn].swapaxes(0, 1) for turn in turns]
        return np.rint(np.mean(restored, 0, dtype=np.float32)).astype(np.uint8)

    def _within_memory(self, image: np.ndarray) -> np.ndarray:
        while True:
            try:
                return self._in_tiles(image, self._tile)
            except jax.errors.JaxRuntimeError as error:
                tried = math.isqrt(self._tried[0] * self._tried[1])
                smaller = tile_side(tried // 2, self._grid)
                if "RESOURCE_EXHAUSTED" not in str(error) or tried <= smaller:
                    raise
                self._tile = smaller

    def _in_tiles(self, image: np.ndarray, tile: int) -> np.ndarray:
        height, width = image.shape[:2]
        # As the network pads, so that tiles begin where pixels of its lowest resolution do.
        padded = np.pad(image, ((0, self._padding(height)), (0, self._padding(width)), (0, 0)), "reflect")
        restored, margin = np.empty_like(padded), margin_of(tile, self._reach, self._grid)
        fade = margin // 2 if self._reach is None or margin < self._reach else 0
        rows, columns = self._cuts(padded.shape[:2], tile)
        for row in rows:
            strip = np.empty_like(padded[row.whole])
            for column in columns:
                part = self._run(padded[row.whole, column.whole], tile)
                lay(strip.swapaxes(0, 1), part.swapaxes(0, 1), column, fade)
            lay(restored, strip, row, fade)
        return restored[:height, :width]

    def _padding(self, side: int) -> int:
        return -side % self.model.config.stride

    def _cuts(self, size: Size, tile: int) -> tuple[list[Span], list[Span]]:
        return cuts(size, tile, margin_of(tile, self._reach, self._grid), self._grid)

    def _run(self, image: np.ndarray, tile: int) -> np.ndarray:
        """Restores an image whose sides are multiples of the stride, in a program of its size or a larger one."""
        height, width = image.shape[:2]
        size = self._sizes.choose((height, width), tile**2) if self._clears else (height, width)
        if size != (height, width):
            image = np.pad(image, ((0, size[0] - height), (0, size[1] - width), (0, 0)))
        self._tried, began = size, time.perf_counter()
        restored = np.asarray(self._restore(self._variables, image, np.int32(height), np.int32(width)))
        if size not in self.programs:
            self.programs.add(size)
            self.first_runs += time.perf_counter() - began
        return restored[:height, :width]


def _sizes_in(images: Iterable[Any]) -> Iterator[Size]:
    """The sizes of images as a derainer takes them; what is none is passed over."""
    for image in images:
        if isinstance(image, Image.Image):
            yield upright_size(image)
        elif isinstance(image, list | tuple):
            yield from _sizes_in(image)
        elif getattr(image, "ndim", None) in (3, 4) and 0 not in image.shape:
            yield from [tuple(image.shape[-3:-1])] * (len(image) if image.ndim == 4 else 1)


def _sizes(model: Model) -> Sizes:
    return Sizes(model.config.stride, PRICES.get(jax.default_backend(), PRICE))


def _restore(network: DerainNet, variables: Mapping[str, Any], image: jax.Array, height, width) -> jax.Array:
    """From uint8 (h, w, 3), of which so much is image, to uint8, rounded as ``metrics.to_uint8`` does."""
    rainy = image[None].astype(jnp.float32) / 255.0
    restored = network.apply(variables, rainy, extent=Extent(height, width))[0]
    return jnp.round(jnp.clip(restored, 0.0, 1.0) * 255.0).astype(jnp.uint8)
