"""Which patches make up which batch: a pure function of (seed, step), the same on every machine.

Each epoch visits every image once, in an order of its own. A batch can be computed without those before it, so that a
run resumes at step n in no time with exactly the batches n, n + 1, ...

Numbers come straight from the Philox counter (Salmon et al., SC 2011), whose output is fixed for all time, while the
methods of ``numpy.random.Generator`` may change between releases.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from autoderain_jax.errors import InputError


class Patches(NamedTuple):
    """One batch of square patches; each field is an int64 array (batch,), ``flip`` a bool one.

    Attributes:
      image: index of the image.
      top, left: upper left corner in pixels.
      flip: mirrored left to right. Never upside down: rain falls.
    """

    image: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray


def sample_patches(
    sizes: np.ndarray, patch: int, batch: int, seed: int, step: int, shard: tuple[int, int] = (0, 1)
) -> Patches:
    """Draws batch ``step`` of stream ``seed``, or a process's share of it.

    Args:
      sizes: (images, 2) heights and widths in pixels, none below ``patch``.
      patch: side of the patches in pixels.
      batch: patches per batch.
      seed, step: what is drawn depends on these, ``sizes`` and the other arguments alone.
      shard: (index, count) of the process: it gets the patches that lie in its place when the batch is cut into
        ``count`` equal runs, so that all shards together are the batch.

    Raises:
      InputError: the batch cannot be cut into so many equal shards.
    """
    images = len(sizes)
    positions = np.arange(step * batch, (step + 1) * batch)
    image = np.array([_epoch_order(images, seed, int(p) // images)[int(p) % images] for p in positions])
    bits = _random_bits(seed, _PATCHES, step, 3 * batch).reshape(3, batch)
    top, left = (_below(bits[axis], sizes[image, axis] - patch + 1) for axis in (0, 1))
    whole = Patches(image, top, left, _below(bits[2], np.full(batch, 2)).astype(bool))
    index, count = shard
    if batch % count:
        raise InputError(f"--batch {batch} cannot be shared equally among {count} processes")
    mine = slice(index * batch // count, (index + 1) * batch // count)
    return Patches(*(field[mine] for field in whole))


def turn(position: int, parts: int, shard: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Of batches taken in equal parts one after the other, the step of part ``position``, and its shard of that batch.

    Args:
      position: counts parts from step 0 on.
      parts: of each batch.
      shard: (index, count) of the process, which gets its share of every part.
    """
    step, part = divmod(position, parts)
    index, count = shard
    return step, (part * count + index, parts * count)


_PATCHES, _ORDER = 0, 1


def _random_bits(seed: int, purpose: int, index: int, count: int) -> np.ndarray:
    """``count`` random uint32 values."""
    philox = np.random.Philox(key=[np.uint64(seed), np.uint64(purpose)], counter=[0, 0, np.uint64(index), 0])
    return (philox.random_raw(count) >> np.uint64(32)).astype(np.int64)


def _below(bits: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Scales 32 random bits to an integer in [0, limit)."""
    return (bits * limit) >> 32


@functools.lru_cache(maxsize=4)
def _epoch_order(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.argsort(_random_bits(seed, _ORDER, epoch, images), kind="stable")
