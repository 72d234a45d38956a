import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.genotype import inherit, one_hot_gates
from autoderain_jax.network import DerainNet, NetworkConfig, open_choices
from autoderain_jax.search_space import Supernet, initial_alphas, sample_gates
from tests.samples import random_genotype


def supernet(config, seed=0, shared=True):
    """A supernet with random weights everywhere (the head starts at zero otherwise), and random one-hot gates."""
    choices = open_choices(config)
    network = DerainNet(config, choices, supernet=Supernet(shared))
    gates = sample_gates(jax.random.key(seed + 1), initial_alphas(choices))
    params = jax.jit(network.init)(jax.random.key(seed), jnp.zeros((1, 16, 16, 3)), gates)["params"]
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 2), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return network, treedef.unflatten(noisy), gates


@pytest.mark.parametrize(("seed", "shared"), [(0, True), (1, True), (2, True), (3, False)])
def test_supernet_at_one_hot_gates_equals_the_derived_network(network_config, seed, shared):
    network, params, _ = supernet(network_config, seed, shared)
    genotype = random_genotype(network_config, seed)
    rainy = jax.random.uniform(jax.random.key(9), (2, 19, 22, 3))
    gates = one_hot_gates(network.choices, genotype)
    derived = DerainNet(network_config, genotype.choices)
    expected = jax.jit(network.apply)({"params": params}, rainy, gates)
    actual = jax.jit(derived.apply)({"params": inherit(params, genotype)}, rainy)
    assert float(jnp.abs(expected - rainy).max()) > 0.1
    assert float(jnp.linalg.norm(actual - expected) / jnp.linalg.norm(expected - rainy)) <= 1e-4


@pytest.mark.parametrize("shared", [True, False])
def test_every_gate_gradient_equals_that_of_the_mixture_in_output_space(shared):
    config = NetworkConfig(
        width=6, blocks=(1, 1), candidates=("conv5x5", "separable3x3", "conv_relu_conv"), reduction=2
    )
    network, params, gates = supernet(config, shared=shared)
    rainy, clean = jax.random.uniform(jax.random.key(9), (2, 2, 16, 16, 3))

    def gradient(executor):
        net = network.clone(supernet=Supernet(shared, executor))
        return jax.jit(jax.grad(lambda g: jnp.abs(net.apply({"params": params}, rainy, g) - clean).mean()))(gates)

    expected = gradient("output")
    for executor in ("kernel", "path"):
        for actual, wanted in zip(jax.tree.leaves(gradient(executor)), jax.tree.leaves(expected), strict=True):
            assert float(jnp.linalg.norm(actual - wanted) / jnp.linalg.norm(wanted)) <= 1e-4
            assert np.all(np.asarray(wanted) != 0.0), "unselected gates have a gradient too"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (17, 16), (31, 45)])
def test_any_size_keeps_its_shape(network_config, height, width):
    genotype = random_genotype(network_config)
    network = DerainNet(network_config, genotype.choices, pool_window=16)
    rainy = jax.random.uniform(jax.random.key(0), (1, height, width, 3))
    restored, _ = jax.jit(network.init_with_output)(jax.random.key(1), rainy)
    chex.assert_shape(restored, rainy.shape)
    chex.assert_tree_all_finite(restored)


def test_untrained_network_returns_its_input(network_config):
    rainy = jax.random.uniform(jax.random.key(0), (1, 12, 12, 3))
    network = DerainNet(network_config, random_genotype(network_config).choices)
    restored, _ = jax.jit(network.init_with_output)(jax.random.key(1), rainy)
    chex.assert_trees_all_equal(restored, rainy)


def test_bfloat16_computes_close_to_float32(network_config):
    _, params, gates = supernet(network_config)
    rainy = jax.random.uniform(jax.random.key(9), (1, 16, 16, 3))
    outputs = []
    for dtype in ("float32", "bfloat16"):
        config = NetworkConfig(network_config.width, network_config.blocks, reduction=2, dtype=dtype)
        outputs.append(jax.jit(DerainNet(config, open_choices(config)).apply)({"params": params}, rainy, gates))
    assert outputs[1].dtype == jnp.float32
    change, error = (float(jnp.linalg.norm(x)) for x in (outputs[0] - rainy, outputs[1] - outputs[0]))
    assert 0 < error < 0.05 * change


def test_pooling_over_a_window_as_large_as_the_image_equals_global_pooling(network_config):
    genotype = random_genotype(network_config)
    rainy = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    _, params, _ = supernet(network_config)
    outputs = [
        jax.jit(DerainNet(network_config, genotype.choices, window).apply)({"params": inherit(params, genotype)}, rainy)
        for window in (None, 16)
    ]
    chex.assert_trees_all_close(*outputs, rtol=1e-5, atol=1e-5)


def temp_bytes(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_search_steps_take_the_memory_of_one_model():
    config = NetworkConfig(width=8, blocks=(1, 1))
    network, params, gates = supernet(config)
    single = DerainNet(config, {b: {"conv_a": ("conv5x5",), "conv_b": ("conv5x5",), "se": ("on",)} for b in gates})
    rainy = jnp.zeros((8, 64, 64, 3))
    single_params = jax.jit(single.init)(jax.random.key(0), rainy[:1])["params"]
    base = temp_bytes(jax.grad(lambda p: jnp.abs(single.apply({"params": p}, rainy)).mean()), single_params)

    def loss(params, gates):
        return jnp.abs(network.apply({"params": params}, rainy, gates)).mean()

    assert temp_bytes(jax.grad(loss, 0), params, gates) <= 1.05 * base
    assert temp_bytes(jax.grad(loss, 1), params, gates) <= 1.05 * base


def test_a_block_without_se_is_one_whose_se_has_learned_nothing(network_config):
    """So that at the start of a search neither option is ahead for how much it adds."""
    network, params, gates = supernet(network_config)
    at_rest = {
        block: parts | {"se": jax.tree.map(jnp.zeros_like, parts["se"])} if "se" in parts else parts
        for block, parts in params.items()
    }
    rainy = jax.random.uniform(jax.random.key(9), (1, 16, 16, 3))
    without, with_ = (
        jax.jit(network.apply)(
            {"params": at_rest}, rainy, {block: rows | {"se": jnp.array(se)} for block, rows in gates.items()}
        )
        for se in ([1.0, 0.0], [0.0, 1.0])
    )
    chex.assert_trees_all_close(without, with_, rtol=1e-6)
    assert float(jnp.abs(without - rainy).max()) > 0.1
