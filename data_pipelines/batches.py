"""Training batches by the way that suits the data: cut on the device where they fit on it, else through tf.data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from autoderain_jax import memory
from autoderain_jax.errors import InputError
from autoderain_jax.parallel import Layout
from data_pipelines.device_stream import MOST_PIXELS, DeviceBatch, cut, device_batches
from data_pipelines.pairs import Pairs
from data_pipelines.sampling import Sampling, sample_patches, sample_rain

Stream = Literal["auto", "device", "tf"]
Batch = Mapping[str, jax.typing.ArrayLike] | DeviceBatch

HOST_BYTES = 2**30
"""Most bytes of pixels that ``auto`` keeps where the devices are the CPU's, of which each has its own."""
DEVICE_SHARE = 1 / 8
"""Most of an accelerator's memory that ``auto`` fills with pixels."""


def batches(
    pairs: Pairs,
    sampling: Sampling,
    *,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    parts: int = 1,
    stream: Stream = "auto",
    layout: Layout | None = None,
) -> Iterator[Batch]:
    """Batches ``start``, ``start + 1``, ... without end; each a function of (seed, step) alone, whatever the stream.

    Args:
      pairs: where patches come from.
      sampling: what decides about them.
      start: first step, at no cost: nothing before it is read.
      shard: (index, count) of the process; it gets its share of every batch.
      parts: how many elements of the iterator make up a batch.
      stream: ``device`` (pixels on the device, patches cut inside the step), ``tf`` (tf.data), or ``auto``: the first
        where they fit.
      layout: of the devices that share the batches; None for the default device.

    Returns:
      An iterator of what ``as_floats`` takes.

    Raises:
      InputError: an image is smaller than the patch or cannot be read, the batch cannot be shared equally, or there are
        too many pixels for the device.
    """
    options = {"start": start, "shard": shard, "parts": parts}
    if stream == "device" or (stream == "auto" and fits(pairs)):
        return device_batches(pairs, sampling, **options, layout=layout)
    try:
        from data_pipelines.stream import numpy_batches  # TensorFlow takes seconds to import
    except ModuleNotFoundError as error:
        raise InputError(
            f"--stream tf, for data of any size, needs {error.name}: pip install tensorflow tensorflow-datasets"
        ) from None

    stream = numpy_batches(pairs, sampling, **options)
    return map(layout.place_share, stream) if layout else stream


def origin(pairs: Pairs, sampling: Sampling, step: int) -> str:
    """The names of the images that the patches of a batch are from, and their rain, in words."""
    drawn = [draw(pairs.sizes, sampling, step) for draw in (sample_patches, sample_rain)]
    images = sorted({index for patches in drawn if patches is not None for index in patches.image.tolist()})
    return f"patches of {', '.join(pairs[index].name for index in images)}"


def fits(pairs: Pairs) -> bool:
    """Whether ``auto`` puts the pixels of a data set on the device: of several processes, all do or none.

    All must ask, as they run the same programs.
    """
    available = memory.of_accelerator()
    limit = DEVICE_SHARE * available if available else HOST_BYTES / jax.local_device_count()
    here = pairs.nbytes <= limit and pairs.nbytes // 6 <= MOST_PIXELS
    return here if jax.process_count() == 1 else bool(process_allgather(np.array(here)).all())


def as_floats(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """A batch as (rainy, clean), float32 (batch, patch, patch, 3) in [0, 1]; for use inside jitted functions."""
    images = cut(batch) if isinstance(batch, DeviceBatch) else batch
    return tuple(jnp.asarray(images[name], jnp.float32) / 255.0 for name in ("rainy", "clean"))
