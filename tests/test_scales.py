import dataclasses

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer
from autoderain_jax.metrics import score
from autoderain_jax.model import Model
from autoderain_jax.scales import octaves, restored_at
from data_pipelines.images import read_rgb
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments import derain
from tests.running import run


def test_octaves_begin_where_the_network_knows_rain():
    known = 481 * 321
    assert octaves(4000 * 3000, known) == (8, 4)
    assert octaves(1920 * 1080, known) == (4, 2)
    assert octaves(2 * known - 9, known) == octaves(300 * 200, known) == octaves(9000 * 6000, None) == (1,)
    assert octaves(2 * known + 9, known) == (2, 1)


def test_what_changed_is_taken_over_and_nothing_else():
    image = photograph("coffee")[:61, :47]
    seen = []

    def darker(small):
        seen.append(small.shape)
        return np.clip(small.astype(int) - 10, 0, 255).astype(np.uint8)

    np.testing.assert_array_equal(restored_at(image, (8, 3.5, 1), lambda small: small), image)
    restored = restored_at(image, (4, 1), darker)
    assert seen == [(15, 12, 3), (61, 47, 3)]
    chex.assert_equal_shape([restored, image])
    bright = image.min(-1) > 60
    np.testing.assert_array_equal(restored[bright], image[bright] - 20)
    assert restored_at(image[:1], (1000,), darker).shape == (1, 47, 3)


@pytest.fixture(scope="module")
def model():
    """One that knows images of 160x160."""
    return dataclasses.replace(Model.load("fast"), image_pixels=160**2)


def test_wide_rain_is_removed_from_large_photographs(model):
    clean = Image.fromarray(photograph("astronaut")[:160, 150:310])
    clean = np.asarray(clean.resize((640, 640), Image.Resampling.LANCZOS))
    rainy = add_rain(clean, Rain(intensity=0.4, depth=1).scaled(4), np.random.default_rng(0))

    def psnr(image):
        return score(image, clean, ("y-matlab",))["y-matlab"]["psnr"]

    as_it_is, octave = Derainer(model, scales=(1,))(rainy), Derainer(model)(rainy)
    assert psnr(as_it_is) < psnr(rainy) + 1.5
    assert psnr(octave) > psnr(rainy) + 5
    unknown = Derainer(dataclasses.replace(model, image_pixels=None))
    np.testing.assert_array_equal(unknown(rainy), as_it_is)


def test_scales_go_with_batches_orientations_and_arrays_of_jax(model):
    images = np.stack([photograph("coffee")[:64, :48], photograph("coffee")[64:128, :48]])
    derainer = Derainer(model, scales=[2, 1])
    expected = [derainer(image) for image in images]
    np.testing.assert_array_equal(derainer(images), expected)
    np.testing.assert_array_equal(derainer(jnp.asarray(images[0])), expected[0])
    mirrored = Derainer(model, scales=(2, 1), ensemble=4)
    # Of even sides, so that halves of the mirrored image are the mirrored halves.
    np.testing.assert_allclose(mirrored(images[0][::-1])[::-1].astype(int), mirrored(images[0]), atol=1)


@pytest.mark.parametrize("wrong", [(), (0.5,), (2, -1), (float("inf"),), (float("nan"),), 4, "8 4", None, ("a",)])
def test_impossible_scales_are_refused(model, wrong):
    with pytest.raises(ValueError, match="scales must be auto or numbers of at least 1, not "):
        Derainer(model, scales=wrong)


def test_scales_are_given_to_the_command(monkeypatch, capfd, tmp_path):
    image = photograph("coffee")[:64, :48]
    Image.fromarray(image).save(tmp_path / "a.png")
    options = (tmp_path / "a.png", "--output", tmp_path / "out", "--scales")
    assert run(monkeypatch, capfd, derain, *options, 4, 1.5)[0] == 0
    expected = Derainer.from_pretrained(scales=(4, 1.5))(image)
    np.testing.assert_array_equal(read_rgb(tmp_path / "out/a.png"), expected)
    code, _, err = run(monkeypatch, capfd, derain, *options, 0.5)
    assert (code, err) == (2, "error: scales must be auto or numbers of at least 1, not 0.5\n")
