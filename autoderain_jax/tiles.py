"""Images too large for memory in tiles, which overlap by as far as the network looks: the result is that of the whole.

A deep network with squeeze-and-excitation looks over a thousand pixels far, if ever so little. As overlaps are computed
twice, they take a quarter of a tile at each end at most; where that is less than the network's reach, neighbours fade
into each other, so that no seam shows.

All ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from autoderain_jax import memory
from autoderain_jax.candidates import candidate
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import NetworkConfig
from autoderain_jax.pooling import cell_of

MAPS = 6
"""Feature maps of full resolution and the network's width that restoring an image takes at its peak, in float32. XLA's
analysis gives 4.3 for the packaged model and 5.1 for one of separable convolutions, at any size."""
STEP = 64
"""Sides of tiles are multiples of so many pixels, or of four times the grid that they begin on, all powers of two."""
LEAST = 256
"""Side of the smallest tiles in pixels."""
SHARE = 0.25
"""Of the device's memory, or of the machine's where the device is the CPU, restoring an image may take so much."""
MOST_OF_MACHINE = 2.5e9
"""Bytes that it may take of a machine's memory, which others need too."""


class Span(NamedTuple):
    """Where a tile lies along one side of an image, and which part of it counts; all in pixels of the image."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def whole(self) -> slice:
        """The tile, in the image."""
        return slice(self.start, self.stop)


def reach(config: NetworkConfig, genotype: Genotype, pool_window: int) -> int | None:
    """How far, in pixels, a restored pixel may depend on the rainy ones: half the receptive field, at most.

    Args:
      config: shape of the network.
      genotype: its architecture.
      pool_window: side of the window that squeeze-and-excitation pools over, in pixels.

    Returns:
      None if it is not known, as with candidates that are not linear.
    """
    # Stem and head, and on every level below two pixels that are resampled together on the way down and up.
    total = 2 + sum(2 * 2**level for level in range(1, len(config.blocks)))
    pooled = 0
    for block, level in config.block_names().items():
        row = genotype.blocks[block]
        for chosen in (candidate(row["conv_a"]), candidate(row["conv_b"])):
            if not chosen.linear:
                return None
            total += max(chosen.extent) // 2 * 2**level
        if row["se"] == "on":
            side = max(pool_window >> level, 1)
            cell = cell_of(side)
            # Half a window, and the next node that is interpolated from.
            pooled = (-(-round(side / cell) // 2) + 1) * cell * 2**level
            total += pooled
    # Where the window would stick out of the image it lies all to one side, which happens to one of them in a row.
    return total + pooled


def grid(config: NetworkConfig, pool_window: int) -> int:
    """Pixels that tiles begin at multiples of, a power of two: so do lower resolutions and the cells of pooling."""
    levels = range(len(config.blocks))
    return max(config.stride, *(cell_of(max(pool_window >> level, 1)) << level for level in levels))


def largest_tile(config: NetworkConfig, limit: int) -> int:
    """Side in pixels of the largest square image that takes at most ``limit`` bytes."""
    return int((limit / (MAPS * 4 * config.width)) ** 0.5)


def tile_side(most: int, grid: int) -> int:
    """The largest side in pixels that a tile can have and is not more than ``most``, or the smallest there is."""
    step = max(STEP, 4 * grid)
    return max(most // step * step, -(-LEAST // step) * step)


def margin_of(tile: int, reach: int | None, grid: int) -> int:
    """Pixels of a tile that do not count where it has a neighbour: as far as the network looks, or a quarter of it."""
    needed = tile if reach is None else -(-reach // grid) * grid
    return min(needed, tile // 4)


def cuts(size: tuple[int, int], tile: int, margin: int, grid: int) -> tuple[list[Span], list[Span]]:
    """Rows and columns of the tiles that an image is cut into, one of each if it has no more pixels than a tile.

    Args:
      size: height and width of the image.
      tile, margin, grid: as for ``spans``; of an image that is not as high as a tile, tiles may be wider.
    """
    height, width = size
    if height * width <= tile**2:
        return [Span(0, height, 0, height)], [Span(0, width, 0, width)]
    wide = tile_side(tile**2 // min(height, tile), grid)
    return list(spans(height, tile, margin, grid)), list(spans(width, wide, margin, grid))


def spans(length: int, tile: int, margin: int, grid: int) -> Iterator[Span]:
    """Tiles along one side of an image, of one length but for the last, whose counting parts cover it once.

    Args:
      length: of the side.
      tile: most that a tile may have, more than ``2 * margin``.
      margin: what does not count where a tile has a neighbour.
      grid: pixels that all tiles begin at multiples of; it divides ``tile`` and ``margin``.
    """
    if length <= tile:
        yield Span(0, length, 0, length)
        return
    # As few as can be, and these no larger than they need be.
    count = -(-(length - 2 * margin) // (tile - 2 * margin))
    tile = -(-(length + 2 * margin * (count - 1)) // (count * grid)) * grid
    first = 0
    while first < length:
        start = max(first - margin, 0)
        stop = min(start + tile, length)
        last = length if stop == length else stop - margin
        yield Span(start, stop, first, last)
        first = last


def lay(target: np.ndarray, part: np.ndarray, span: Span, fade: int) -> None:
    """Lays a tile, or a row of tiles, beside those before it along the first axis.

    Args:
      target: uint8 (length, ...), to be filled from its start; it is changed.
      part: uint8, what ``span.whole`` of it became.
      span: where it lies.
      fade: pixels, half before ``span.first`` and half behind, over which it replaces what was laid before; at most
        twice the margin. With 0 it is cut there.
    """
    fade = fade if span.start else 0
    first = span.first - fade // 2
    behind = min(first + fade, span.stop)
    if fade:
        share = ((np.arange(behind - first, dtype=np.float32) + 0.5) / fade).reshape(-1, *[1] * (part.ndim - 1))
        before, now = target[first:behind], part[first - span.start : behind - span.start]
        target[first:behind] = np.rint(before + share * (now.astype(np.float32) - before))
    target[behind : span.stop] = part[behind - span.start :]


def memory_limit() -> int:
    """Bytes that restoring an image may take: a quarter of what the device has, and not more than 2.5 GB of a CPU's."""
    known = memory.of_accelerator()
    return int(SHARE * known if known else min(SHARE * (memory.of_machine() or 8 * 2**30), MOST_OF_MACHINE))
