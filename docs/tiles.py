"""Measures what docs/use.md says of images in tiles and of programs: ``python docs/tiles.py``, some minutes.

The photograph is one of scikit-image with synthetic rain, mirrored at its edges until it is large enough. ``--large``
restores one of 6000x4000 instead, and tells the memory of the process, and one of 3840x2160.
"""

import dataclasses
import resource
import sys

import numpy as np

from autoderain_jax import Derainer
from autoderain_jax.sizes import PRICES, Sizes
from autoderain_jax.tiles import MAPS, margin_of, spans, tile_side
from data_pipelines.synthetic import Rain, add_rain, photograph

derainer = Derainer.from_pretrained()
model = derainer.model


def rainy(height, width):
    """A photograph of any size."""
    small = photograph("coffee")
    clean = np.pad(small, ((0, height - small.shape[0]), (0, width - small.shape[1]), (0, 0)), "symmetric")
    rain = Rain(angle=-8.0, length=26.0, width=0.7, density=0.0016, intensity=0.5, depth=2)
    return add_rain(clean, rain, np.random.default_rng(0))


def in_tiles(image, side, pool_window=None):
    """Restored in tiles of so many pixels a side."""
    other = dataclasses.replace(model, pool_window=pool_window or model.pool_window)
    return Derainer(other, memory=side**2 * MAPS * 4 * model.config.width)(image)


def differ(name, whole, parts):
    """Prints by how much two images differ."""
    difference = np.abs(whole.astype(int) - parts)
    print(f"{name}: at most {difference.max()} grey levels, in {(difference > 0).mean():.4%} of the values,")
    print(f"  more than 1 in {(difference > 1).mean():.4%}", flush=True)


def programs(low, high, backend):
    """How many programs a hundred images of random sizes take, in tiles where they must."""
    draw, sizes, found = np.random.RandomState(0), Sizes(model.config.stride, PRICES[backend]), set()
    tile, grid = derainer._tile, derainer._grid
    margin = margin_of(tile, derainer._reach, grid)
    for _ in range(100):
        height, width = (int(side) + -int(side) % model.config.stride for side in draw.randint(low, high, 2))
        down, across = [height], [width]
        if height * width > tile**2:
            wide = tile_side(tile**2 // min(height, tile), grid)
            down, across = (
                [span.stop - span.start for span in spans(length, most, margin, grid)]
                for length, most in ((height, tile), (width, wide))
            )
        found |= {sizes.choose((row, column), tile**2) for row in down for column in across}
    return len(found)


if "--large" in sys.argv:
    Derainer(model)(rainy(4000, 6000))
    print(f"6000x4000: {1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9:.1f} GB of process memory")
    uhd = rainy(2160, 3840)
    differ("3840x2160, whole against tiles of 1088", in_tiles(uhd, 4096), in_tiles(uhd, 1088))
    sys.exit()
for low, high in ((101, 600), (300, 1600), (1000, 4000), (2000, 6000)):
    print(f"100 images of {low} to {high} pixels a side: {programs(low, high, 'cpu')} programs", flush=True)
image = rainy(1023, 1501)
whole = in_tiles(image, 2048)
for side in (1088, 1024, 768, 512, 256):
    differ(f"1501x1023, whole against tiles of {side}", whole, in_tiles(image, side))
everywhere = in_tiles(image, 2048, 4096)
half = in_tiles(image[:, :768], 2048, 4096)
differ(
    "with pooling over the whole image, against its left half alone, 288 pixels from the cut",
    everywhere[:, :480],
    half[:, :480],
)
