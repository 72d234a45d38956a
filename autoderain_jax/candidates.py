"""Candidates: the operations that a search chooses among, linear ones as kernels, others as functions.

A linear candidate that fits a 5x5 window *is* a 5x5 kernel: a 3x3 one padded with zeros, a dilated one spread with
holes, a separable one its depthwise times its pointwise part. It can therefore be embedded in a dense kernel, and a
dense kernel can be projected on it. What the search makes of that is in ``kernel_space``.

A candidate of your own is one function, see ``add_candidate``. All candidates are ours; the paper's are not known.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from autoderain_jax.errors import InputError

SUPPORT = 5
"""Height and width, in pixels, of the window that every linear candidate fits into."""

POWER_ITERATIONS = 1
"""Of the projection on separable kernels."""
TINY = 1e-12
"""Added to squared lengths that may be zero before dividing by them."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One type of convolution: linear and size-preserving.

    Attributes:
      name: how genotypes call it.
      window: taps as (height, width).
      dilation: distance between neighbouring taps, in pixels.
      separable: a depthwise convolution followed at once by a pointwise one, instead of a dense convolution.
    """

    name: str
    window: tuple[int, int]
    dilation: int = 1
    separable: bool = False
    linear: ClassVar[bool] = True

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width in pixels that the taps reach over."""
        return tuple(self.dilation * (taps - 1) + 1 for taps in self.window)

    def init(self, rng: jax.Array, in_features: int, features: int) -> dict[str, jax.Array]:
        """He-normal weights: ``kernel`` (h, w, in, out), or ``depthwise`` (h, w, in) and ``pointwise`` (in, out)."""
        taps = self.window[0] * self.window[1]
        if not self.separable:
            shape = (*self.window, in_features, features)
            return {"kernel": jax.random.normal(rng, shape) * (2.0 / (taps * in_features)) ** 0.5}
        depthwise_rng, pointwise_rng = jax.random.split(rng)
        return {
            "depthwise": jax.random.normal(depthwise_rng, (*self.window, in_features)) * (1.0 / taps) ** 0.5,
            "pointwise": jax.random.normal(pointwise_rng, (in_features, features)) * (2.0 / in_features) ** 0.5,
        }

    def embed(self, weights: Mapping[str, jax.Array]) -> jax.Array:
        """The candidate as a dense kernel of shape (5, 5, in, out)."""
        kernel = weights["depthwise"][..., None] * weights["pointwise"] if self.separable else weights["kernel"]
        return self.spread(kernel)

    def spread(self, kernel: jax.Array) -> jax.Array:
        """A kernel (h, w, in, out) on the candidate's taps, zeros elsewhere: (5, 5, in, out)."""
        margins = [(SUPPORT - extent) // 2 for extent in self.extent]
        zero = jnp.zeros((), kernel.dtype)
        config = [(margin, margin, self.dilation - 1) for margin in margins] + [(0, 0, 0), (0, 0, 0)]
        return lax.pad(kernel, zero, config)

    def project(self, kernel: jax.Array) -> dict[str, jax.Array]:
        """The weights of this candidate nearest to a dense kernel (5, 5, in, out): the inverse of ``embed``."""
        return project((self,), kernel)[self.name]

    def taps_of(self, kernel: jax.Array) -> jax.Array:
        """The taps of a dense kernel (5, 5, in, out) that this candidate has: (h, w, in, out)."""
        starts = [(SUPPORT - extent) // 2 for extent in self.extent]
        rows, columns = (slice(start, SUPPORT - start, self.dilation) for start in starts)
        return kernel[rows, columns]

    def apply(self, weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        """Convolves ``x`` (b, h, w, in) to (b, h, w, out) in the candidate's own cheap form."""
        if not self.separable:
            return convolve(x, weights["kernel"].astype(x.dtype), self.dilation)
        return depthwise(x, weights["depthwise"].astype(x.dtype), self.dilation) @ weights["pointwise"].astype(x.dtype)

    def run(self, weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        """The same as ``apply``, as one dense convolution: dearer where separable, but with nothing in between."""
        return convolve(x, self.embed(weights).astype(x.dtype))

    def macs(self, in_features: int, features: int) -> int:
        """Multiply-accumulates per output pixel."""
        taps = self.window[0] * self.window[1]
        return taps * in_features + in_features * features if self.separable else taps * in_features * features

    def parameters(self, in_features: int, features: int) -> int:
        """Number of weights: each of a convolution is used once per pixel."""
        return self.macs(in_features, features)


@dataclasses.dataclass(frozen=True)
class Function:
    """A candidate that need not be linear, as a Flax module: made by ``add_candidate``.

    Attributes:
      name: how genotypes call it.
      build: ``features -> module``; the module maps (b, h, w, features) to the same shape.
    """

    name: str
    build: Callable[[int], nn.Module]
    linear: ClassVar[bool] = False

    def init(self, rng: jax.Array, in_features: int, features: int) -> dict[str, Any]:
        """The module's own initial weights; raises ``InputError`` if it does not keep the size."""
        x = jnp.zeros((1, 8, 8, in_features))
        y, variables = self.build(features).init_with_output(rng, x)
        if y.shape != (1, 8, 8, features) or set(variables) - {"params"}:
            raise InputError(
                f"candidate {self.name!r} must map (b, h, w, {in_features}) to (b, h, w, {features}) and have no "
                f"variables but params; it maps {x.shape} to {y.shape} and has {', '.join(variables) or 'none'}"
            )
        return variables.get("params", {})

    def apply(self, weights: Mapping[str, Any], x: jax.Array) -> jax.Array:
        """Runs the module on ``x`` (b, h, w, features), in the precision of ``x``."""
        weights = jax.tree.map(lambda leaf: leaf.astype(x.dtype), weights)
        return self.build(x.shape[-1]).apply({"params": weights}, x).astype(x.dtype)

    run = apply

    def macs(self, in_features: int, features: int) -> int:
        """Multiply-accumulates per output pixel: half of what XLA counts as operations on a 16x16 image."""
        return _module_costs(self, in_features, features)[0]

    def parameters(self, in_features: int, features: int) -> int:
        """Number of weights."""
        return _module_costs(self, in_features, features)[1]


Candidate = Convolution | Function


@functools.cache
def _module_costs(function: Function, in_features: int, features: int) -> tuple[int, int]:
    weights = jax.eval_shape(lambda rng: function.init(rng, in_features, features), jax.random.key(0))
    macs = counted_macs(function.apply, weights, jax.ShapeDtypeStruct((1, 16, 16, in_features), jnp.float32))
    return round(macs / 16**2), sum(leaf.size for leaf in jax.tree.leaves(weights))


def counted_macs(function: Callable[..., Any], *args: Any) -> float:
    """Multiply-accumulates of a function of arrays, or of shapes: half of what XLA counts as operations for a CPU."""
    with jax.default_device(counting_device()):
        return jax.jit(function).lower(*args).cost_analysis().get("flops", 0.0) / 2


def counting_device() -> jax.Device:
    """The CPU, as accelerators' plugins do not count; raises ``InputError`` if ``JAX_PLATFORMS`` leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise InputError(
            f"JAX_PLATFORMS={jax.config.jax_platforms} leaves out the CPU, on which multiply-accumulates are counted: "
            f"set it to {jax.config.jax_platforms},cpu"
        ) from None


CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Convolution("conv3x3", (3, 3)),
        Convolution("conv5x5", (5, 5)),
        Convolution("dilated3x3", (3, 3), dilation=2),
        Convolution("separable3x3", (3, 3), separable=True),
        Convolution("separable_dilated3x3", (3, 3), dilation=2, separable=True),
        Convolution("separable5x5", (5, 5), separable=True),
        Convolution("conv5x1", (5, 1)),
        Convolution("conv1x5", (1, 5)),
        Convolution("conv3x1", (3, 1)),
        Convolution("conv1x1", (1, 1)),
    )
}
"""Every known candidate by name. 5x5 contains all linear ones, so without a price on computation it wins trivially."""

DEFAULT_CANDIDATES = ("conv3x3", "conv5x5", "dilated3x3", "separable3x3", "separable_dilated3x3")


def candidate(name: str) -> Candidate:
    """Looks a candidate up; raises ``InputError`` naming the known ones."""
    if name not in CANDIDATES:
        raise InputError(f"unknown candidate {name!r}: known are {', '.join(CANDIDATES)}")
    return CANDIDATES[name]


def add_candidate(build: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """Makes a candidate, called by the function's name, of a function ``features -> flax module``; a decorator.

    The module maps (b, h, w, features) to the same shape and has no state but its weights.

    Raises:
      InputError: another function has added a candidate of this name, or it is one of ours, or one that a choice's
        weights need.
    """
    name = build.__name__
    if name in ("shared", "bias"):
        raise InputError(f"a candidate cannot be called {name!r}: choose another name for the function")
    known = CANDIDATES.get(name)
    if known is not None and getattr(getattr(known, "build", None), "__code__", None) != build.__code__:
        raise InputError(f"there is a candidate {name!r} already: choose another name for the function")
    CANDIDATES[name] = Function(name, build)
    return build


@add_candidate
def conv_relu_conv(features: int) -> nn.Module:
    """Two 3x3 convolutions through half as many channels: non-linear at the price of a single 3x3."""
    return nn.Sequential([nn.Conv(max(features // 2, 1), (3, 3)), nn.relu, nn.Conv(features, (3, 3))])


def convolve(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Size-preserving convolution of ``x`` (b, h, w, in) with ``kernel`` (kh, kw, in, out), zeros beyond the border."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def depthwise(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Size-preserving depthwise convolution of ``x`` (b, h, w, c) with ``kernel`` (kh, kw, c).

    Written as shifted multiply-adds, which XLA fuses into one pass; its grouped convolution is many times slower on
    a CPU.
    """
    height, width = x.shape[1:3]
    reach = [dilation * (taps - 1) // 2 for taps in kernel.shape[:2]]
    padded = jnp.pad(x, ((0, 0), (reach[0], reach[0]), (reach[1], reach[1]), (0, 0)))
    total = jnp.zeros_like(x)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation, j * dilation
            total += padded[:, top : top + height, left : left + width] * kernel[i, j]
    return total


def project(convolutions: Sequence[Convolution], kernel: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """The weights of each convolution, by name, nearest to a dense kernel (5, 5, in, out)."""
    weights = {c.name: {"kernel": c.taps_of(kernel)} for c in convolutions if not c.separable}
    for window in dict.fromkeys(c.window for c in convolutions if c.separable):
        # Those of one window at once, side by side along the input channels: fewer and larger operations.
        alike = [c for c in convolutions if c.separable and c.window == window]
        both = rank_one(jnp.concatenate([c.taps_of(kernel) for c in alike], 2))
        depthwises = jnp.split(both["depthwise"], len(alike), 2)
        pointwises = jnp.split(both["pointwise"], len(alike), 0)
        for c, depthwise_part, pointwise_part in zip(alike, depthwises, pointwises, strict=True):
            weights[c.name] = {"depthwise": depthwise_part, "pointwise": pointwise_part}
    return weights


def rank_one(kernel: jax.Array) -> dict[str, jax.Array]:
    """The separable convolution nearest to a dense ``kernel`` (h, w, in, out), by power iteration.

    For every input channel the kernel is a matrix, taps by outputs; its best approximation of rank one is a depthwise
    part (its taps, here of length one) times a pointwise part.
    """
    taps, pointwise = _rank_one(kernel.reshape(-1, *kernel.shape[2:]))
    return {"depthwise": taps.reshape(kernel.shape[:3]), "pointwise": pointwise}


@jax.custom_vjp
def _rank_one(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Taps (t, in) and pointwise part (in, out) of a matrix (t, in, out)."""
    # Sums of products rather than matrix products, which XLA fuses: there are many of these, all small.
    pointwise = (matrix * np.linspace(0.5, 1.5, len(matrix), dtype=np.float32)[:, None, None]).sum(0)
    for _ in range(POWER_ITERATIONS):
        pointwise = (matrix * (matrix * pointwise).sum(-1)[..., None]).sum(0)
    taps = (matrix * pointwise).sum(-1)
    taps /= jnp.sqrt(jnp.square(taps).sum(0)) + TINY
    return taps, (matrix * taps[..., None]).sum(0)


def _rank_one_forward(matrix):
    taps, pointwise = _rank_one(matrix)
    return (taps, pointwise), (taps, pointwise)


def _rank_one_backward(residuals, gradients):
    """The gradient of the projection on the set of rank one, at the projected point.

    The product moves along the set's tangent space: taps turn toward ``change @ pointwise``, orthogonally to themselves
    as their length is one, and the pointwise part follows ``taps @ change``. This is the transpose of that map.
    """
    taps, pointwise = residuals
    of_taps, of_pointwise = gradients
    turn = (of_taps - taps * (taps * of_taps).sum(0)) / (jnp.square(pointwise).sum(-1) + TINY)
    return (turn[..., None] * pointwise + taps[..., None] * of_pointwise,)


_rank_one.defvjp(_rank_one_forward, _rank_one_backward)
