import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from autoderain_jax.errors import InputError
from autoderain_jax.losses import charbonnier, l1, mix, negative_psnr, negative_ssim, parse_loss, ssim


@pytest.fixture
def images():
    clean = jax.random.uniform(jax.random.key(0), (2, 24, 31, 3))
    return jnp.clip(clean + 0.2 * jax.random.normal(jax.random.key(1), clean.shape), 0, 1), clean


def test_pixel_losses_by_hand():
    restored, clean = jnp.array([[0.0, 0.5]]), jnp.array([[0.0, 0.2]])
    assert l1(restored, clean) == pytest.approx(0.15)
    assert charbonnier(restored, clean, 0.4) == pytest.approx((0.4 + 0.5) / 2)


def test_ssim_equals_scikit_image(images):
    restored, clean = (np.asarray(x, np.float64) for x in images)
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = np.mean(
        [structural_similarity(r, c, channel_axis=-1, **options) for r, c in zip(restored, clean, strict=True)]
    )
    assert float(ssim(*images)) == pytest.approx(expected, abs=2e-6)
    assert float(negative_ssim(images[1], images[1])) == pytest.approx(-1.0)


def test_psnr_equals_scikit_image(images):
    restored, clean = (np.asarray(x, np.float64) for x in images)
    expected = np.mean([peak_signal_noise_ratio(c, r, data_range=1) for r, c in zip(restored, clean, strict=True)])
    assert float(negative_psnr(*images)) == pytest.approx(-expected, abs=1e-4)
    assert float(negative_psnr(images[1], images[1])) == pytest.approx(-80, abs=1e-4)


def test_mix_is_the_weighted_sum_and_its_gradient_is_finite(images):
    loss = parse_loss("l1 + 0.5*negative_ssim")
    assert float(loss(*images)) == pytest.approx(float(l1(*images) + 0.5 * negative_ssim(*images)))
    assert float(parse_loss("0.5*l1+0.5*l1")(*images)) == pytest.approx(float(l1(*images)))
    for start in (images[0], images[1]):
        mixed = parse_loss("charbonnier+0.1*negative_ssim+0.01*negative_psnr")
        chex.assert_tree_all_finite(jax.grad(mixed)(start, images[1]))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("l3", "unknown loss 'l3'"),
        ("x*l1", "'x' is not a number"),
        ("-1*l1", "must be positive"),
        ("inf*l1", "must be positive"),
        ("", "unknown loss"),
    ],
)
def test_unreadable_losses_are_refused(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_loss(text)
    with pytest.raises(InputError, match="at least one term"):
        mix({})
