"""Images too large for memory in tiles, which overlap by as far as the network looks: the result is that of the whole.

A deep network with squeeze-and-excitation looks over a thousand pixels far, if ever so little. As overlaps are computed
twice, they take a quarter of a tile at each end at most.

All ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import jax

from autoderain_jax.candidates import candidate
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import NetworkConfig

MAPS = 6
"""Feature maps of full resolution and the network's width that restoring an image takes at its peak, in float32. XLA's
analysis gives 5.1 for the packaged model, at any size."""
STEP = 64
"""Sides of tiles are multiples of so many pixels, or of four times the network's stride, all powers of two."""
LEAST = 256
"""Side of the smallest tiles in pixels."""
SHARE = 0.25
"""Of the device's memory, or of the machine's where the device is the CPU, restoring an image may take so much."""


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

    @property
    def counting(self) -> slice:
        """What counts of it, in the image."""
        return slice(self.first, self.last)

    @property
    def inner(self) -> slice:
        """The same, in the tile."""
        return slice(self.first - self.start, self.last - self.start)


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
            pooled = max(pool_window // 2, 2**level)
            total += pooled
    # Where the window would stick out of the image it lies all to one side, which happens to one of them in a row.
    return total + pooled


def largest_tile(config: NetworkConfig, limit: int) -> int:
    """Side in pixels of the largest square tile that takes at most ``limit`` bytes, or of the smallest there is."""
    return tile_side(config, int((limit / (MAPS * 4 * config.width)) ** 0.5))


def tile_side(config: NetworkConfig, most: int) -> int:
    """The largest side in pixels that a tile can have and is not more than ``most``, or the smallest there is."""
    step = max(STEP, 4 * config.stride)
    return max(most // step * step, -(-LEAST // step) * step)


def margin_of(config: NetworkConfig, tile: int, reach: int | None) -> int:
    """Pixels of a tile that do not count where it has a neighbour: as far as the network looks, or a quarter of it."""
    needed = tile if reach is None else -(-reach // config.stride) * config.stride
    return min(needed, tile // 4)


def spans(length: int, tile: int, margin: int) -> Iterator[Span]:
    """Tiles along one side of an image, all of one length, whose counting parts cover it once.

    Args:
      length: of the side, a multiple of the network's stride.
      tile: length of the tiles, more than ``2 * margin``; both multiples of the stride too.
      margin: what does not count where a tile has a neighbour.
    """
    if length <= tile:
        yield Span(0, length, 0, length)
        return
    first = 0
    while first < length:
        # A tile that would stick out moves inward.
        start = min(max(first - margin, 0), length - tile)
        last = length if start + tile == length else start + tile - margin
        yield Span(start, start + tile, first, last)
        first = last


def memory_limit() -> int:
    """Bytes that restoring an image may take: a quarter of what the device has."""
    device = jax.devices()[0]
    known = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
    return int(SHARE * (known or machine))
