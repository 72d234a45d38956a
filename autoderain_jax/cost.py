"""The price of an architecture, linear in the gates, so that its gradient is exact for every gate."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from autoderain_jax.network import NetworkConfig
from autoderain_jax.search_space import Rows, candidate


def macs(config: NetworkConfig) -> Rows:
    """Multiply-accumulates per input pixel of every option of every choice, as rows like the alphas.

    Squeeze-and-excitation is counted by its two small layers as if each pixel needed them once per 64x64 patch.
    """
    table: Rows = {}
    for block, level in config.block_names().items():
        channels = config.width * 2**level
        conv = jnp.array([candidate(name).macs(channels, channels) for name in config.candidates], jnp.float32)
        se = jnp.array([0.0, 2.0 * channels**2 / config.reduction], jnp.float32) / 64**2
        table[block] = {"conv_a": conv / 4**level, "conv_b": conv / 4**level, "se": se}
    return table


def relative_cost(gates: Rows, prices: Rows) -> jax.Array:
    """Price of the options that ``gates`` select, as a share of that of the dearest architecture: in (0, 1]."""
    total = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gates, prices)))
    return total / sum(row.max() for row in jax.tree.leaves(prices))
