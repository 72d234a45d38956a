"""Reported quality, by named protocol. Luma and RGB differ by 1-2 dB: a figure without its protocol means nothing.

* ``y-matlab``: the luma of MATLAB's ``rgb2ycbcr`` on uint8 images (BT.601, limited range, rounded to uint8), as most
  tables of the deraining literature use.
* ``rgb``: all three channels; SSIM is their mean.
* ``y-prenet``: the same luma, not rounded, and SSIM on images averaged and thinned out until the shorter side has about
  256 pixels (Wang's automatic down-sampling, which leaves Rain100L as it is): PReNet's scripts (Ren et al., CVPR 2019),
  behind older tables.

All take uint8 images. PSNR has peak 255; SSIM (Wang et al., TIP 2004) an 11x11 Gaussian of sigma 1.5, population
covariance and data range 255, over all whole windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

PROTOCOLS = ("y-matlab", "rgb", "y-prenet")
SSIM_WINDOW = 11
SSIM_SIDE = 256
"""Shorter side in pixels to which ``y-prenet`` brings images, about, before SSIM."""


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] (clipped to it) to uint8, rounded to the nearest."""
    return np.round(np.clip(np.asarray(image, np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 limited-range luma (16 to 235) of a uint8 RGB image (h, w, 3), rounded to uint8 (h, w) as MATLAB does."""
    return np.round(_exact_luma(image)).astype(np.uint8)


def score(restored: np.ndarray, clean: np.ndarray, protocols: Sequence[str] = PROTOCOLS) -> dict[str, dict[str, float]]:
    """Scores one image.

    Args:
      restored, clean: uint8 RGB images of the same shape (h, w, 3), at least 11 pixels high and wide.
      protocols: which to score by.

    Returns:
      ``{"y-matlab": {"psnr": dB, "ssim": value}, "rgb": {...}, ...}``; PSNR is ``inf`` for equal images.

    Raises:
      ValueError: another dtype, unequal shapes, or an image smaller than the SSIM window.
    """
    if restored.dtype != np.uint8 or clean.dtype != np.uint8:
        raise ValueError(f"metrics take uint8 images, not {restored.dtype} and {clean.dtype}")
    if restored.shape != clean.shape or restored.ndim != 3 or restored.shape[-1] != 3:
        raise ValueError(f"metrics take two RGB images of one shape, not {restored.shape} and {clean.shape}")
    if min(restored.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, not {restored.shape[1]}x{restored.shape[0]}")
    return {protocol: _SCORERS[protocol](restored, clean) for protocol in protocols}


def _y_matlab(restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    images = luma(restored), luma(clean)
    return {"psnr": _psnr(*images), "ssim": _ssim(*images)}


def _rgb(restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    return {"psnr": _psnr(restored, clean), "ssim": _ssim(restored, clean, channel_axis=-1)}


def _y_prenet(restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    images = _exact_luma(restored), _exact_luma(clean)
    return {"psnr": _psnr(*images), "ssim": _ssim(*map(_thinned_out, images))}


_SCORERS = {"y-matlab": _y_matlab, "rgb": _rgb, "y-prenet": _y_prenet}


def _exact_luma(image: np.ndarray) -> np.ndarray:
    return rgb2ycbcr(image)[..., 0]


def _thinned_out(image: np.ndarray) -> np.ndarray:
    """Every ``f``-th pixel of the mean over ``f`` times ``f`` pixels, ``f`` such that about 256 are left."""
    factor = max(1, round(min(image.shape) / SSIM_SIDE + 1e-9))
    # MATLAB's window of even size has one pixel more after its centre than before, scipy's the other way round.
    mean = uniform_filter(image, factor, mode="reflect", origin=-1 if factor % 2 == 0 else 0)
    return mean[::factor, ::factor]


def _psnr(restored: np.ndarray, clean: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(clean, restored, data_range=255))


def _ssim(restored: np.ndarray, clean: np.ndarray, channel_axis: int | None = None) -> float:
    value = structural_similarity(
        clean,
        restored,
        data_range=255,
        channel_axis=channel_axis,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)
