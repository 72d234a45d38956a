"""Measures what docs/use.md says of images in tiles and of programs: ``python docs/tiles.py``, some minutes.

The photograph is one of scikit-image with synthetic rain, mirrored at its edges until it is large enough. ``--large``
measures photographs of 6000x4000 and 3840x2160 as well; ``python docs/tiles.py programs tiles`` only these parts.
"""

import argparse
import dataclasses
import itertools
import resource

import numpy as np

from autoderain_jax import Derainer
from autoderain_jax.scales import AS_IT_IS, octaves, size_at
from autoderain_jax.sizes import PRICE, PRICES, Sizes
from autoderain_jax.tiles import MOST_OF_MACHINE, cuts, margin_of
from data_pipelines.synthetic import Rain, add_rain, photograph

# As on any machine of 10 GB or more.
derainer = Derainer.from_pretrained(memory=int(MOST_OF_MACHINE), scales=AS_IT_IS)
model = derainer.model


def rainy(height, width):
    """A photograph of any size."""
    small = photograph("coffee")
    clean = np.pad(small, ((0, height - small.shape[0]), (0, width - small.shape[1]), (0, 0)), "symmetric")
    rain = Rain(angle=-8.0, length=26.0, width=0.7, density=0.0016, intensity=0.5, depth=2)
    return add_rain(clean, rain, np.random.default_rng(0))


def in_tiles(image, side, pool_window=model.pool_window):
    """Restored in tiles of so many pixels a side, cut as for the packaged model however far its pooling looks."""
    other = Derainer(dataclasses.replace(model, pool_window=pool_window), scales=AS_IT_IS)
    other._tile, other._reach, other._grid = side, derainer._reach, derainer._grid
    return other(image)


def cut(height, width):
    """Rows and columns of the tiles that an image is cut into."""
    tile, grid = derainer._tile, derainer._grid
    return cuts((height, width), tile, margin_of(tile, derainer._reach, grid), grid)


def differ(name, whole, parts):
    """Prints by how much two images differ."""
    difference = np.abs(whole.astype(int) - parts)
    print(f"{name}: at most {difference.max()} grey levels, in {(difference > 0).mean():.4%} of the values,")
    print(f"  more than 1 in {(difference > 1).mean():.4%}", flush=True)


def peak():
    """Gigabytes that this process had at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def memory():
    """What a large photograph takes."""
    # Drawing so much rain would take more than to remove it.
    small = rainy(400, 600)
    image = np.pad(small, ((0, 3600), (0, 5400), (0, 0)), "symmetric")
    print(f"6000x4000: {peak():.1f} GB of process memory before it is restored,", flush=True)
    derainer(image)
    rows, columns = cut(4000, 6000)
    print(f"  {peak():.1f} GB after, in {len(rows) * len(columns)} tiles", flush=True)


def programs():
    """How many programs a hundred images of random sizes take, known before or not, and what they waste."""
    ranges = ((101, 600), (300, 1600), (1000, 4000), (2000, 6000))
    for (device, price), (low, high) in itertools.product([("CPU", PRICES["cpu"]), ("GPU", PRICE)], ranges):
        draw, parts = np.random.RandomState(0), []
        for _ in range(100):
            sides = draw.randint(low, high, 2)
            for scale in octaves(int(sides.prod()), model.image_pixels):
                height, width = (side + -side % 4 for side in size_at(sides, scale))
                rows, columns = cut(height, width)
                parts += [(row.stop - row.start, column.stop - column.start) for row in rows for column in columns]
        asked = sum(height * width for height, width in parts)
        for known in ("known before", "not known"):
            sizes = Sizes(4, price)
            if known == "known before":
                sizes.plan(parts, derainer._tile**2)
            chosen = [sizes.choose(part, derainer._tile**2) for part in parts]
            print(
                f"{device}, 100 images, sides of {low} to {high - 1} pixels, {known}: {len(set(chosen))} programs, "
                f"{sum(height * width for height, width in chosen) / asked:.2f} of the pixels"
            )


def tiles():
    """What tiles change."""
    image = rainy(1023, 1501)
    whole = in_tiles(image, 2048)
    for side in (1024, 768, 512, 256):
        differ(f"1501x1023, whole against tiles of {side}", whole, in_tiles(image, side))


def pooling():
    """What tiles would change if squeeze-and-excitation pooled over the whole image."""
    image = rainy(1023, 1501)
    whole = in_tiles(image, 2048, 4096)
    differ("pooled over the whole image, against tiles of 512", whole, in_tiles(image, 512, 4096))
    half = in_tiles(image[:, :768], 2048, 4096)
    differ("  against its left half alone, 288 pixels from the cut", whole[:, :480], half[:, :480])


def seams():
    """What tiles change in a photograph that has several of the default size."""
    image = rainy(2160, 3840)
    whole = in_tiles(image, 4096)
    for side in (derainer._tile, 512):
        differ(f"3840x2160, whole against tiles of {side}", whole, in_tiles(image, side))


# The first must be first: memory is that of all so far.
LARGE = {"memory": memory, "seams": seams}
CHEAP = {"programs": programs, "tiles": tiles, "pooling": pooling}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("parts", nargs="*", choices=[*LARGE, *CHEAP], help="default: all that need no large photograph")
parser.add_argument("--large", action="store_true", help="measure large photographs, too")
options = parser.parse_args()
chosen = options.parts or [*CHEAP]
for name, part in {**LARGE, **CHEAP}.items():
    if name in chosen or (options.large and name in LARGE):
        part()
