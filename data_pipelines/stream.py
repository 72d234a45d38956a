"""Batches of aligned rainy/clean patches as a tf.data stream.

The one module that imports TensorFlow. It hides accelerators from it first, since TensorFlow would take their memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np

from autoderain_jax.errors import InputError
from data_pipelines.pairs import Pairs
from data_pipelines.sampling import sample_patches


@contextlib.contextmanager
def _quiet():
    """Silences what native code writes to standard error; Python's exceptions still arrive."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Importing TensorFlow, and asking it for accelerators, logs several lines of no concern to anyone.
with _quiet():
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")


def patch_batch(pairs: Pairs, sizes: np.ndarray, patch: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Batch ``step`` as uint8 (batch, patch, patch, 6), rainy RGB then clean RGB."""
    patches = []
    for image, top, left, flip in zip(*sample_patches(sizes, patch, batch, seed, step), strict=True):
        crop = pairs.image(int(image))[top : top + patch, left : left + patch]
        patches.append(crop[:, ::-1] if flip else crop)
    return np.stack(patches)


def patch_stream(
    pairs: Pairs, *, patch: int, batch: int, seed: int, start: int = 0, ahead: int = 4, workers: int = 2
) -> tf.data.Dataset:
    """Batches ``start``, ``start + 1``, ... without end; each a function of (seed, step) alone.

    Args:
      pairs: where patches come from.
      patch: side of the patches in pixels.
      batch: patches per batch.
      seed: of the stream.
      start: first step, at no cost: nothing before it is read.
      ahead: batches prepared in advance.
      workers: threads that prepare them.

    Returns:
      A dataset of ``{"rainy": uint8 (batch, patch, patch, 3), "clean": the same}``.

    Raises:
      InputError: an image is smaller than the patch.
    """
    pairs.require_patch(patch)
    sizes = np.array([pair.size for pair in pairs])

    def load(step):
        both = tf.numpy_function(
            lambda step: patch_batch(pairs, sizes, patch, batch, seed, int(step)), [step], tf.uint8, stateful=False
        )
        both = tf.ensure_shape(both, (batch, patch, patch, 6))
        return {"rainy": both[..., :3], "clean": both[..., 3:]}

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.deterministic = True
    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    return steps.map(load, num_parallel_calls=workers).prefetch(ahead).with_options(options)


def numpy_batches(pairs: Pairs, **options) -> Iterator[dict[str, np.ndarray]]:
    """The batches of ``patch_stream`` as NumPy arrays; an unreadable image raises its own ``InputError`` here."""
    try:
        yield from patch_stream(pairs, **options).as_numpy_iterator()
    except tf.errors.OpError as error:
        # TensorFlow passes an exception of ours on as text in one of its own.
        _, found, sentence = error.message.partition("InputError: ")
        if not found:
            raise
        raise InputError(sentence.splitlines()[0]) from None
