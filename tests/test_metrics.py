import numpy as np
import pytest
from skimage import data

from autoderain_jax.metrics import luma, score, to_uint8


@pytest.fixture
def images():
    clean = data.astronaut()[100:260, 200:380]
    noise = np.random.RandomState(0).randint(-20, 41, clean.shape)
    return np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8), clean


def test_golden_values(images):
    """Golden values: scikit-image 0.26, and the formulas written out with scipy.ndimage 1.17, equal to 12 digits."""
    scores = score(*images)
    assert scores["y-matlab"]["psnr"] == pytest.approx(25.689210579084, abs=1e-9)
    assert scores["y-matlab"]["ssim"] == pytest.approx(0.563270969808, abs=1e-9)
    assert scores["rgb"]["psnr"] == pytest.approx(22.166956541840, abs=1e-9)
    assert scores["rgb"]["ssim"] == pytest.approx(0.363769498281, abs=1e-9)


def test_equal_images_are_perfect(images):
    assert score(images[1], images[1])["rgb"] == {"psnr": np.inf, "ssim": 1.0}


def test_luma_is_limited_range_bt601():
    image = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(luma(image), [[16, 235, 81, 145, 41]])


def test_floats_are_clipped_and_rounded():
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 0.5 / 255 + 1e-4, 0.4 / 255, 2.0])), [0, 1, 0, 255])


@pytest.mark.parametrize(
    ("shapes", "dtype", "sentence"),
    [
        (((20, 20, 3), (20, 21, 3)), np.uint8, "one shape"),
        (((20, 20, 3), (20, 20, 3)), np.float32, "uint8"),
        (((9, 20, 3), (9, 20, 3)), np.uint8, "at least 11x11"),
        (((20, 20), (20, 20)), np.uint8, "RGB"),
    ],
)
def test_other_input_is_refused(shapes, dtype, sentence):
    with pytest.raises(ValueError, match=sentence):
        score(*(np.zeros(shape, dtype) for shape in shapes))
