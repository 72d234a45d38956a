import dataclasses

import chex
import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.metrics import score
from autoderain_jax.model import Model
from autoderain_jax.scales import octaves, restored_at
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments.derain import DerainConfig, derain


def test_octaves_begin_where_the_network_knows_rain():
    assert octaves(4000, 481) == (8, 4, 2, 1)
    assert octaves(1920, 481) == (4, 2, 1)
    assert octaves(680, 481) == octaves(300, 481) == octaves(9000, None) == (1,)
    assert octaves(681, 481) == (2, 1)


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
    assert restored_at(image, (1000,), darker).shape == image.shape


def test_wide_rain_is_removed_from_large_photographs():
    clean = Image.fromarray(photograph("astronaut")[:160, 150:310])
    clean = np.asarray(clean.resize((640, 640), Image.Resampling.LANCZOS))
    rainy = add_rain(clean, Rain(intensity=0.4, depth=1).scaled(4), np.random.default_rng(0))
    model = dataclasses.replace(Model.load("fast"), image_side=160)

    def psnr(image):
        return score(image, clean, ("y-matlab",))["y-matlab"]["psnr"]

    as_it_is, octave = Derainer(model, scales=(1,))(rainy), Derainer(model)(rainy)
    assert psnr(as_it_is) < psnr(rainy) + 1.5
    assert psnr(octave) > psnr(rainy) + 5
    unknown = Derainer(dataclasses.replace(model, image_side=None))
    np.testing.assert_array_equal(unknown(rainy), as_it_is)


@pytest.mark.parametrize("wrong", [(), (0.5,), (2, -1), (float("inf"),), (float("nan"),)])
def test_impossible_scales_are_refused(wrong, tmp_path):
    Image.fromarray(photograph("coffee")[:20, :20]).save(tmp_path / "a.png")
    given = " ".join(map(str, wrong)) or "none"
    with pytest.raises(InputError, match=f"--scales must be auto or numbers of at least 1, not {given}"):
        derain(DerainConfig((tmp_path / "a.png",), tmp_path / "out", scales=wrong))
