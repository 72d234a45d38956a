"""The search space: convolutions written as kernels, and the gates that choose among them.

Every candidate convolution is linear in its input and fits a 5x5 window, so it *is* a 5x5 kernel: a 3x3 one padded
with zeros, a dilated one spread with holes, a separable one its depthwise times its pointwise part. Hence, for gates
``g`` of one row,

    sum_k g_k conv(x, W_k)  =  conv(x, sum_k g_k embed(W_k)).

The right-hand side runs one convolution whatever the number of candidates, and its ordinary gradient is the exact
gradient of every gate, selected or not. That is how the search gets by with the memory of one model.

The paper's abstract names the two kinds of choice (the type of convolution; the SE block or none). The list of
candidates and the kernel-space form are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from autoderain_jax.errors import InputError

SUPPORT = 5
"""Height and width, in pixels, of the window that every candidate fits into."""

SE_OPTIONS = ("off", "on")
"""Options of a squeeze-and-excitation choice, in the order of its row of gates."""

Choices = dict[str, dict[str, tuple[str, ...]]]
"""Block name -> choice name (``conv_a``, ``conv_b``, ``se``) -> the options still open. One option: decided."""

Rows = dict[str, dict[str, jax.Array]]
"""Block name -> choice name -> a row with one float per option: alphas, gates, their gradients or their costs."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One type of convolution, linear and size-preserving.

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
        margins = [(SUPPORT - extent) // 2 for extent in self.extent]
        zero = jnp.zeros((), kernel.dtype)
        config = [(margin, margin, self.dilation - 1) for margin in margins] + [(0, 0, 0), (0, 0, 0)]
        return lax.pad(kernel, zero, config)

    def apply(self, weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        """Convolves ``x`` (b, h, w, in) to (b, h, w, out) in the candidate's own cheap form."""
        if not self.separable:
            return convolve(x, weights["kernel"].astype(x.dtype), self.dilation)
        return depthwise(x, weights["depthwise"].astype(x.dtype), self.dilation) @ weights["pointwise"].astype(x.dtype)

    def macs(self, in_features: int, features: int) -> int:
        """Multiply-accumulates per output pixel; also the number of weights."""
        taps = self.window[0] * self.window[1]
        return taps * in_features + in_features * features if self.separable else taps * in_features * features


CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("conv3x3", (3, 3)),
        Candidate("conv5x5", (5, 5)),
        Candidate("dilated3x3", (3, 3), dilation=2),
        Candidate("separable3x3", (3, 3), separable=True),
        Candidate("separable_dilated3x3", (3, 3), dilation=2, separable=True),
        Candidate("conv5x1", (5, 1)),
    )
}
"""Every known candidate by name. 5x5 contains all others, so without a price on computation it wins trivially."""

DEFAULT_CANDIDATES = ("conv3x3", "conv5x5", "dilated3x3", "separable3x3", "separable_dilated3x3")


def candidate(name: str) -> Candidate:
    """Looks a candidate up; raises ``InputError`` naming the known ones."""
    if name not in CANDIDATES:
        raise InputError(f"unknown candidate {name!r}: known are {', '.join(CANDIDATES)}")
    return CANDIDATES[name]


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


@jax.checkpoint
def compose(kernels: Sequence[jax.Array], gates: jax.Array) -> jax.Array:
    """``sum_k gates[k] * kernels[k]``. Recomputed in the backward pass, so that no kernel is kept as a residual."""
    return sum(gate * kernel for gate, kernel in zip(gates, kernels, strict=True))


def initial_alphas(choices: Choices) -> Rows:
    """Architecture parameters at their start: 1/K for each of a row's K options, so that nothing is preferred."""
    return {
        block: {name: jnp.full((len(options),), 1.0 / len(options), jnp.float32) for name, options in rows.items()}
        for block, rows in choices.items()
    }


def sample_gates(rng: jax.Array, rows: Rows) -> Rows:
    """One-hot gates, uniformly random and independent per row: one path through the supernet."""
    leaves, treedef = jax.tree.flatten(rows)
    rngs = jax.random.split(rng, len(leaves))
    picks = [
        jax.nn.one_hot(jax.random.randint(key, row.shape[:-1], 0, row.shape[-1]), row.shape[-1], dtype=row.dtype)
        for key, row in zip(rngs, leaves, strict=True)
    ]
    return treedef.unflatten(picks)
