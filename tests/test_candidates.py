import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from autoderain_jax import candidates
from autoderain_jax.candidates import (
    CANDIDATES,
    SUPPORT,
    add_candidate,
    candidate,
    convolve,
    depthwise,
    rank_one,
)
from autoderain_jax.cost import network_macs
from autoderain_jax.errors import InputError
from autoderain_jax.genotype import uniform
from autoderain_jax.network import NetworkConfig

LINEAR = [name for name, c in CANDIDATES.items() if c.linear]


@pytest.mark.parametrize("name", LINEAR)
def test_embedded_kernel_convolves_like_the_candidate(name):
    c = candidate(name)
    weights = c.init(jax.random.key(0), 3, 4)
    x = jax.random.normal(jax.random.key(1), (2, 9, 7, 3))
    kernel = c.embed(weights)
    chex.assert_shape(kernel, (SUPPORT, SUPPORT, 3, 4))
    chex.assert_trees_all_close(convolve(x, kernel), c.apply(weights, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CANDIDATES)
def test_parameters_count_the_weights(name):
    weights = candidate(name).init(jax.random.key(0), 4, 4)
    assert candidate(name).parameters(4, 4) == sum(leaf.size for leaf in jax.tree.leaves(weights))


@pytest.mark.parametrize("name", LINEAR)
def test_outputs_start_with_equal_variance(name):
    x = jax.random.normal(jax.random.key(1), (4, 32, 32, 32))
    y = candidate(name).apply(candidate(name).init(jax.random.key(0), 32, 64), x)
    assert 1.4 < float(jnp.var(y)) < 2.6


@pytest.mark.parametrize("dilation", [1, 2])
def test_depthwise_equals_grouped_convolution(dilation):
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5))
    expected = lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=5,
    )
    chex.assert_trees_all_close(depthwise(x, kernel, dilation), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_projection_gives_back_what_was_embedded(name):
    c = candidate(name)
    weights = c.init(jax.random.key(0), 3, 4)
    kernel = c.embed(weights)
    chex.assert_trees_all_close(c.embed(c.project(kernel)), kernel, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_equal_shapes(c.project(kernel), weights)


@pytest.mark.parametrize("name", LINEAR)
def test_projection_is_nearest_to_a_kernel_that_is_not_of_the_type(name):
    c = candidate(name)
    kernel = jax.random.normal(jax.random.key(0), (SUPPORT, SUPPORT, 3, 4))
    distance = float(jnp.sum((kernel - c.embed(c.project(kernel))) ** 2))
    for seed in range(20):
        near = jax.tree.map(
            lambda leaf, seed=seed: leaf + 0.1 * jax.random.normal(jax.random.key(seed), leaf.shape), c.project(kernel)
        )
        # Power iteration stops a little short of the best approximation of rank one.
        assert float(jnp.sum((kernel - c.embed(near)) ** 2)) > 0.999 * distance


def test_rank_one_is_the_truncated_singular_value_decomposition():
    left, right, noise = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(left, (3, 3, 4, 1)) * jax.random.normal(right, (4, 6))
    kernel += 0.1 * jax.random.normal(noise, kernel.shape)
    weights = rank_one(kernel)
    matrix = np.moveaxis(np.asarray(kernel).reshape(9, 4, 6), 1, 0)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    best = np.moveaxis(u[:, :, :1] * s[:, :1, None] @ v[:, :1], 0, 1).reshape(kernel.shape)
    chex.assert_trees_all_close(weights["depthwise"][..., None] * weights["pointwise"], best, rtol=1e-3, atol=1e-3)


def test_gradient_of_rank_one_is_that_of_the_projection():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 1)) * jax.random.normal(jax.random.key(1), (2, 5))
    kernel += 0.02 * jax.random.normal(jax.random.key(2), kernel.shape)
    target = jax.random.normal(jax.random.key(3), kernel.shape)

    def objective(kernel):
        weights = rank_one(kernel)
        return jnp.vdot(target, weights["depthwise"][..., None] * weights["pointwise"])

    gradient, step = jax.grad(objective)(kernel), 1e-2
    for seed in range(3):
        direction = jax.random.normal(jax.random.key(10 + seed), kernel.shape)
        slope = (objective(kernel + step * direction) - objective(kernel - step * direction)) / (2 * step)
        assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(slope), rel=0.05, abs=0.05)


def test_rank_one_of_zeros_is_zero_with_finite_gradient():
    gradient = jax.grad(lambda k: sum(leaf.sum() for leaf in jax.tree.leaves(rank_one(k))))(jnp.zeros((3, 3, 2, 2)))
    chex.assert_tree_all_finite(gradient)


def test_a_function_becomes_a_candidate(own_candidate):
    c = CANDIDATES["own_candidate"]
    weights = c.init(jax.random.key(0), 6, 6)
    x = jax.random.normal(jax.random.key(1), (1, 8, 8, 6))
    expected = own_candidate(6).apply({"params": weights}, x)
    chex.assert_trees_all_close(c.apply(weights, x), expected)
    assert c.apply(weights, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    # A 1x1 convolution, its bias, and a tanh: 6 * 6 multiply-accumulates and some for the rest.
    assert 36 <= c.macs(6, 6) <= 48
    assert c.parameters(6, 6) == 42


def test_a_candidate_that_changes_the_size_is_refused(own_candidate):
    del own_candidate

    def narrow(features):
        return nn.Conv(features - 1, (1, 1))

    add_candidate(narrow)
    try:
        with pytest.raises(InputError, match="candidate 'narrow' must map"):
            CANDIDATES["narrow"].init(jax.random.key(0), 6, 6)
    finally:
        del CANDIDATES["narrow"]


def test_a_name_is_taken_once():
    def conv3x3(features):
        return nn.Conv(features, (3, 3))

    with pytest.raises(InputError, match="there is a candidate 'conv3x3' already"):
        add_candidate(conv3x3)


def test_unknown_candidate_is_named():
    with pytest.raises(InputError, match="unknown candidate 'conv7x7'"):
        candidate("conv7x7")


def test_operations_are_counted_on_the_cpu(monkeypatch):
    """As an accelerator's plugin counts none, which is here what the default device is given."""
    cpu, count = jax.devices("cpu")[0], jax.stages.Lowered.cost_analysis

    def cost_analysis(lowered):
        return count(lowered) if jax.config.jax_default_device == cpu else None

    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", cost_analysis)
    candidates._module_costs.cache_clear()
    assert candidate("conv_relu_conv").macs(8, 8) == pytest.approx(2 * 9 * 8 * 4, rel=0.15)
    config = NetworkConfig(width=4, blocks=(1,))
    assert network_macs(config, uniform(config, "conv1x1").choices) > 0

    def without(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", without)
    with pytest.raises(InputError, match="leaves out the CPU, on which multiply-accumulates are counted: set it to"):
        network_macs(config, uniform(config, "conv1x1").choices)


def test_what_does_no_arithmetic_has_no_multiply_accumulates():
    features = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
    assert candidates.counted_macs(lambda x: x, features) == 0
    assert candidates.counted_macs(lambda x: x @ jnp.ones((4, 6)), features) == 8 * 8 * 4 * 6
