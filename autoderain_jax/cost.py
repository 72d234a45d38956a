"""The price of an architecture, linear in the gates, so that its gradient is exact for every gate."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.blocks import SqueezeExcite, squeezed
from autoderain_jax.candidates import Candidate, candidate, counted_macs
from autoderain_jax.network import DerainNet, NetworkConfig
from autoderain_jax.search_space import Choices, Rows

SECONDS_PER_OPTION = 0.05
"""How long ``latency`` runs each option again, at least."""


def macs(config: NetworkConfig, patch: int = 64) -> Rows:
    """Multiply-accumulates per input pixel of every option of every choice, as rows like the alphas.

    Squeeze-and-excitation is counted by its two small layers, which run once for a patch of this side in pixels.
    """
    return _table(
        config,
        lambda c, channels, level: c.macs(channels, channels) / 4**level,
        lambda channels, level: 2.0 * channels * squeezed(channels, config.reduction) / patch**2,
    )


def params(config: NetworkConfig, patch: int = 64) -> Rows:
    """Number of weights of every option of every choice, without biases; the same for patches of any side."""
    del patch
    return _table(
        config,
        lambda c, channels, level: float(c.parameters(channels, channels)),
        lambda channels, level: 2.0 * channels * squeezed(channels, config.reduction),
    )


def latency(config: NetworkConfig, patch: int = 64) -> Rows:
    """Milliseconds that every option takes on this device, forward, on one patch of this side in pixels.

    Each is compiled and run alone, and its least time counts: an estimate, as in a network some of it overlaps. It
    differs from run to run; whoever needs the same prices again must keep them.
    """

    def convolution(c: Candidate, channels: int, level: int) -> float:
        weights = c.init(jax.random.key(0), channels, channels)
        return _milliseconds(c.apply, weights, _patch(config, patch, level))

    def squeeze_excite(channels: int, level: int) -> float:
        module, x = SqueezeExcite(config.reduction), _patch(config, patch, level)
        variables = module.init(jax.random.key(0), x)
        return _milliseconds(lambda v, x: x * module.apply(v, x), variables, x)

    return _table(config, convolution, squeeze_excite)


PRICES: dict[str, Callable[[NetworkConfig, int], Rows]] = {"macs": macs, "params": params, "latency": latency}
"""Every kind of price by name: ``(config, patch) -> rows``."""


def relative_cost(gates: Rows, prices: Rows) -> jax.Array:
    """Price of the options that ``gates`` select, as a share of that of the dearest architecture: in (0, 1]."""
    total = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gates, prices)))
    return total / sum(row.max() for row in jax.tree.leaves(prices))


def network_macs(config: NetworkConfig, choices: Choices) -> float:
    """Multiply-accumulates per pixel of a whole derived network, and errors, as of ``counted_macs``."""
    network = DerainNet(config, choices)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), x)
    return counted_macs(network.apply, variables, x) / 64**2


def network_params(config: NetworkConfig, choices: Choices) -> float:
    """Number of weights of a whole derived network."""
    variables = jax.eval_shape(DerainNet(config, choices).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    return float(sum(leaf.size for leaf in jax.tree.leaves(variables)))


def _table(
    config: NetworkConfig,
    convolution: Callable[[Candidate, int, int], float],
    squeeze_excite: Callable[[int, int], float],
) -> Rows:
    """Rows of prices, asked once for each level."""
    levels = {}
    for level in sorted(set(config.block_names().values())):
        channels = config.width * 2**level
        conv = [convolution(candidate(name), channels, level) for name in config.candidates]
        levels[level] = {
            "conv_a": np.array(conv, np.float32),
            "conv_b": np.array(conv, np.float32),
            "se": np.array([0.0, squeeze_excite(channels, level)], np.float32),
        }
    return {block: dict(levels[level]) for block, level in config.block_names().items()}


def _patch(config: NetworkConfig, patch: int, level: int) -> jax.Array:
    side = max(patch >> level, 1)
    return jnp.ones((1, side, side, config.width * 2**level), config.dtype)


def _milliseconds(function: Callable, *args) -> float:
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*args))
    least, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS_PER_OPTION:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        least = min(least, time.perf_counter() - start)
    return 1000.0 * least
