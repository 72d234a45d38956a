"""Small data and architectures for the tests."""

import numpy as np
from PIL import Image

from autoderain_jax.genotype import Genotype
from autoderain_jax.network import open_choices


def write_pairs(folder, sizes, seed=0):
    """Random smooth pairs of (height, width) ``sizes``, named a0.png, a1.png, ..."""
    rng = np.random.default_rng(seed)
    for kind in ("rainy", "clean"):
        (folder / kind).mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        small = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        clean = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        rainy = np.clip(np.array(clean).astype(int) + rng.integers(0, 60, (height, width, 1)), 0, 255)
        clean.save(folder / "clean" / f"a{i}.png")
        Image.fromarray(rainy.astype(np.uint8)).save(folder / "rainy" / f"a{i}.png")


def random_genotype(config, seed=0):
    rng = np.random.default_rng(seed)
    return Genotype(
        {
            block: {name: str(rng.choice(options)) for name, options in row.items()}
            for block, row in open_choices(config).items()
        }
    )
