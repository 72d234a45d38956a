"""Tiles cover an image once, and what they give is what the whole image gives."""

import dataclasses

import jax
import numpy as np
import pytest
from skimage import data

from autoderain_jax import Derainer
from autoderain_jax.genotype import uniform
from autoderain_jax.model import Model
from autoderain_jax.network import NetworkConfig
from autoderain_jax.tiles import MAPS, MOST_OF_MACHINE, grid, largest_tile, lay, margin_of, reach, spans, tile_side


@pytest.mark.parametrize(
    ("length", "tile", "margin"), [(100, 40, 8), (41, 40, 4), (40, 40, 8), (1000, 64, 28), (7, 40, 8)]
)
def test_spans_cover_a_side_once_and_keep_their_margin(length, tile, margin):
    counted = np.zeros(length, int)
    for span in spans(length, tile, margin, 1):
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.stop - span.start <= min(tile, length)
        assert span.start == 0 or span.first - span.start >= margin
        assert span.stop == length or span.stop - span.last >= margin
        counted[span.first : span.last] += 1
    np.testing.assert_array_equal(counted, 1)


@pytest.mark.parametrize(
    ("length", "tile", "margin"), [(100, 40, 8), (41, 40, 4), (1000, 64, 28), (7, 40, 8), (97, 40, 7)]
)
def test_neighbours_fade_into_each_other(length, tile, margin):
    rng = np.random.RandomState(0)
    picture = rng.randint(256, size=(length, 2, 3)).astype(np.uint8)
    for fade in (0, margin):
        laid = np.zeros_like(picture)
        for span in spans(length, tile, margin, 1):
            lay(laid, picture[span.whole], span, fade)
        np.testing.assert_array_equal(laid, picture)
    ramps = np.zeros((length, 1), np.uint8)
    for i, span in enumerate(spans(length, tile, margin, 1)):
        lay(ramps, np.full((span.stop - span.start, 1), 200 * (i % 2), np.uint8), span, margin)
    steps = np.abs(np.diff(ramps[:, 0].astype(int)))
    assert steps.max(initial=0) <= 200 / margin + 1
    for i, span in enumerate(spans(length, tile, margin, 1)):
        lay(ramps, np.full((span.stop - span.start, 1), 255 * (i > 0), np.uint8), span, margin)
    assert (np.diff(ramps[:, 0].astype(int)) >= 0).all()


@pytest.fixture(scope="module")
def derainer():
    # At one scale, whatever the size of the image.
    return Derainer(dataclasses.replace(Model.load("fast"), image_pixels=None))


def test_no_pixel_is_reached_from_further_away(derainer):
    model = derainer.model
    distance = reach(model.config, model.genotype, model.pool_window)
    image = np.asarray(data.coffee())
    size = distance + 40
    image = np.ascontiguousarray(np.tile(image, (2, 2, 1))[:size, :size])
    changed = image.copy()
    changed[-8:, -8:] = 255 - changed[-8:, -8:]
    difference = np.abs(derainer(image).astype(int) - derainer(changed))
    far = size - 8 - distance
    assert difference.max() > 20
    # Running sums differ in their last digits everywhere.
    assert difference[:far].max() <= 1
    assert difference[:, :far].max() <= 1


@pytest.mark.parametrize(("side", "most", "share"), [(256, 5, 5e-3), (512, 1, 1e-3)])
def test_tiles_give_what_the_whole_image_gives(derainer, side, most, share):
    """Those of 256 pixels see a little less than the network does."""
    image = np.ascontiguousarray(np.tile(data.astronaut(), (2, 2, 1))[:603, :701])
    pixel = MAPS * 4 * derainer.model.config.width
    small = Derainer(derainer.model, memory=side**2 * pixel)
    whole, parts = derainer(image), small(image)
    assert all(height < 604 and width < 704 and height * width <= side**2 for height, width in small.programs)
    difference = np.abs(whole.astype(int) - parts)
    assert difference.max() <= most
    assert (difference > 0).mean() < share
    assert (difference > 1).mean() < 1e-4


