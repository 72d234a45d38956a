import dataclasses
import io
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import ExifTags, Image

from autoderain_jax import Derainer, Model
from autoderain_jax.orientation import upright_size


def test_a_model_restores_the_same_on_eight_devices(model, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (21, 18, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    model.save(tmp_path / "model")
    options = [tmp_path / "image.png", "--model", tmp_path / "model", "--output", tmp_path / "restored"]
    environment = dict(os.environ, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    subprocess.run([sys.executable, "-m", "experiments.derain", *options], env=environment, check=True)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "restored/image.png")), Derainer(model)(image))


def test_other_weights_give_other_images(model):
    image = np.full((16, 16, 3), 100, np.uint8)
    zeros = jax.tree.map(jnp.zeros_like, model.params)
    np.testing.assert_array_equal(Derainer(model).with_params(zeros)(image), image)
    assert (Derainer(model)(image) != image).any()


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)])
def test_derainer_refuses_other_arrays(model, image):
    with pytest.raises(ValueError, match="uint8 RGB images"):
        Derainer(model)(image)


def test_derainer_takes_what_people_have(model):
    derainer = Derainer(model)
    images = np.random.RandomState(0).randint(256, size=(2, 20, 14, 3)).astype(np.uint8)
    expected = [derainer(image) for image in images]
    np.testing.assert_array_equal(derainer(images), expected)
    np.testing.assert_array_equal(derainer(list(images)), expected)
    restored = derainer(Image.fromarray(images[0]).convert("RGBA"))
    assert restored.mode == "RGB"
    for wrong in ("photo.jpg", Image.new("I;16", (8, 8)), Image.new("CMYK", (8, 8))):
        with pytest.raises(ValueError, match="a derainer takes"):
            derainer(wrong)
    np.testing.assert_array_equal(np.array(restored), expected[0])


def test_pillow_images_come_out_upright_also_where_their_exif_is_odd(model):
    image = np.random.RandomState(0).randint(256, size=(20, 14, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    exif[ExifTags.Base.Orientation] = 6
    # ResolutionUnit as a text: read, but not written, by Pillow.
    odd = exif.tobytes().replace(b"\x01\x10\x00\x02", b"\x01\x28\x00\x02")
    for data in (exif.tobytes(), odd):
        Image.fromarray(np.rot90(image)).save(file := io.BytesIO(), "PNG", exif=data)
        np.testing.assert_array_equal(np.array(Derainer(model)(Image.open(file))), Derainer(model)(image))
    # Which Pillow turns itself, once it is decoded.
    Image.fromarray(np.rot90(image)).save(file := io.BytesIO(), "TIFF", tiffinfo={ExifTags.Base.Orientation: 6})
    assert upright_size(Image.open(file)) == (20, 14)
    np.testing.assert_array_equal(np.array(Derainer(model)(Image.open(file))), Derainer(model)(image))


@pytest.mark.parametrize("ensemble", [4, 8])
def test_orientations_are_averaged(model, ensemble):
    image = np.random.RandomState(0).randint(256, size=(22, 14, 3)).astype(np.uint8)
    one, several = Derainer(model), Derainer(model, ensemble=ensemble)
    restored = []
    for quarters in range(0, 4, 8 // ensemble):
        for left in (1, -1):
            turned = one(np.rot90(image, quarters)[:, ::left])
            restored.append(np.rot90(turned[:, ::left], -quarters))
    assert len(restored) == ensemble
    assert (several(image) != one(image)).any()
    np.testing.assert_array_equal(several(image), np.rint(np.mean(restored, 0)))


def test_no_other_number_of_orientations_is_taken(model):
    for wrong in (True, 2, None):
        with pytest.raises(ValueError, match=f"ensemble must be 1, 4 or 8, not {wrong}"):
            Derainer(model, ensemble=wrong)


def test_a_model_restores_in_another_precision_than_its_own(model, tmp_path):
    image = np.random.RandomState(0).randint(256, size=(20, 14, 3)).astype(np.uint8)
    half = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="bfloat16"))
    exact, rounded = Derainer(model)(image), Derainer(half)(image)
    assert (exact != rounded).any()
    np.testing.assert_array_equal(Derainer(model, dtype="bfloat16")(image), rounded)
    np.testing.assert_array_equal(Derainer(half, dtype="float32")(image), exact)
    Derainer(half, dtype="float32").save_pretrained(tmp_path)
    assert Model.load(tmp_path).id == half.id, "it remains what it is"
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16, not float16"):
        Derainer(model, dtype="float16")
