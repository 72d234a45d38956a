import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from autoderain_jax.errors import InputError
from autoderain_jax.search_space import (
    CANDIDATES,
    DEFAULT_CANDIDATES,
    SUPPORT,
    candidate,
    compose,
    convolve,
    depthwise,
    initial_alphas,
    sample_gates,
)


@pytest.mark.parametrize("name", CANDIDATES)
def test_embedded_kernel_convolves_like_the_candidate(name):
    c = candidate(name)
    weights = c.init(jax.random.key(0), 3, 4)
    x = jax.random.normal(jax.random.key(1), (2, 9, 7, 3))
    kernel = c.embed(weights)
    chex.assert_shape(kernel, (SUPPORT, SUPPORT, 3, 4))
    chex.assert_trees_all_close(convolve(x, kernel), c.apply(weights, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CANDIDATES)
def test_macs_count_the_weights(name):
    weights = candidate(name).init(jax.random.key(0), 3, 4)
    assert candidate(name).macs(3, 4) == sum(leaf.size for leaf in jax.tree.leaves(weights))


@pytest.mark.parametrize("name", CANDIDATES)
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


def test_compose_is_the_weighted_sum_with_exact_gradient():
    kernels = [jax.random.normal(key, (5, 5, 2, 2)) for key in jax.random.split(jax.random.key(0), 3)]
    gates = jnp.array([0.0, 1.0, 0.0])
    chex.assert_trees_all_equal(compose(kernels, gates), kernels[1])
    grads = jax.grad(lambda g: compose(kernels, g).sum())(gates)
    chex.assert_trees_all_close(grads, jnp.stack([kernel.sum() for kernel in kernels]), rtol=1e-5)


def test_alphas_start_level_and_sampled_gates_are_uniform_one_hot_rows():
    choices = {"block": {"conv_a": DEFAULT_CANDIDATES, "se": ("off", "on")}}
    alphas = initial_alphas(choices)
    chex.assert_trees_all_equal(alphas, {"block": {"conv_a": jnp.full(5, 0.2), "se": jnp.full(2, 0.5)}})
    draws = jax.vmap(lambda key: sample_gates(key, alphas))(jax.random.split(jax.random.key(0), 4000))
    row = np.asarray(draws["block"]["conv_a"])
    assert set(np.unique(row)) == {0.0, 1.0}
    np.testing.assert_array_equal(row.sum(-1), 1.0)
    np.testing.assert_allclose(row.mean(0), 0.2, atol=0.03)


def test_unknown_candidate_is_named():
    with pytest.raises(InputError, match="unknown candidate 'conv7x7'"):
        candidate("conv7x7")