def test_no_seam_shows_where_tiles_see_less_than_the_network(derainer, monkeypatch):
    """Tiles that differ by 100 grey levels meet without a step."""
    other, tiles = Derainer(derainer.model, memory=1), []

    def grey(image, tile):
        tiles.append(image.shape)
        return np.full_like(image, 100 * (len(tiles) % 2))

    monkeypatch.setattr(other, "_run", grey)
    restored = other(np.zeros((500, 600, 3), np.uint8)).astype(int)
    assert len(tiles) > 3
    assert restored.max() == 100
    assert restored.min() == 0
    # A ramp of an eighth of 256 pixels.
    assert max(np.abs(np.diff(restored, axis=axis)).max() for axis in (0, 1)) <= 100 / 32 + 1


def test_overlaps_reach_as_far_as_the_network_or_a_quarter_of_the_tile(derainer):
    assert margin_of(1024, 101, 8) == 104
    assert margin_of(1024, 500, 8) == 256
    assert margin_of(1024, None, 8) == 256
    model = derainer.model
    side = tile_side(largest_tile(model.config, int(MOST_OF_MACHINE)), derainer._grid)
    assert (side, margin_of(side, derainer._reach, derainer._grid), derainer._grid) == (1792, 272, 8)
    assert grid(NetworkConfig(blocks=(1, 1, 1)), 64) == 8
    assert grid(NetworkConfig(blocks=(1,) * 8), 64) == 128
    for most in (1, 1000, 5000):
        assert tile_side(most, 128) % 512 == margin_of(tile_side(most, 128), 300, 128) % 128 == 0


def test_how_far_unknown_candidates_look_is_not_known(derainer):
    config = derainer.model.config
    genotype = uniform(config, "conv_relu_conv")
    assert reach(config, genotype, 64) is None


def test_the_largest_tile_fits_the_memory(derainer):
    config = derainer.model.config
    side = largest_tile(config, 2 * 10**9)
    assert side**2 * MAPS * 4 * config.width <= 2 * 10**9 < (side + 1) ** 2 * MAPS * 4 * config.width
    image, side = jax.ShapeDtypeStruct((256, 256, 3), "uint8"), jax.ShapeDtypeStruct((), "int32")
    compiled = derainer._restore.lower(derainer._variables, image, side, side).compile()
    temp = compiled.memory_analysis().temp_size_in_bytes
    assert temp <= 256**2 * MAPS * 4 * config.width
    assert compiled.memory_analysis().alias_size_in_bytes == 256**2 * 3, "what is restored takes the image's place"


def test_tiles_halve_when_memory_runs_out(derainer, monkeypatch):
    other, image, sizes = Derainer(derainer.model), np.zeros((1500, 1500, 3), np.uint8), []

    def starved(variables, image, height, width):
        sizes.append(image.shape[0])
        if image.shape[0] > 750:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return np.zeros_like(image)

    monkeypatch.setattr(other, "_restore", starved)
    assert other(image).shape == image.shape
    assert sizes[0] == 1500
    assert 400 < sizes[1] <= 704
    assert set(sizes[2:]) == {sizes[1]}
    sizes.clear()
    other(image)
    assert max(sizes) <= 704, "what did not fit is not tried again"


def test_an_image_that_ran_out_of_memory_is_whole_when_tried_again(derainer, monkeypatch):
    """Though its place on the device was given to what is restored."""
    image, other, ran = np.ascontiguousarray(data.astronaut()[:264, :264]), Derainer(derainer.model), []

    def starved(*args):
        ran.append(derainer._restore(*args))
        if len(ran) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return ran[-1]

    monkeypatch.setattr(other, "_restore", starved)
    restored = other(image)
    assert len(ran) > 2
    assert np.abs(restored.astype(int) - derainer(image)).max() <= 5
    np.testing.assert_array_equal(image, data.astronaut()[:264, :264])


def test_what_does_not_fit_in_the_smallest_tiles_is_told(derainer, monkeypatch):
    def full(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    other = Derainer(derainer.model)
    monkeypatch.setattr(other, "_restore", full)
    with pytest.raises(jax.errors.JaxRuntimeError):
        other(np.zeros((1500, 1500, 3), np.uint8))
