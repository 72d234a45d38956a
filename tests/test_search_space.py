"""How an open choice runs: three executors, two ways of keeping weights, one function."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.blocks import ChoiceConv
from autoderain_jax.candidates import CANDIDATES, DEFAULT_CANDIDATES, candidate
from autoderain_jax.kernel_space import compose, union_window, weights_of
from autoderain_jax.search_space import Supernet, initial_alphas, run_selected, sample_gates

EXECUTORS = ("kernel", "path", "output")


def choice(supernet, options, seed=0):
    x = jax.random.normal(jax.random.key(seed), (2, 9, 8, 6))
    module = ChoiceConv(6, options, supernet)
    gates = jax.nn.one_hot(0, len(options))
    return module, module.init(jax.random.key(seed + 1), x, gates)["params"], x


@pytest.mark.parametrize("shared", [True, False])
def test_executors_agree_in_value_and_in_every_gradient(shared):
    """At every one-hot row, at a mixture and at zeros; one of the candidates is not linear."""
    options = tuple(CANDIDATES)
    rows = [*jnp.eye(len(options)), jax.nn.softmax(jax.random.normal(jax.random.key(5), (len(options),)))]
    rows += [jnp.zeros(len(options))]
    results = []
    for executor in EXECUTORS:
        module, params, x = choice(Supernet(shared, executor), options)

        def objective(params, gates, x, module=module):
            return jnp.square(module.apply({"params": params}, x, gates) - 1.0).mean()

        step = jax.jit(jax.value_and_grad(objective, (0, 1, 2)))
        results.append([step(params, gates, x) for gates in rows])
    for other in results[1:]:
        chex.assert_trees_all_close(results[0], other, rtol=1e-4, atol=1e-5)
    for _, (_, of_gates, _) in results[0]:
        assert np.all(np.asarray(of_gates) != 0.0), "unselected gates have a gradient too"


def test_gate_gradient_is_the_difference_that_the_gate_makes():
    """The loss is linear in the output here, so that differences are exact."""
    module, params, x = choice(Supernet(shared=False), tuple(CANDIDATES))
    target = jax.random.normal(jax.random.key(7), x.shape)

    @jax.jit
    def loss(gates):
        return jnp.vdot(target, module.apply({"params": params}, x, gates))

    start = jax.nn.one_hot(2, len(CANDIDATES))
    gradient = jax.grad(loss)(start)
    for k in range(len(CANDIDATES)):
        difference = loss(start + jax.nn.one_hot(k, len(CANDIDATES))) - loss(start)
        assert float(gradient[k]) == pytest.approx(float(difference), rel=1e-3, abs=1e-3)


def test_the_shared_kernel_has_no_weights_that_no_candidate_uses():
    options = ("conv3x3", "dilated3x3", "separable3x3")
    _, params, _ = choice(Supernet(), options)
    window = union_window([candidate(name) for name in options])
    assert window.sum() == 17, "the middle nine taps and eight around them"
    assert float(jnp.abs(params["shared"] * (1 - window)).max()) == 0.0


@pytest.mark.parametrize("shared", [True, False])
def test_a_selected_candidate_is_its_own_projection_or_its_own_weights(shared):
    options = ("conv3x3", "separable_dilated3x3", "conv_relu_conv")
    module, params, x = choice(Supernet(shared), options)
    for k, name in enumerate(options):
        expected = candidate(name).apply(weights_of([candidate(name)], params)[name], x)
        actual = module.apply({"params": params}, x, jax.nn.one_hot(k, 3))
        chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)
    names = {"shared", "conv_relu_conv", "bias"} if shared else {*options, "bias"}
    assert set(params) == names


@pytest.mark.parametrize("shared", [True, False])
def test_two_paths_add_their_outputs_and_have_gradients_each(shared):
    module, params, x = choice(Supernet(shared), DEFAULT_CANDIDATES)
    first, second = jax.nn.one_hot(1, 5), jax.nn.one_hot(3, 5)
    run = lambda gates: module.apply({"params": params}, x, gates) - params["bias"]  # noqa: E731
    chex.assert_trees_all_close(run(jnp.stack([first, second])), run(first) + run(second), rtol=1e-4, atol=1e-5)
    silent = jax.grad(lambda gates: jnp.square(run(gates)).mean())(jnp.stack([first, 0.0 * second]))
    alone = jax.grad(lambda gates: jnp.square(run(gates)).mean())(first)
    chex.assert_trees_all_close(silent[0], alone, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(silent[1], alone, rtol=1e-4, atol=1e-5)


def test_what_is_not_selected_does_not_run():
    calls = []

    def function(weights, x):
        return jax.pure_callback(lambda v: calls.append(1) or v, x, weights * x)

    for gate in (0.0, 1.0):
        y = jax.jit(run_selected, static_argnums=0)(
            (function,), jnp.array([gate]), (jnp.float32(3.0),), jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
        )
        chex.assert_trees_all_close(y, jnp.full((1, 2, 2, 1), 1.0 + 3.0 * gate))
        assert len(calls) == int(gate)


def test_compose_is_the_weighted_sum_with_exact_gradient():
    candidates = [candidate(name) for name in ("conv3x3", "conv5x5", "separable3x3")]
    weights = {c.name: c.init(jax.random.key(i), 2, 2) for i, c in enumerate(candidates)}
    kernels = [c.embed(weights[c.name]) for c in candidates]
    gates = jnp.array([0.0, 1.0, 0.0])
    chex.assert_trees_all_equal(compose(candidates, weights, gates), kernels[1])
    grads = jax.grad(lambda g: compose(candidates, weights, g).sum())(gates)
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


def temp_bytes(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("shared", "executor"), [(True, "kernel"), (False, "kernel"), (True, "path"), (False, "path")])
def test_memory_does_not_grow_with_the_number_of_candidates(shared, executor):
    """Gate step and weight step of a chain of choices, against the same chain of 5x5 convolutions."""
    x = jnp.zeros((4, 64, 64, 8))

    def steps(options):
        modules = [ChoiceConv(8, options, Supernet(shared, executor)) for _ in range(4)]
        gates = jax.nn.one_hot(0, len(options))
        params = [m.init(jax.random.key(0), x[:, :8, :8], gates)["params"] for m in modules]

        def loss(params, gates):
            h = x
            for module, p in zip(modules, params, strict=True):
                h = h + jax.nn.relu(module.apply({"params": p}, h, gates))
            return jnp.square(h).mean()

        return [temp_bytes(jax.grad(loss, wrt), params, gates) for wrt in (0, 1)]

    single = steps(("conv5x5",))[0]
    for options in (("conv3x3", "conv5x5"), ("conv3x3", "conv5x5", "dilated3x3", "separable3x3", "conv_relu_conv")):
        bank = 4 * len(options) * 25 * 8 * 8 * 4
        # What a function holds while it is run again, beside a convolution: once, whatever the depth.
        inside = 3 * x.nbytes if executor == "kernel" and "conv_relu_conv" in options else 0
        assert max(steps(options)) <= 1.05 * single + bank + inside
