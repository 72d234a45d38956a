"""Means over a window around every pixel, at the cost of a few: they are computed on a grid, and interpolated.

Neighbouring windows have nearly all pixels in common, so that every eighth of a window's side is often enough. All
ours; on pooling over windows as large as the training patches see Chu et al. (ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

CELLS = 8
"""Cells of the grid along a window's side, at least."""


def cell_of(side: int) -> int:
    """Side in pixels of the grid's cells, a power of two, for windows of a side in pixels."""
    return 1 << max((side // CELLS).bit_length() - 1, 0)


def window_means(x: jax.Array, side: int, lengths: Sequence[int | jax.Array]) -> jax.Array:
    """Means over square windows around the grid's nodes, one at the beginning of every cell.

    At the border the window stays inside the image, whole. A window as large as the image gives its global mean.

    Args:
      x: (b, h, w, c), zero where there is no image.
      side: of the windows in pixels, to the nearest cell.
      lengths: height and width of the image.

    Returns:
      (b, ceil(h / cell), ceil(w / cell), c), float32.
    """
    cell = cell_of(side)
    x = x.astype(jnp.float32)
    for axis, length in zip((1, 2), lengths, strict=True):
        cells = -(-x.shape[axis] // cell)
        window = max(round(side / cell), 1)
        sums = _sum_cells(x, axis, cell)
        counts = jnp.clip(length - cell * jnp.arange(cells), 0, cell).astype(jnp.float32)
        # Each window is summed for itself, so that its mean does not depend on where in the image it is. From the last
        # cells on there is nothing but zeros; where an image is smaller than a window, they leave it its own mean.
        shape, behind = [1] * 4, [(0, 0)] * 4
        shape[axis], behind[axis] = window, (0, window - 1)
        sums = lax.reduce_window(sums, 0.0, lax.add, shape, [1] * 4, behind)
        counts = lax.reduce_window(counts, 0.0, lax.add, [window], [1], [(0, window - 1)])
        filled = -(-length // cell)
        starts = jnp.clip(jnp.arange(cells) - window // 2, 0, jnp.maximum(filled - window, 0))
        x = jnp.take(sums, starts, axis) / jnp.expand_dims(jnp.take(counts, starts), [i for i in range(4) if i != axis])
    return x


def spread(nodes: jax.Array, side: int, size: tuple[int, int]) -> jax.Array:
    """Interpolates between the nodes of ``window_means``: (b, cells, cells, c) to (b, height, width, c)."""
    cell = cell_of(side)
    for axis, length in zip((1, 2), size, strict=True):
        after = jnp.concatenate(
            [lax.slice_in_dim(nodes, 1, None, axis=axis), lax.slice_in_dim(nodes, -1, None, axis=axis)], axis
        )
        shares = (jnp.arange(cell, dtype=nodes.dtype) / cell).reshape([cell] + [1] * (3 - axis))
        before, after = (jnp.expand_dims(n, axis + 1) for n in (nodes, after))
        between = before + shares * (after - before)
        merged = (*nodes.shape[:axis], nodes.shape[axis] * cell, *nodes.shape[axis + 1 :])
        nodes = lax.slice_in_dim(between.reshape(merged), 0, length, axis=axis)
    return nodes


def _sum_cells(x: jax.Array, axis: int, cell: int) -> jax.Array:
    """Sums of every ``cell`` pixels along an axis; the last may be incomplete."""
    if cell == 1:
        return x
    pad = [(0, 0)] * 4
    pad[axis] = (0, -x.shape[axis] % cell)
    x = jnp.pad(x, pad)
    return x.reshape(*x.shape[:axis], x.shape[axis] // cell, cell, *x.shape[axis + 1 :]).sum(axis + 1)
