"""The network's parts: choosable convolution, squeeze-and-excitation, RSEB, and changes of resolution.

A choice with several options is open: its weights hold every option and a row of gates selects among them. A choice
with one option is decided: it holds and runs that option alone and needs no gates. Supernet and derived network are
the same modules with open and with decided choices, so that they cannot drift apart.

All tensors are NHWC. The residual squeeze-and-excitation block (RSEB) is named in the paper's abstract; its details
are ours, after RSEN (Fu et al., arXiv 2006.00757) and SENet (Hu et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from autoderain_jax.candidates import candidate
from autoderain_jax.kernel_space import shared_kernel
from autoderain_jax.pooling import spread, window_means
from autoderain_jax.search_space import Supernet, run_choice

SE_AT_REST = 0.5
"""What squeeze-and-excitation multiplies by, on average, before it has learned anything, and a block without it always:
so that the choice between them is one of attention, and not of how much a block adds."""


class Extent(NamedTuple):
    """The upper left part of an array that an image fills, so that one program serves images of many sizes.

    What lies outside is zero wherever a convolution looks, as it is around an image that fills its array, so that the
    result is the same.

    Attributes:
      height, width: int32 scalars, in pixels of the array.
    """

    height: jax.Array
    width: jax.Array

    def at(self, level: int) -> Extent:
        """The same at a lower resolution."""
        return Extent(self.height >> level, self.width >> level)


def clear(x: jax.Array, extent: Extent | None) -> jax.Array:
    """``x`` (b, h, w, c) with zeros outside the extent; None: the image fills it."""
    if extent is None:
        return x
    rows, columns = (jnp.arange(n) < side for n, side in zip(x.shape[1:3], extent, strict=True))
    return jnp.where((rows[:, None] & columns)[None, ..., None], x, 0)


class ChoiceConv(nn.Module):
    """A convolution, or another candidate, whose type is chosen.

    Attributes:
      features: output channels.
      options: names of candidates; more than one makes the choice open.
      supernet: how an open choice keeps its weights and runs.
    """

    features: int
    options: tuple[str, ...]
    supernet: Supernet = Supernet()

    @nn.compact
    def __call__(self, x: jax.Array, gates: jax.Array | None = None, kernel: jax.Array | None = None) -> jax.Array:
        """Maps (b, h, w, in) to (b, h, w, features); ``gates`` and ``kernel`` as for ``run_choice`` if it is open."""
        candidates = [candidate(name) for name in self.options]
        open_choice = len(candidates) > 1
        sharing = open_choice and self.supernet.shared and any(c.linear for c in candidates)
        weights = {
            c.name: self.param(c.name, c.init, x.shape[-1], self.features)
            for c in candidates
            if not (sharing and c.linear)
        }
        if sharing and kernel is None:
            weights["shared"] = self.param("shared", shared_kernel, candidates, x.shape[-1], self.features)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if open_choice:
            y = run_choice(self.supernet, candidates, weights, x, gates, kernel)
        else:
            y = candidates[0].apply(weights[candidates[0].name], x)
        return y + bias.astype(x.dtype)


def squeezed(channels: int, reduction: int) -> int:
    """Width of the hidden layer of squeeze-and-excitation: at least 4, as narrower ones tell little."""
    return max(channels // reduction, 4)


class SqueezeExcite(nn.Module):
    """Channel attention: pool, 1x1 to c/reduction (or 4, if that is more), relu, 1x1 to c, sigmoid, scale.

    Attributes:
      reduction: the factor by which the hidden layer is narrower than the input.
      pool_window: side in pixels of ``x`` of the square to pool over around each pixel; None pools the whole image.
        Pooling as in training, over a window of the training patch's size, avoids the gap between statistics of
        patches and of whole images (Chu et al., ECCV 2022).
    """

    reduction: int
    pool_window: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, extent: Extent | None = None) -> jax.Array:
        """The scale that multiplies ``x`` (b, h, w, c): (b, 1, 1, c), or (b, h, w, c) for windowed pooling."""
        channels = x.shape[-1]
        size = x.shape[1:3]
        if self.pool_window:
            s = window_means(x, self.pool_window, extent or size).astype(x.dtype)
        elif extent is None:
            s = x.mean((1, 2), keepdims=True)
        else:
            s = x.sum((1, 2), keepdims=True) / (extent.height * extent.width).astype(x.dtype)
        s = nn.relu(nn.Dense(squeezed(channels, self.reduction), dtype=x.dtype, name="squeeze")(s))
        scale = nn.sigmoid(nn.Dense(channels, dtype=x.dtype, name="excite")(s))
        return spread(scale, self.pool_window, size) if self.pool_window else scale


class RSEB(nn.Module):
    """Residual squeeze-and-excitation block: ``x + SE(conv_b(relu(conv_a(x))))``, or half of that without SE.

    Attributes:
      choices: options of ``conv_a``, ``conv_b`` (candidates) and ``se`` (``off``, ``on``).
      reduction, pool_window: of the squeeze-and-excitation block.
      supernet: how open choices keep their weights and run.
    """

    choices: Mapping[str, tuple[str, ...]]
    reduction: int = 4
    pool_window: int | None = None
    supernet: Supernet = Supernet()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        gates: Mapping[str, jax.Array] | None = None,
        kernels: Mapping[str, jax.Array] | None = None,
        extent: Extent | None = None,
    ) -> jax.Array:
        """Maps (b, h, w, c) to the same shape; ``gates`` has a row for every open choice, ``kernels`` as there."""

        def conv(name: str, x: jax.Array) -> jax.Array:
            module = ChoiceConv(x.shape[-1], self.choices[name], self.supernet, name=name)
            return clear(module(x, (gates or {}).get(name), (kernels or {}).get(name)), extent)

        h = conv("conv_b", nn.relu(conv("conv_a", x)))
        scale = SE_AT_REST
        if "on" in self.choices["se"]:
            scale = SqueezeExcite(self.reduction, self.pool_window, name="se")(h, extent)
            if len(self.choices["se"]) > 1:
                # Several paths differ in this factor alone, so that it may be summed over them.
                off, on = jnp.atleast_2d(gates["se"]).sum(0).astype(x.dtype)
                scale = off * SE_AT_REST + on * scale
        return x + h * scale


class Downsample(nn.Module):
    """Halves height and width (which must be even) by a 2x2 convolution of stride 2."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (b, h, w, c) to (b, h/2, w/2, features)."""
        return nn.Conv(self.features, (2, 2), (2, 2), padding="VALID", dtype=x.dtype)(x)


class Upsample(nn.Module):
    """Doubles height and width by a 1x1 convolution and pixel shuffle."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (b, h, w, c) to (b, 2h, 2w, features)."""
        b, h, w, _ = x.shape
        x = nn.Dense(4 * self.features, dtype=x.dtype)(x)
        x = x.reshape(b, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, 2 * h, 2 * w, self.features)
