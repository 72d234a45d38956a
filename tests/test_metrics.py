import numpy as np
import pytest
from skimage import data

from autoderain_jax import metrics
from autoderain_jax.metrics import PROTOCOLS, luma, score, to_uint8


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


def means_of_windows(image):
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    windows = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
    return np.einsum("xyij,i,j->xy", windows, weights, weights, optimize=True) / weights.sum() ** 2


@pytest.mark.parametrize("size", [(11, 11), (12, 37), (64, 33), (101, 120)])
def test_random_images_have_the_scores_of_the_formulas(size):
    rng = np.random.default_rng(size)
    clean = rng.integers(0, 256, (*size, 3), np.uint8)
    restored = np.clip(clean + rng.normal(0, 12, clean.shape), 0, 255).astype(np.uint8)
    x, y = (np.floor(16.5 + (65.481 * r + 128.553 * g + 24.966 * b) / 255)
            for r, g, b in (np.moveaxis(image.astype(float), -1, 0) for image in (restored, clean)))  # fmt: skip
    found = score(restored, clean)
    for protocol, difference in (("y-matlab", x - y), ("rgb", restored.astype(float) - clean)):
        assert found[protocol]["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)), abs=1e-3)
    mean_x, mean_y, xx, yy, xy = map(means_of_windows, (x, y, x * x, y * y, x * y))
    numerator = (2 * mean_x * mean_y + 2.55**2) * (2 * (xy - mean_x * mean_y) + 7.65**2)
    denominator = (mean_x**2 + mean_y**2 + 2.55**2) * (xx - mean_x**2 + yy - mean_y**2 + 7.65**2)
    assert found["y-matlab"]["ssim"] == pytest.approx(np.mean(numerator / denominator), abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_images_are_perfect(images, protocol):
    assert score(images[1], images[1])[protocol] == {"psnr": np.inf, "ssim": pytest.approx(1.0)}


def test_prenets_protocol_takes_luma_as_it_is_and_thins_images_out_for_ssim(images, monkeypatch):
    restored, clean = (image.astype(float) @ [65.481, 128.553, 24.966] / 255 + 16 for image in images)
    expected = 10 * np.log10(255**2 / np.mean((restored - clean) ** 2))
    scores = score(*images)
    assert scores["y-prenet"]["psnr"] == pytest.approx(expected, abs=1e-3)
    # Luma of 160 x 180 pixels is left as it is.
    assert scores["y-prenet"]["ssim"] == pytest.approx(scores["y-matlab"]["ssim"], abs=2e-3)
    monkeypatch.setattr(metrics, "SSIM_SIDE", 80)
    means = [image.reshape(80, 2, 90, 2).mean((1, 3)) for image in (restored, clean)]
    thin = metrics._ssim(*means)
    assert abs(thin - scores["y-matlab"]["ssim"]) > 0.01
    assert score(*images)["y-prenet"]["ssim"] == pytest.approx(thin, abs=1e-3)


def test_only_the_protocols_asked_for(images):
    assert set(score(*images, ("rgb",))) == {"rgb"}


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
