import chex
import flax.traverse_util
import jax
import jax.numpy as jnp
import pytest

from autoderain_jax.cost import macs, params, relative_cost
from autoderain_jax.genotype import one_hot_gates, uniform
from autoderain_jax.network import DerainNet, NetworkConfig, open_choices
from autoderain_jax.search_space import initial_alphas


def test_cost_ranks_architectures_and_has_exact_gradients():
    config = NetworkConfig(width=8, blocks=(1, 1))
    prices, choices = macs(config), open_choices(config)

    def cost(conv, se):
        return float(relative_cost(one_hot_gates(choices, uniform(config, conv, se)), prices))

    assert cost("conv5x5", "on") == pytest.approx(1.0)
    assert cost("conv3x3", "off") == pytest.approx(9 / 25, rel=1e-3)
    assert cost("separable3x3", "off") < cost("conv3x3", "off") < cost("conv3x3", "on")
    grads = jax.grad(relative_cost)(initial_alphas(choices), prices)
    total = sum(row.max() for row in jax.tree.leaves(prices))
    chex.assert_trees_all_close(grads, jax.tree.map(lambda row: row / total, prices), rtol=1e-6)


def test_the_price_of_se_is_that_of_the_layer():
    """Which has at least four hidden channels, twice a fourth of the 8 at the full resolution."""
    config = NetworkConfig(width=8, blocks=(1, 1))
    network = DerainNet(config, uniform(config, "conv3x3").choices)
    weights = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    for block, rows in params(config).items():
        flat = flax.traverse_util.flatten_dict(weights[block], sep="/")
        layers = [leaf.size for name, leaf in flat.items() if name.endswith(("squeeze/kernel", "excite/kernel"))]
        assert (len(layers), rows["se"][1]) == (2, sum(layers))
