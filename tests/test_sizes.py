"""Few programs serve many sizes, and give what a program made to measure gives."""

import dataclasses
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer
from autoderain_jax.blocks import Extent
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import DerainNet, NetworkConfig
from autoderain_jax.sizes import PRICE, PRICES, Sizes
from autoderain_jax.tiles import cuts

MOST = 10**7


@pytest.mark.parametrize("pool_window", [None, 12, 64])
def test_an_image_in_a_larger_array_is_restored_as_alone(pool_window):
    config = NetworkConfig(width=4, blocks=(2, 2), reduction=2)
    rows = [("conv3x3", "conv5x5"), ("dilated3x3", "separable3x3"), ("separable_dilated3x3", "conv3x3")]
    blocks = {
        name: {"conv_a": rows[i % 3][0], "conv_b": rows[i % 3][1], "se": ("on", "off")[i % 4 == 3]}
        for i, name in enumerate(config.block_names())
    }
    network = DerainNet(config, Genotype(blocks).choices, pool_window)
    image = jax.random.uniform(jax.random.key(0), (2, 24, 34, 3))
    params = jax.jit(network.init)(jax.random.key(1), image)
    # Trained weights are not zero anywhere, neither are biases.
    leaves, treedef = jax.tree.flatten(params)
    params = treedef.unflatten(
        [leaf + 0.1 * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    )
    larger = jnp.pad(image, ((0, 0), (0, 16), (0, 30), (0, 0)))
    extent = Extent(jnp.int32(24), jnp.int32(34))
    restored = jax.jit(lambda *args: network.apply(*args, extent=extent))(params, larger)
    alone = jax.jit(network.apply)(params, image)
    assert float(jnp.abs(alone - image).max()) > 0.1
    chex.assert_trees_all_close(restored[:, :24, :34], alone, atol=1e-5)


def test_a_hundred_sizes_need_a_handful_of_programs():
    draw = np.random.RandomState(0)
    sizes = Sizes(4, price=3 * 10**6)
    images = [tuple(4 * int(side) for side in draw.randint(50, 250, 2)) for _ in range(100)]
    chosen = [sizes.choose(size, MOST) for size in images]
    assert all(c >= s for pair, size in zip(chosen, images, strict=True) for c, s in zip(pair, size, strict=True))
    programs = set(chosen)
    assert len(programs) <= 10
    spent = sum(h * w for h, w in chosen) + 3 * 10**6 * len(programs)
    assert spent < 3 * sum(h * w for h, w in images)


@pytest.mark.parametrize(
    ("known", "tile", "sides", "programs", "waste"),
    [
        (False, 1792, (101, 600), 10, 2.2),
        (False, 1792, (300, 1600), 13, 1.8),
        (False, 1792, (1000, 4000), 22, 1.2),
        (False, 1792, (2000, 6000), 20, 1.1),
        (False, 1088, (300, 1600), 24, 1.4),
        (False, 1088, (2000, 6000), 16, 1.1),
        (True, 1792, (101, 600), 4, 1.8),
        (True, 1792, (300, 1600), 9, 1.4),
        (True, 1792, (2000, 6000), 16, 1.05),
        (True, 1088, (300, 1600), 10, 1.3),
        (True, 1088, (2000, 6000), 14, 1.02),
    ],
)
def test_photographs_of_any_size_need_few_programs_on_a_cpu(known, tile, sides, programs, waste):
    """Images of random sizes, known before or not, in tiles as the packaged model has them of 2.5 GB, or of 1 GB."""
    margin, grid = 272, 8
    draw, sizes, parts = np.random.RandomState(0), Sizes(4, PRICES["cpu"]), []
    for _ in range(100):
        rows, columns = cuts(tuple(int(side) + -int(side) % 4 for side in draw.randint(*sides, 2)), tile, margin, grid)
        parts += [(row.stop - row.start, column.stop - column.start) for row in rows for column in columns]
    if known:
        sizes.plan(parts, tile**2)
    chosen = [sizes.choose(part, tile**2) for part in parts]
    assert all(c >= s for pair, part in zip(chosen, parts, strict=True) for c, s in zip(pair, part, strict=True))
    assert max(h * w for h, w in chosen) <= tile**2
    assert len(set(chosen)) <= programs
    assert sum(h * w for h, w in chosen) < waste * sum(h * w for h, w in parts)


@pytest.mark.parametrize(("sides", "most", "waste"), [((101, 600), 6, 2.6), ((300, 1600), 8, 1.9)])
def test_images_of_any_size_need_fewer_programs_where_compiling_takes_long(sides, most, waste):
    draw, sizes = np.random.RandomState(0), Sizes(4)
    images = [tuple(int(side) + -int(side) % 4 for side in draw.randint(*sides, 2)) for _ in range(100)]
    chosen = [sizes.choose(size, 4096**2) for size in images]
    assert len(set(chosen)) <= most
    assert sum(h * w for h, w in chosen) < waste * sum(h * w for h, w in images)


def test_few_sizes_of_many_images_have_programs_made_to_measure():
    sizes = Sizes(4, price=10**6)
    sizes.plan([(320, 480), (480, 320), (300, 300)] * 50, MOST)
    assert [sizes.choose(size, MOST) for size in [(320, 480), (480, 320), (300, 300)]] == [
        (320, 480),
        (480, 320),
        (300, 300),
    ]
    # What was not told of goes where it fits.
    assert sizes.choose((296, 300), MOST) == (300, 300)


def test_a_few_sizes_have_programs_made_to_measure_where_compiling_takes_long():
    """As the two of a benchmark, whose seconds an image would else be those of a larger one."""
    sizes = Sizes(4)
    sizes.plan([(324, 484), (484, 324)] * 50, MOST)
    assert [sizes.choose(size, MOST) for size in [(324, 484), (484, 324)]] == [(324, 484), (484, 324)]


def test_what_is_compiled_serves_what_comes_later():
    sizes = Sizes(4, price=10**6)
    known = sizes.choose((400, 400), MOST)
    coming = [(396, 380), (300, 396), (384, 396), (392, 392), (800, 200), (200, 800)]
    sizes.plan(coming, MOST)
    assert [sizes.choose(size, MOST) for size in coming[:4]] == [known] * 4


@pytest.mark.parametrize(("price", "programs"), [(PRICES["cpu"], 7), (PRICE, 5)])
@pytest.mark.parametrize("together", [1, 2, 3, 10])
def test_short_lists_take_no_more_programs_than_one_image_after_the_other(together, price, programs):
    sizes, draw = Sizes(4, price), np.random.RandomState(0)
    images = [(4 * int(h), 4 * int(w)) for h, w in draw.randint(50, 150, (200, 2))]
    chosen = []
    for i in range(0, len(images), together):
        sizes.plan(images[i : i + together], MOST)
        chosen += [sizes.choose(size, MOST) for size in images[i : i + together]]
    assert len(set(chosen)) <= programs


def test_what_was_planned_stays_when_it_comes_in_lists():
    images = [(4 * int(h), 4 * int(w)) for h, w in np.random.RandomState(0).randint(50, 150, (40, 2))]
    planned, listed = Sizes(4, PRICES["cpu"]), Sizes(4, PRICES["cpu"])
    for sizes in (planned, listed):
        sizes.plan(images, MOST)
    for i in range(0, len(images), 2):
        listed.plan(images[i : i + 2], MOST)
        assert [listed.choose(size, MOST) for size in images[i : i + 2]] == [
            planned.choose(size, MOST) for size in images[i : i + 2]
        ]


def test_thousands_of_sizes_are_planned_for_in_a_moment():
    sizes = Sizes(4, PRICES["cpu"])
    coming = [(4 * int(h), 4 * int(w)) for h, w in np.random.RandomState(0).randint(25, 150, (5000, 2))]
    began = time.perf_counter()
    sizes.plan(coming, MOST)
    assert time.perf_counter() - began < 5.0
    chosen = [sizes.choose(size, MOST) for size in coming]
    assert len(set(chosen)) <= 25
    assert sum(h * w for h, w in chosen) < 1.4 * sum(h * w for h, w in coming)


def test_a_plan_holds_only_while_memory_does():
    sizes = Sizes(4, price=10**12)
    sizes.plan([(400, 400), (300, 500), (900, 20), (20, 900)], MOST)
    assert sizes.choose((400, 400), MOST) == (400, 500)
    assert sizes.choose((300, 500), 300 * 500) == (300, 500)


def test_a_list_of_images_takes_fewer_programs_than_one_after_the_other():
    model = Derainer.from_pretrained("fast").model
    sides = [(33, 80), (70, 40), (60, 60), (80, 81), (44, 52)]
    images = [np.random.RandomState(i).randint(256, size=(*pair, 3)).astype(np.uint8) for i, pair in enumerate(sides)]
    together, apart = Derainer(model), Derainer(model)
    restored = together([images[0], Image.fromarray(images[1]), images[2][None], [images[3]], images[4]])
    alone = [apart(image) for image in images]
    assert len(together.programs) == 3 < len(apart.programs)
    restored = [restored[0], np.array(restored[1]), restored[2][0], restored[3][0], restored[4]]
    for one, other in zip(restored, alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_sizes_that_return_get_programs_made_to_measure():
    sizes = Sizes(4, price=10**6)
    assert [sizes.choose(size, MOST) for size in [(320, 480), (480, 320), (480, 480)]] == [
        (320, 480),
        (480, 320),
        (480, 480),
    ]
    seen = [sizes.choose((300, 300), MOST) for _ in range(50)]
    assert seen[0] == (320, 480)
    assert seen[-1] == (300, 300)


def test_no_program_is_larger_than_memory_allows():
    sizes = Sizes(4, price=10**12)
    for side in (400, 404, 408, 412):
        assert sizes.choose((side, side), 420**2) == (side, side)


def test_an_image_is_the_same_whatever_came_before_it():
    model = Derainer.from_pretrained().model
    image = np.random.RandomState(0).randint(256, size=(61, 83, 3)).astype(np.uint8)
    alone, later = Derainer(model), Derainer(model)
    for shape in [(70, 90, 3), (90, 70, 3), (120, 120, 3)]:
        later(np.zeros(shape, np.uint8))
    programs = set(later.programs)
    difference = np.abs(alone(image).astype(int) - later(image))
    assert later.programs == programs
    assert (64, 84) not in programs
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_what_cannot_be_cleared_inside_runs_as_it_is():
    model = Derainer.from_pretrained().model
    block = next(iter(model.config.block_names()))
    blocks = {**model.genotype.blocks, block: {**model.genotype.blocks[block], "conv_a": "conv_relu_conv"}}
    genotype = Genotype(blocks)
    network = DerainNet(model.config, genotype.choices)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    derainer = Derainer(dataclasses.replace(model, genotype=genotype, params=params))
    for side in (40, 36, 32, 28):
        derainer(np.zeros((side, side, 3), np.uint8))
    assert derainer.programs == {(side, side) for side in (40, 36, 32, 28)}
