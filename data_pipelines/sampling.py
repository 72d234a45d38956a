"""Which patches make up which batch, and whose rain falls on them: a function of (seed, step), on every machine.

Each epoch visits every image once, in an order of its own. A batch can be computed without those before it, so that a
run resumes at step n in no time with exactly the batches n, n + 1, ...

Numbers come straight from the Philox counter (Salmon et al., SC 2011), whose output is fixed for all time, while the
methods of ``numpy.random.Generator`` may change between releases.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from autoderain_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What decides about batches.

    Attributes:
      patch: side of the square patches in pixels.
      batch: patches per batch, of all processes together.
      seed: of the stream.
      swap_rain: share of the patches, in [0, 1], whose rain is that of another patch, see ``sample_rain``.
    """

    patch: int
    batch: int
    seed: int
    swap_rain: float = 0.0


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


def sample_patches(sizes: np.ndarray, sampling: Sampling, step: int, shard: tuple[int, int] = (0, 1)) -> Patches:
    """Draws batch ``step``, or a process's share of it.

    Args:
      sizes: (images, 2) heights and widths in pixels, none below the patch's side.
      sampling, step: what is drawn depends on these, ``sizes`` and the shard alone.
      shard: (index, count) of the process: it gets the patches that lie in its place when the batch is cut into
        ``count`` equal runs, so that all shards together are the batch.

    Raises:
      InputError: the batch cannot be cut into so many equal shards.
    """
    return _share(_whole_batch(sizes, sampling, step), sampling, shard)


def sample_rain(sizes: np.ndarray, sampling: Sampling, step: int, shard: tuple[int, int] = (0, 1)) -> Patches | None:
    """Draws the patches whose rain falls in batch ``step``; arguments and errors as for ``sample_patches``.

    Returns:
      A share of ``swap_rain`` of them lie anywhere in any image, the others where the batch's own patches do; None if
      all do.
    """
    if not sampling.swap_rain:
        return None
    bits = _random_bits(sampling.seed, _RAIN, step, 5 * sampling.batch).reshape(5, sampling.batch)
    image = _below(bits[0], np.full(sampling.batch, len(sizes)))
    swapped = bits[1] < round(sampling.swap_rain * 2**32)
    other = _placed(sizes, sampling.patch, image, bits[2:])
    own = _whole_batch(sizes, sampling, step)
    mixed = Patches(*(np.where(swapped, *fields) for fields in zip(other, own, strict=True)))
    return _share(mixed, sampling, shard)


def _whole_batch(sizes: np.ndarray, sampling: Sampling, step: int) -> Patches:
    images, batch, seed = len(sizes), sampling.batch, sampling.seed
    positions = np.arange(step * batch, (step + 1) * batch)
    image = np.array([_epoch_order(images, seed, int(p) // images)[int(p) % images] for p in positions])
    return _placed(sizes, sampling.patch, image, _random_bits(seed, _PATCHES, step, 3 * batch).reshape(3, batch))


def _placed(sizes: np.ndarray, patch: int, image: np.ndarray, bits: np.ndarray) -> Patches:
    """Patches of these images, at places and mirrored as (3, batch) random bits say."""
    top, left = (_below(bits[axis], sizes[image, axis] - patch + 1) for axis in (0, 1))
    return Patches(image, top, left, _below(bits[2], np.full(len(image), 2)).astype(bool))


def _share(whole: Patches, sampling: Sampling, shard: tuple[int, int]) -> Patches:
    index, count = shard
    if sampling.batch % count:
        raise InputError(f"--batch {sampling.batch} cannot be shared equally among {count} processes")
    mine = slice(index * sampling.batch // count, (index + 1) * sampling.batch // count)
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


_PATCHES, _ORDER, _RAIN = 0, 1, 2


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
