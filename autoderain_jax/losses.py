"""Training losses: Charbonnier, L1, negative SSIM or PSNR, and weighted mixes. All ours: the paper's is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.errors import InputError, shown

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def charbonnier(restored: jax.Array, clean: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Mean of ``sqrt((restored - clean)^2 + epsilon^2)`` (Charbonnier et al., ICIP 1994); images in [0, 1]."""
    return jnp.sqrt(jnp.square(restored - clean) + epsilon**2).mean()


def l1(restored: jax.Array, clean: jax.Array) -> jax.Array:
    """Mean absolute error."""
    return jnp.abs(restored - clean).mean()


def ssim(restored: jax.Array, clean: jax.Array) -> jax.Array:
    """Structural similarity (Wang et al., TIP 2004): 11x11 Gaussian, sigma 1.5, data range 1, no padding.

    Args:
      restored, clean: (b, h, w, c) in [0, 1], height and width at least 11.

    Returns:
      The mean over images, channels and all whole windows; a scalar in [-1, 1].
    """
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = jnp.asarray(window / window.sum(), restored.dtype)

    def smooth(x: jax.Array) -> jax.Array:
        for axis in (1, 2):
            length = x.shape[axis] - 10
            x = sum(w * jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i, w in enumerate(window))
        return x

    mean_r, mean_c = smooth(restored), smooth(clean)
    var_r = smooth(restored**2) - mean_r**2
    var_c = smooth(clean**2) - mean_c**2
    covariance = smooth(restored * clean) - mean_r * mean_c
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_r * mean_c + c1) * (2 * covariance + c2)
    return (similarity / ((mean_r**2 + mean_c**2 + c1) * (var_r + var_c + c2))).mean()


def negative_ssim(restored: jax.Array, clean: jax.Array) -> jax.Array:
    """``-ssim``: -1 for equal images."""
    return -ssim(restored, clean)


def negative_psnr(restored: jax.Array, clean: jax.Array) -> jax.Array:
    """Mean over images (b, h, w, c) in [0, 1] of ``10 log10(mean squared error + 1e-8)``, in dB: -80 for equal ones."""
    return 10 * jnp.log10(jnp.square(restored - clean).mean(axis=(1, 2, 3)) + 1e-8).mean()


LOSSES: dict[str, Loss] = {
    "charbonnier": charbonnier,
    "l1": l1,
    "negative_ssim": negative_ssim,
    "negative_psnr": negative_psnr,
}
"""Every loss by name."""


def mix(weights: Mapping[str, float]) -> Loss:
    """Weighted sum of losses by name, such as ``{"charbonnier": 1.0, "negative_ssim": 0.1}``.

    Raises:
      InputError: no term, an unknown name, or a weight that is not positive.
    """
    if not weights:
        raise InputError("the loss needs at least one term")
    for name, weight in weights.items():
        if name not in LOSSES:
            raise InputError(f"unknown loss {shown(name)}: known are {', '.join(LOSSES)}")
        if not 0 < weight < float("inf"):
            raise InputError(f"the weight of loss {name!r} must be positive, not {weight}")
    return lambda restored, clean: sum(weight * LOSSES[name](restored, clean) for name, weight in weights.items())


def parse_loss(text: str) -> Loss:
    """Reads a mix from text such as ``charbonnier`` or ``charbonnier+0.1*negative_ssim``."""
    weights: dict[str, float] = {}
    for term in text.split("+"):
        weight, _, name = term.strip().rpartition("*")
        try:
            weights[name.strip()] = weights.get(name.strip(), 0.0) + float(weight or 1.0)
        except ValueError:
            raise InputError(f"cannot read loss {shown(text)}: {shown(weight)} is not a number") from None
    return mix(weights)
