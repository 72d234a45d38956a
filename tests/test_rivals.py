"""The rivals by hand, on three options with one weight each."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autoderain_jax.rivals import ALGORITHMS, best_of_random, darts, proxyless, random, softmax
from autoderain_jax.search_space import Supernet

CHOICES = {"block": {"conv": ("a", "b", "c")}}
BATCH = (jnp.float32(0.0), jnp.array([1.0, 0.0, 2.0]))


def loss(params, gates, batch):
    """Weights of what is selected are pulled to the target; gates, summed over paths, have a slope of their own."""
    target, slope = batch
    row = jnp.atleast_2d(gates["block"]["conv"]).sum(0)
    return jnp.square(row @ params - target) + row @ slope


def row(tree):
    return np.asarray(tree["block"]["conv"])


def start(search):
    return search.init(jnp.array([1.0, 2.0, 3.0]), CHOICES, jax.random.key(0))


def test_darts_moves_alphas_and_weights_through_the_softmax():
    search = darts(loss, optax.sgd(0.25), optax.sgd(1.0))
    state, metrics = search.gates(start(search), BATCH, jax.random.key(0))
    # At gates of 1/3 the output is 2: dL/dg = 4 * (1, 2, 3) + (1, 0, 2) = (5, 8, 14), with mean 9.
    np.testing.assert_allclose(row(state.alphas), -np.array([5.0 - 9.0, 8.0 - 9.0, 14.0 - 9.0]) / 3, rtol=1e-5)
    assert metrics["held_out_loss"] == pytest.approx(4.0 + 1.0)
    np.testing.assert_allclose(row(state.shares), 0.99 / 3 + 0.01 * row(softmax(state.alphas)), rtol=1e-5)
    state, _ = search.weights(start(search), BATCH, jax.random.key(0))
    # All weights are trained: dL/dw = 4 / 3 each.
    np.testing.assert_allclose(state.params, np.array([1.0, 2.0, 3.0]) - 0.25 * 4 / 3, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_proxyless_moves_the_two_sampled_alphas_and_keeps_the_probability_of_the_third(seed):
    search = proxyless(loss, optax.sgd(0.25), optax.sgd(0.1))
    state, metrics = search.gates(start(search), BATCH, jax.random.key(seed))
    moved = np.flatnonzero(row(state.alphas))
    assert len(moved) == 2
    i, j = moved
    still = ({0, 1, 2} - set(moved)).pop()
    assert row(softmax(state.alphas))[still] == pytest.approx(1 / 3, rel=1e-5)
    # The active one of the two tells the output y; dL/dg_k = 2 y w_k + slope_k, by the softmax over the two.
    values = {1.0 + 1.0: 0, 4.0 + 0.0: 1, 9.0 + 2.0: 2}
    active = values[float(metrics["held_out_loss"])]
    assert active in moved
    weights, slope = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 2.0])
    of_gates = 2 * weights[active] * weights + slope
    step = -0.1 * 0.25 * (of_gates[i] - of_gates[j])
    difference = row(state.alphas)[i] - row(state.alphas)[j]
    assert difference == pytest.approx(2 * step, rel=1e-4)


def test_proxyless_trains_a_sampled_path():
    search = proxyless(loss, optax.sgd(0.25), optax.sgd(0.1))
    state = start(search)
    state = state._replace(alphas={"block": {"conv": jnp.array([0.0, 9.0, 0.0])}})
    state, _ = search.weights(state, BATCH, jax.random.key(0))
    np.testing.assert_allclose(state.params, [1.0, 1.0, 3.0])


def test_random_search_trains_random_paths_and_takes_the_best_of_them():
    search = random(loss, optax.sgd(0.25), optax.sgd(0.1))
    state, metrics = search.gates(start(search), BATCH, jax.random.key(0))
    chex.assert_trees_all_equal(state, start(search))
    assert metrics == {}
    trained = {
        int(
            np.flatnonzero(
                search.weights(start(search), BATCH, jax.random.key(seed))[0].params != start(search).params
            )[0]
        )
        for seed in range(20)
    }
    assert trained == {0, 1, 2}
    prices = jnp.array([2.0, 3.0, 1.0])
    best = best_of_random(lambda gates: gates["block"]["conv"] @ prices, state.alphas, jax.random.key(0), 20)
    np.testing.assert_array_equal(row(best), [0.0, 0.0, 1.0])


def test_nasp_has_its_box_and_runs_every_candidate_in_the_gate_step_alone():
    supernets = []

    def loss_on(supernet):
        def of_supernet(params, gates, batch):
            supernets.append(supernet)
            return loss(params, gates, batch)

        return of_supernet

    nasp = ALGORITHMS["nasp"]
    search = nasp.build(loss_on, optax.sgd(0.25), nasp.optimiser(0.5))
    state, _ = search.gates(start(search), BATCH, jax.random.key(0))
    assert supernets[-1] == Supernet(shared=False, executor="output")
    # All gradients are positive here: the alphas of a box fall together, from 1/3 to 0.
    np.testing.assert_array_equal(row(state.alphas), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(row(nasp.preference(state.alphas)), [1 / 3] * 3, rtol=1e-6)
    search.weights(state, BATCH, jax.random.key(0))
    assert supernets[-1] == Supernet(shared=False, executor="kernel")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_steps_under_jit_and_prefers_rows_that_sum_to_one(name):
    algorithm = ALGORITHMS[name]
    search = algorithm.build(lambda supernet: loss, optax.sgd(0.1), algorithm.optimiser(0.1))
    state = start(search)
    for i in range(3):
        state, _ = jax.jit(search.step)(state, BATCH, BATCH, jax.random.key(i))
    assert int(state.step) == 3
    chex.assert_tree_all_finite(state)
    assert row(algorithm.preference(state.alphas)).sum() == pytest.approx(1.0, rel=1e-5)
