"""Batches of aligned rainy/clean patches through tf.data: images are read when first drawn, and kept where they fit.

``device_stream`` gives the same patches without the host; ``batches`` chooses between the two.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Generator

import numpy as np

from autoderain_jax.errors import InputError
from data_pipelines.pairs import Pairs
from data_pipelines.quiet_tf import tf
from data_pipelines.sampling import Patches, Sampling, sample_patches, sample_rain, turn

AHEAD = 4
"""Batches prepared in advance."""
WORKERS = 2
"""Threads that prepare them."""

_streams: weakref.WeakSet[Generator] = weakref.WeakSet()


@atexit.register
def _close_streams() -> None:
    """Ends all streams while Python still runs: at exit one would wait for its threads, and they for Python."""
    for stream in list(_streams):
        stream.close()


def patch_batch(
    pairs: Pairs, sizes: np.ndarray, sampling: Sampling, step: int, shard: tuple[int, int] = (0, 1)
) -> np.ndarray:
    """Batch ``step``, or a process's share of it, as uint8 (patches, patch, patch, 6), rainy RGB then clean RGB."""
    patches = _cut(pairs, sample_patches(sizes, sampling, step, shard), sampling.patch)
    rain = sample_rain(sizes, sampling, step, shard)
    if rain is not None:
        rained = _cut(pairs, rain, sampling.patch).astype(np.int16)
        patches[..., :3] = np.clip(patches[..., 3:] + rained[..., :3] - rained[..., 3:], 0, 255)
    return patches


def _cut(pairs: Pairs, where: Patches, side: int) -> np.ndarray:
    patches = []
    for image, top, left, flip in zip(*where, strict=True):
        crop = pairs.image(int(image))[top : top + side, left : left + side]
        patches.append(crop[:, ::-1] if flip else crop)
    return np.stack(patches)


def patch_stream(
    pairs: Pairs,
    sampling: Sampling,
    *,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    parts: int = 1,
) -> tf.data.Dataset:
    """Batches ``start``, ``start + 1``, ... without end; each a function of (seed, step) alone.

    Args:
      pairs: where patches come from.
      sampling: what decides about them.
      start: first step, at no cost: nothing before it is read.
      shard: (index, count) of the process; it gets its share of every batch.
      parts: how many elements make up a batch.

    Returns:
      A dataset of ``{"rainy": uint8 (patches, patch, patch, 3), "clean": the same}``.

    Raises:
      InputError: an image is smaller than the patch, or the batch cannot be shared equally.
    """
    load, shape = _loader(pairs, sampling, shard, parts)
    return _dataset(load, shape, start * parts)


def numpy_batches(
    pairs: Pairs, sampling: Sampling, *, start: int = 0, shard: tuple[int, int] = (0, 1), parts: int = 1
) -> Generator[dict[str, np.ndarray], None, None]:
    """The batches of ``patch_stream``, arguments as there, as NumPy arrays.

    Raises:
      InputError: an image is smaller than the patch, or cannot be read; the batch before it is the last.
    """
    stream = _numpy_batches(pairs, sampling, start, shard, parts)
    _streams.add(stream)
    return stream


def _numpy_batches(pairs, sampling, start, shard, parts):
    load, shape = _loader(pairs, sampling, shard, parts)
    failures: dict[int, InputError] = {}

    def guarded(position: int) -> np.ndarray:
        # An exception inside TensorFlow would be logged with its traceback, so it waits here for its batch.
        try:
            return load(position)
        except InputError as error:
            failures[position] = error
            return np.zeros(shape, np.uint8)

    dataset = _dataset(guarded, shape, start * parts)
    for position, content in enumerate(dataset.as_numpy_iterator(), start * parts):
        if position in failures:
            raise failures[position]
        yield content


def _loader(
    pairs: Pairs, sampling: Sampling, shard: tuple[int, int], parts: int
) -> tuple[Callable[[int], np.ndarray], tuple[int, ...]]:
    """What gives a part of a batch by its position, and the shape of each."""
    pairs.require_patch(sampling.patch)
    sizes = pairs.sizes
    sample_patches(sizes, sampling, *turn(0, parts, shard))
    shape = (sampling.batch // (shard[1] * parts), sampling.patch, sampling.patch, 6)
    return lambda position: patch_batch(pairs, sizes, sampling, *turn(position, parts, shard)), shape


def _dataset(load: Callable[[int], np.ndarray], shape: tuple[int, ...], start: int) -> tf.data.Dataset:
    def split(position):
        both = tf.numpy_function(lambda position: load(int(position)), [position], tf.uint8, stateful=False)
        both = tf.ensure_shape(both, shape)
        return {"rainy": both[..., :3], "clean": both[..., 3:]}

    options = tf.data.Options()
    options.threading.private_threadpool_size = WORKERS
    options.deterministic = True
    positions = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    return positions.map(split, num_parallel_calls=WORKERS).prefetch(AHEAD).with_options(options)
