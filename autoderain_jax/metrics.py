"""Reported quality, by named protocol. Luma and RGB differ by 1-2 dB: a figure without its protocol means nothing.

* ``y-matlab``: the luma of MATLAB's ``rgb2ycbcr`` on uint8 images (BT.601, limited range, rounded to uint8), as most
  tables of the deraining literature use.
* ``rgb``: all three channels; SSIM is their mean.

Both take uint8 images. PSNR has peak 255; SSIM (Wang et al., TIP 2004) an 11x11 Gaussian of sigma 1.5, population
covariance and data range 255, over all whole windows.
"""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

PROTOCOLS = ("y-matlab", "rgb")
SSIM_WINDOW = 11


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] (clipped to it) to uint8, rounded to the nearest."""
    return np.round(np.clip(np.asarray(image, np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 limited-range luma (16 to 235) of a uint8 RGB image (h, w, 3), rounded to uint8 (h, w) as MATLAB does."""
    return np.round(rgb2ycbcr(image)[..., 0]).astype(np.uint8)


def score(restored: np.ndarray, clean: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores one image by every protocol.

    Args:
      restored, clean: uint8 RGB images of the same shape (h, w, 3), at least 11 pixels high and wide.

    Returns:
      ``{"y-matlab": {"psnr": dB, "ssim": value}, "rgb": {...}}``; PSNR is ``inf`` for equal images.

    Raises:
      ValueError: another dtype, unequal shapes, or an image smaller than the SSIM window.
    """
    if restored.dtype != np.uint8 or clean.dtype != np.uint8:
        raise ValueError(f"metrics take uint8 images, not {restored.dtype} and {clean.dtype}")
    if restored.shape != clean.shape or restored.ndim != 3 or restored.shape[-1] != 3:
        raise ValueError(f"metrics take two RGB images of one shape, not {restored.shape} and {clean.shape}")
    if min(restored.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, not {restored.shape[1]}x{restored.shape[0]}")
    return {
        "y-matlab": _psnr_ssim(luma(restored), luma(clean), channel_axis=None),
        "rgb": _psnr_ssim(restored, clean, channel_axis=-1),
    }


def _psnr_ssim(restored: np.ndarray, clean: np.ndarray, channel_axis: int | None) -> dict[str, float]:
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(clean, restored, data_range=255)
    ssim = structural_similarity(
        clean,
        restored,
        data_range=255,
        channel_axis=channel_axis,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return {"psnr": float(psnr), "ssim": float(ssim)}
