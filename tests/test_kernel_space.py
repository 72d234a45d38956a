"""The gradient in stages is the gradient, and compiles ahead."""

import chex
import jax
import jax.numpy as jnp
import pytest

from autoderain_jax.candidates import candidate
from autoderain_jax.kernel_space import gradient_in_stages
from autoderain_jax.network import DerainNet, NetworkConfig, open_choices
from autoderain_jax.search_space import initial_alphas, sample_gates
from autoderain_jax.stages import traced
from experiments.programs import Programs

CONFIG = NetworkConfig(width=6, blocks=(1, 1), candidates=("conv3x3", "conv5x5", "separable3x3", "conv_relu_conv"))


@pytest.fixture(scope="module")
def network():
    return DerainNet(CONFIG, open_choices(CONFIG))


@pytest.fixture(scope="module")
def params(network):
    rows = initial_alphas(open_choices(CONFIG))
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), rows)["params"]
    params["head"]["kernel"] += 0.1 * jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    return params


def objective_on(network):
    def objective(params, gates, batch, kernels=None):
        loss = jnp.square(network.apply({"params": params}, batch, gates, kernels) - 0.5).mean()
        return loss, {"loss": loss}

    return objective


@pytest.mark.parametrize("stage", [traced, Programs()])
@pytest.mark.parametrize("binary", [True, False])
def test_gradient_in_stages_is_the_gradient(network, params, stage, binary):
    objective = objective_on(network)
    rows = initial_alphas(open_choices(CONFIG))
    gates = sample_gates(jax.random.key(2), rows) if binary else rows
    batch = jax.random.uniform(jax.random.key(3), (2, 8, 12, 3))
    expected, metrics = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(params, gates, batch)
    in_stages = gradient_in_stages(objective, [candidate(name) for name in CONFIG.candidates], stage)
    actual, same_metrics = in_stages(params, gates, batch)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(same_metrics, metrics, rtol=1e-5)
    assert all(jnp.abs(row).min() > 0 for row in jax.tree.leaves(actual[1])), "unselected gates have a gradient too"


def test_gradient_in_parts_is_the_gradient(network, params):
    rows = initial_alphas(open_choices(CONFIG))
    batch = jax.random.uniform(jax.random.key(3), (4, 8, 12, 3))
    in_stages = [
        gradient_in_stages(objective_on(network), [candidate(name) for name in CONFIG.candidates], Programs(), parts)
        for parts in (1, 2)
    ]
    expected, actual = in_stages[0](params, rows, batch), in_stages[1](params, rows, jnp.split(batch, 2))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_what_was_compiled_ahead_is_not_compiled_again(network, params):
    programs = Programs()
    in_stages = gradient_in_stages(objective_on(network), [candidate(name) for name in CONFIG.candidates], programs)
    args = params, initial_alphas(open_choices(CONFIG)), jnp.zeros((1, 8, 8, 3))
    ahead = programs.ahead(in_stages, *jax.eval_shape(lambda *args: args, *args))
    # Kernels of two widths, the network, and what the gradients are pulled back to.
    assert len(ahead) == len({run.program for run in ahead}) == 2 + 1 + 2
    assert max(ahead, key=lambda run: run.extra) is ahead[2]
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    try:
        jax.block_until_ready(in_stages(*args))
        assert not [name for name in events if "backend_compile" in name]
        jax.block_until_ready(jax.jit(lambda x: jnp.tan(x) + 3.0)(args[2]))
        assert [name for name in events if "backend_compile" in name]
    finally:
        jax.monitoring.clear_event_listeners()
