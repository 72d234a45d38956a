"""Batches for data sets that fit on the accelerator: pixels stay there as uint8, and the jitted step cuts its patches.

The host sends a few integers a step, drawn by the same plan as for ``stream``, so that both give the same patches bit
for bit. TensorFlow is not needed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax import memory
from autoderain_jax.errors import InputError
from autoderain_jax.parallel import Layout
from data_pipelines.pairs import Pairs
from data_pipelines.sampling import Patches, Sampling, sample_patches, sample_rain, turn

MOST_PIXELS = 2**31 - 1
"""Pixels are counted by int32."""


@flax.struct.dataclass
class DeviceImages:
    """All pairs of a data set, one after the other.

    Attributes:
      pixels: uint8 (pixels of all pairs, 6), row by row, rainy RGB then clean RGB.
      start: int32 (pairs,), where each pair begins in ``pixels``.
      width: int32 (pairs,), of each pair in pixels.
    """

    pixels: jax.Array
    start: jax.Array
    width: jax.Array


@flax.struct.dataclass
class DeviceBatch:
    """A batch not yet cut out.

    Attributes:
      images: what it is cut from.
      patches: where; int32 (batch,) each, ``flip`` bool.
      rain: where their rain is from, if not all have their own.
      patch: side of the patches in pixels, static.
    """

    images: DeviceImages
    patches: Patches
    rain: Patches | None
    patch: int = flax.struct.field(pytree_node=False)


def cut(batch: DeviceBatch) -> dict[str, jax.Array]:
    """Cuts a batch out, inside a jitted function: ``{"rainy": uint8 (batch, patch, patch, 3), "clean": the same}``."""
    patches = _cut(batch.images, batch.patches, batch.patch)
    rainy, clean = patches[..., :3], patches[..., 3:]
    if batch.rain is not None:
        rained = _cut(batch.images, batch.rain, batch.patch).astype(jnp.int16)
        rainy = jnp.clip(clean + rained[..., :3] - rained[..., 3:], 0, 255).astype(jnp.uint8)
    return {"rainy": rainy, "clean": clean}


def _cut(images: DeviceImages, where: Patches, side: int) -> jax.Array:
    """Patches of both, uint8 (batch, side, side, 6)."""
    rows = where.top[:, None] + jnp.arange(side)
    first = images.start[where.image][:, None] + rows * images.width[where.image][:, None] + where.left[:, None]
    runs = jax.vmap(lambda pixel: jax.lax.dynamic_slice(images.pixels, (pixel, 0), (side, 6)))(first.ravel())
    patches = runs.reshape(-1, side, side, 6)
    return jnp.where(where.flip[:, None, None, None], patches[:, :, ::-1], patches)


def put(pairs: Pairs, layout: Layout | None = None) -> DeviceImages:
    """Reads all pairs and puts them on the default device, or on all of a layout.

    Raises:
      InputError: an image cannot be read, or the pixels do not fit into memory or are more than int32 counts.
    """
    counts = np.prod(pairs.sizes, axis=1, dtype=np.int64)
    if counts.sum() > MOST_PIXELS:
        raise InputError(f"--stream device: the data have {counts.sum():,} pixels, more than {MOST_PIXELS:,}; use tf")
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    available = memory.of_accelerator()
    if available and pairs.nbytes > available:
        raise InputError(f"--stream device: the data take {pairs.nbytes:,} bytes, the device has {available:,}; use tf")
    try:
        pixels = np.empty((counts.sum(), 6), np.uint8)
    except MemoryError:
        raise InputError(f"--stream device: the data take {pairs.nbytes:,} bytes of memory; use tf") from None

    def read(index: int) -> None:
        pixels[start[index] : start[index] + counts[index]] = pairs[index].load().reshape(-1, 6)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, range(len(pairs))))
    images = DeviceImages(pixels, start.astype(np.int32), pairs.sizes[:, 1].astype(np.int32))
    return layout.place_whole(images) if layout else jax.tree.map(jnp.asarray, images)


def device_batches(
    pairs: Pairs,
    sampling: Sampling,
    *,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    parts: int = 1,
    layout: Layout | None = None,
) -> Iterator[DeviceBatch]:
    """The batches of ``stream.patch_stream``, arguments as there, to be cut out by ``cut`` inside the step.

    All images are read at once, before the first batch is asked for.

    Args:
      layout: of the devices on which images lie and by which patches are shared; None for the default device.

    Raises:
      InputError: as for ``put``; an image is smaller than the patch; or the batch cannot be shared equally.
    """
    pairs.require_patch(sampling.patch)
    sizes = pairs.sizes
    sample_patches(sizes, sampling, *turn(start * parts, parts, shard))
    images = put(pairs, layout)

    def draw(position: int) -> DeviceBatch:
        where = turn(position, parts, shard)
        drawn = sample_patches(sizes, sampling, *where), sample_rain(sizes, sampling, *where)
        drawn = jax.tree.map(lambda field: field if field.dtype == bool else field.astype(np.int32), drawn)
        return DeviceBatch(images, *(layout.place_share(drawn) if layout else drawn), sampling.patch)

    return map(draw, itertools.count(start * parts))
