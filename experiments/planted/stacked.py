"""The planted network for many short trainings: the same function, in fewer and faster operations.

The time of so small a step is that of its many operations rather than of arithmetic. So layers are stacked, that all
their kernels are summed at once, and kernels' gradients are matrix products, faster at this size than what XLA makes of
them on a CPU. On an accelerator convolutions are matrix products as well, of which it does those of many networks at
once. Networks of a useful size gain little by that and need more memory: they do without.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from autoderain_jax.candidates import DEFAULT_CANDIDATES, candidate, convolve
from autoderain_jax.kernel_space import compose


def stack(params: Mapping[str, Any]) -> Any:
    """Weights with a first axis for the layers, of ``params`` of a ``PlantedNet`` without shared kernels."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params.values())


def run(weights: Mapping[str, Any], gates: jax.Array, images: jax.Array) -> jax.Array:
    """What ``PlantedNet`` makes of ``images`` (b, h, w, c) by stacked weights and ``gates`` (layers, candidates)."""
    kernels = {name: leaf for name, leaf in weights.items() if name != "bias"}
    convolution = _convolve if jax.default_backend() == "cpu" else as_product
    summed = jax.vmap(functools.partial(compose, [candidate(name) for name in DEFAULT_CANDIDATES]))(kernels, gates)
    layers = list(zip(summed, weights["bias"], strict=True))
    if len(layers) == 1:
        return convolution(images, summed[0]) + weights["bias"][0]
    x = images
    for kernel, bias in layers:
        x += 0.5 * (convolution(jax.nn.relu(x), kernel) + bias)
    return x - images


def as_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``convolve`` (b, h, w, in) by a kernel (taps, taps, in, out) as one matrix product."""
    taps, _, _, outputs = kernel.shape
    height, width = x.shape[1:3]
    reach = taps // 2
    wide = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    shifted = [wide[:, i : i + height, j : j + width] for i in range(taps) for j in range(taps)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, outputs)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve(x, kernel)


def _forward(x, kernel):
    return convolve(x, kernel), (x, kernel)


def _backward(residuals, gradient):
    """The kernel's gradient as one matrix product: ``x`` shifted along rows, the gradient along columns."""
    x, kernel = residuals
    taps, _, inputs, outputs = kernel.shape
    height, width = x.shape[1:3]
    reach = taps // 2
    none, around = (0, 0), (reach, reach)
    wide = jnp.pad(x, (none, around, around, none))
    wide = jnp.concatenate([wide[:, :, j : j + width] for j in range(taps)], -1)
    high = jnp.pad(gradient, (none, (2 * reach, 2 * reach), none, none))
    high = jnp.concatenate([high[:, taps - 1 - i :][:, : height + 2 * reach] for i in range(taps)], -1)
    product = high.reshape(-1, taps * outputs).T @ wide.reshape(-1, taps * inputs)
    of_kernel = product.reshape(taps, outputs, taps, inputs).transpose(0, 2, 3, 1)
    return jax.vjp(lambda x: convolve(x, kernel), x)[1](gradient)[0], of_kernel


_convolve.defvjp(_forward, _backward)
