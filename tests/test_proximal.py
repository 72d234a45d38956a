import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autoderain_jax.proximal import (
    prox_one_hot,
    prox_pull,
    prox_simplex,
    proximal,
    proximal_gradient,
    scale_by_mixed_adam,
)
from autoderain_jax.search_space import initial_alphas


def test_one_hot_projection_by_hand():
    rows = {"a": jnp.array([0.2, 0.9, 0.3]), "b": jnp.array([[1.0, 0.0], [0.1, 0.4]])}
    expected = {"a": jnp.array([0.0, 1.0, 0.0]), "b": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
    chex.assert_trees_all_equal(prox_one_hot(rows), expected)
    chex.assert_trees_all_equal(prox_one_hot(jnp.array([0.1, 0.7, 0.7])), jnp.array([0.0, 1.0, 0.0]))


def test_projections_are_idempotent():
    rows = {"a": jax.random.normal(jax.random.key(0), (6, 5)) * 2}
    once = prox_one_hot(rows)
    chex.assert_trees_all_equal(prox_one_hot(once), once)
    projected = prox_simplex(rows)
    chex.assert_trees_all_close(prox_simplex(projected), projected, atol=1e-6)


def test_pull_by_hand_and_its_fixed_points():
    chex.assert_trees_all_close(prox_pull(jnp.array([0.4, 0.6]), 1.0), jnp.array([0.2, 0.8]))
    chex.assert_trees_all_equal(prox_pull(jnp.array([0.4, 0.6]), 0.0), jnp.array([0.4, 0.6]))
    chex.assert_trees_all_equal(prox_pull(jnp.array([0.0, 1.0]), 3.0), jnp.array([0.0, 1.0]))


def test_pull_minimises_its_objective():
    row, strength = jnp.array([0.3, 0.5, 0.1]), 0.7
    point = prox_pull(row, strength)

    def objective(v):
        return 0.5 * jnp.sum((v - row) ** 2) + 0.5 * strength * jnp.sum((v - prox_one_hot(v)) ** 2)

    nearby = point + 0.05 * jax.random.normal(jax.random.key(0), (200, 3))
    assert objective(point) < jax.vmap(objective)(nearby).min()


def test_simplex_projection_by_hand():
    rows = jnp.array([[0.5, 0.5, 0.5], [1.2, 0.4, -0.3], [0.9, 0.9, 0.0], [3.0, 0.0, 0.0]])
    expected = jnp.array([[1 / 3, 1 / 3, 1 / 3], [0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    chex.assert_trees_all_close(prox_simplex(rows), expected, atol=1e-6)
    # What a row's entries share does not matter.
    chex.assert_trees_all_close(prox_simplex(rows - 7.0), expected, atol=1e-5)


def test_lazy_steps_by_hand():
    transform = optax.chain(optax.sgd(0.5), proximal("lazy"))
    alphas = jnp.array([0.25, 0.25, 0.5])
    state = transform.init(alphas)
    # First (0.25, 0.5, 0.25), already on the simplex. Then (0.25, 1.0, -0.25), of which (0.125, 0.875, 0) is nearest.
    for grads, expected in [([0.0, -0.5, 0.5], [0.25, 0.5, 0.25]), ([0.0, -1.0, 1.0], [0.125, 0.875, 0.0])]:
        updates, state = transform.update(jnp.array(grads), state, alphas)
        alphas = optax.apply_updates(alphas, updates)
        chex.assert_trees_all_close(alphas, jnp.array(expected), atol=1e-6)
    assert alphas[2] == 0.0


def test_eager_steps_by_hand_with_growing_pull():
    transform = optax.chain(optax.sgd(0.5), proximal("eager", lambda count: 1.0 * count))
    alphas = jnp.array([0.5, 0.5])
    state = transform.init(alphas)
    # Pull 0: a plain step. Pull 1: half way from (0.25, 0.75) to (0, 1).
    for grads, expected in [([0.5, -0.5], [0.25, 0.75]), ([0.0, 0.0], [0.125, 0.875])]:
        updates, state = transform.update(jnp.array(grads), state, alphas)
        alphas = optax.apply_updates(alphas, updates)
        chex.assert_trees_all_close(alphas, jnp.array(expected), rtol=1e-6)


def test_optimiser_ignores_what_the_gates_of_a_row_share():
    alphas = {"a": jnp.full((3,), 1 / 3)}
    outcomes = []
    for shared in (0.0, 100.0):
        optimiser, point = proximal_gradient(0.01), alphas
        state = optimiser.init(point)
        for _ in range(5):
            updates, state = optimiser.update({"a": jnp.array([1.0, 0.0, -1.0]) + shared}, state, point)
            point = optax.apply_updates(point, updates)
        outcomes.append(point)
    chex.assert_trees_all_close(*outcomes, rtol=1e-4)
    # Constant steps: down, none, up.
    far = 0.05 * 2 / (1 + (2 / 3) ** 0.5)
    chex.assert_trees_all_close(outcomes[0]["a"], jnp.array([1 / 3 - far, 1 / 3, 1 / 3 + far]), rtol=1e-4)


def test_mixed_adam_by_hand():
    transform = scale_by_mixed_adam(b1=0.5, b2=0.75)
    state = transform.init({"a": jnp.zeros(2), "b": jnp.zeros(2)})
    # After the second, means weigh 1/3 and 2/3, squares 3/7 and 4/7.
    updates, state = transform.update({"a": jnp.array([4.0, 0.0]), "b": jnp.zeros(2)}, state)
    chex.assert_trees_all_close(updates, {"a": jnp.array([2 * 4 / (4 + 2), 0.0]), "b": jnp.zeros(2)}, rtol=1e-5)
    updates, state = transform.update({"a": jnp.array([4.0, 7.0]), "b": jnp.zeros(2)}, state)
    sizes = np.array([4.0, 28**0.5])
    of_all = np.sqrt((sizes**2).sum() / 4)
    expected = {"a": 2 * np.array([4.0, 14 / 3]) / (sizes + of_all), "b": np.zeros(2)}
    chex.assert_trees_all_close(updates, jax.tree.map(jnp.float32, expected), rtol=1e-5)


def test_choices_that_hardly_matter_stay_beside_others():
    """Under Adam both move alike."""
    alphas = {"decisive": jnp.array([0.5, 0.5]), "idle": jnp.array([0.5, 0.5])}
    moved = {}
    for name, optimiser in {"ours": proximal_gradient(0.01), "adam": optax.adam(0.01)}.items():
        state, point = optimiser.init(alphas), alphas
        for _ in range(10):
            grads = {"decisive": jnp.array([1.0, -1.0]), "idle": jnp.array([0.01, -0.01])}
            updates, state = optimiser.update(grads, state, point)
            point = optax.apply_updates(point, updates)
        moved[name] = {row: float(point[row][1] - 0.5) for row in alphas}
    assert moved["adam"] == pytest.approx({"decisive": 0.1, "idle": 0.1}, rel=1e-3)
    of_all = 0.5**0.5
    expected = {"decisive": 0.2 / (1 + of_all), "idle": 0.002 / (0.01 + of_all)}
    assert moved["ours"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_steps_stay_feasible_and_equal_the_proximal_point(mode):
    transform = proximal(mode, 0.3)
    alphas = {"a": prox_simplex(jax.random.uniform(jax.random.key(0), (200, 5)))}
    state = transform.init(alphas)
    update = jax.jit(transform.update)
    for seed in range(10):
        step = {"a": 0.2 * jax.random.normal(jax.random.key(seed), (200, 5))}
        point = optax.apply_updates(alphas, step)
        point = prox_simplex(prox_pull(point, 0.3) if mode == "eager" else point)
        updates, state = update(step, state, alphas)
        alphas = optax.apply_updates(alphas, updates)
        chex.assert_trees_all_close(alphas, point, rtol=0, atol=5e-7)
        bound = point["a"] == 0.0
        assert bound.any()
        np.testing.assert_array_equal(alphas["a"][bound], 0.0)
        assert float(alphas["a"].min()) >= 0.0
        np.testing.assert_allclose(alphas["a"].sum(-1), 1.0, atol=1e-6)


def test_update_compiles_once():
    transform = optax.chain(optax.adam(0.1), proximal("eager", optax.linear_schedule(0.0, 1.0, 10)))
    alphas = initial_alphas({"block": {"conv": ("a", "b", "c")}})
    update = jax.jit(chex.assert_max_traces(transform.update, n=1))
    state = transform.init(alphas)
    for _ in range(3):
        updates, state = update(alphas, state, alphas)
        alphas = optax.apply_updates(alphas, updates)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="mode must be"):
        proximal("greedy")
    with pytest.raises(ValueError, match="needs the current parameters"):
        proximal().update(jnp.zeros(2), proximal().init(jnp.zeros(2)))
