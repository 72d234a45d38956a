import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autoderain_jax.mdarts import mdarts
from autoderain_jax.proximal import proximal
from autoderain_jax.search_space import leaning_alphas

CHOICES = {"block": {"conv": ("a", "b", "c")}}


def toy(learning_rate=0.5, relaxed_steps=0, start=None):
    """Params (3,); the selected one is pulled to the batch's target. Gates have a slope of their own."""

    def loss(params, gates, batch):
        target, slope = batch
        return jnp.square(gates["block"]["conv"] @ params - target) + gates["block"]["conv"] @ slope

    return mdarts(
        loss,
        optax.sgd(0.25),
        optax.chain(optax.sgd(learning_rate), proximal("lazy")),
        cost=lambda gates: gates["block"]["conv"] @ jnp.array([0.2, 0.0, 0.0]),
        relaxed_steps=relaxed_steps,
        start=start,
        share_decay=0.5,
    )


def test_one_step_by_hand():
    search = toy()
    state = search.init(jnp.array([1.0, 2.0, 3.0]), CHOICES, jax.random.key(0))
    state = state._replace(alphas={"block": {"conv": jnp.array([0.5, 0.25, 0.25])}})
    held_out = (jnp.float32(1.5), jnp.array([1.0, 0.0, 2.0]))
    train = (jnp.float32(0.0), jnp.zeros(3))
    state, metrics = search.step(state, train, held_out, jax.random.key(0))
    # At gates (1, 0, 0) the residual is 1 - 1.5, so dL/dg = -1 * (1, 2, 3) + slope + cost = (0.2, -2, -1): the point
    # (0.5, 0.25, 0.25) - 0.5 * dL/dg = (0.4, 1.25, 0.75) has the projection (0, 0.75, 0.25).
    chex.assert_trees_all_close(state.alphas["block"]["conv"], jnp.array([0.0, 0.75, 0.25]), atol=1e-6)
    # The option now selected took a step of 0.25 * 2 * 2 toward 0, the others none.
    chex.assert_trees_all_close(state.params, jnp.array([1.0, 1.0, 3.0]))
    chex.assert_trees_all_close(state.shares["block"]["conv"], jnp.array([1 / 6, 2 / 3, 1 / 6]), atol=1e-6)
    assert metrics["held_out_loss"] == pytest.approx(1.25)
    assert metrics["cost"] == pytest.approx(0.2)
    assert metrics["train_loss"] == pytest.approx(4.0)
    assert int(state.step) == 1


def test_relaxed_gates_are_the_alphas_and_then_binary():
    search = toy(0.1, relaxed_steps=1)
    state = search.init(jnp.array([1.0, 2.0, 3.0]), CHOICES, jax.random.key(0))
    state = state._replace(alphas={"block": {"conv": jnp.array([0.5, 0.25, 0.25])}})
    batch = (jnp.float32(0.0), jnp.zeros(3))
    state, metrics = search.step(state, batch, batch, jax.random.key(0))
    # The mixture is 1.75: dL/dg = 3.5 * (1, 2, 3) + (0.2, 0, 0) = (3.7, 7, 10.5), and (0.13, -0.45, -0.8) projects to
    # (0.79, 0.21, 0), whose mixture is 1.21.
    assert metrics["held_out_loss"] == pytest.approx(1.75**2)
    chex.assert_trees_all_close(state.alphas["block"]["conv"], jnp.array([0.79, 0.21, 0.0]), atol=1e-6)
    assert metrics["train_loss"] == pytest.approx(1.21**2)
    moved = jnp.array([1.0, 2.0, 3.0]) - 0.25 * 2 * 1.21 * jnp.array([0.79, 0.21, 0.0])
    chex.assert_trees_all_close(state.params, moved, atol=1e-6)
    # From the second step on a single one is run and trained, and the alphas stay.
    alphas = state.alphas
    state, metrics = search.step(state, batch, batch, jax.random.key(0))
    chex.assert_trees_all_equal(state.alphas, alphas)
    assert metrics["held_out_loss"] == pytest.approx(float(moved[0]) ** 2)
    assert metrics["train_loss"] == pytest.approx(float(moved[0]) ** 2)
    chex.assert_trees_all_close(state.params[1:], moved[1:])


def test_alphas_may_lean_toward_an_architecture():
    start = leaning_alphas({"block": {"conv": jnp.array([0.0, 1.0, 0.0])}}, 0.4)
    chex.assert_trees_all_close(start["block"]["conv"], jnp.array([0.2, 0.6, 0.2]), atol=1e-6)
    state = toy(start=start).init(jnp.zeros(3), CHOICES, jax.random.key(0))
    chex.assert_trees_all_close(state.alphas, start, atol=1e-3)


def test_seeds_break_the_ties_between_first_alphas():
    rows = [toy().init(jnp.zeros(3), CHOICES, jax.random.key(seed)).alphas["block"]["conv"] for seed in range(30)]
    chex.assert_trees_all_close(jnp.stack(rows), jnp.full((30, 3), 1 / 3), atol=1e-3)
    np.testing.assert_allclose(jnp.stack(rows).sum(-1), 1.0, atol=1e-6)
    assert {int(row.argmax()) for row in rows} == {0, 1, 2}


def test_cheapest_slope_wins():
    search = toy(0.02)
    step = jax.jit(search.step)
    state = search.init(jnp.zeros(3), CHOICES, jax.random.key(0))
    batch = (jnp.float32(0.0), jnp.array([0.5, 0.1, 0.4]))
    for i in range(60):
        state, _ = step(state, batch, batch, jax.random.key(i))
    assert int(state.shares["block"]["conv"].argmax()) == 1
