"""One search after another for planted architectures."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.mdarts import Search
from autoderain_jax.rivals import ALGORITHMS, AlgorithmName, best_of_random
from autoderain_jax.search_space import Choices, initial_alphas, leaning_alphas
from experiments.planted.config import PlantedConfig
from experiments.planted.teachers import (
    CANDIDATES,
    PlantedNet,
    Teacher,
    Teachers,
    gates_of,
    mean_error,
    prices_of,
)


class Player:
    """One algorithm, compiled once for all teachers."""

    def __init__(self, config: PlantedConfig, name: AlgorithmName, teachers: Teachers):
        algorithm = ALGORITHMS[name].with_kernels(config.kernels)
        self._config, self._name, self._teachers = config, name, teachers
        self._net = PlantedNet(config.layers, algorithm.supernet)
        self._choices: Choices = {f"layer{i}": {"conv": CANDIDATES} for i in range(config.layers)}
        self._search = self._build(algorithm)
        self._first = jax.jit(self._init)
        self._step = jax.jit(self._bilevel_step, donate_argnums=0)
        self._score = jax.jit(self._error)

    def _build(self, algorithm) -> Search:
        config = self._config

        def loss_on(supernet):
            net = self._net.clone(supernet=supernet)
            cut = jax.lax.stop_gradient if config.cut_gradients else lambda gates: gates
            return lambda params, gates, batch: mean_error(net.apply({"params": params}, batch[0], cut(gates)), batch)

        schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1)
        rate = config.alphas_learning_rate
        return algorithm.build(
            loss_on,
            optax.adam(schedule),
            algorithm.optimiser(algorithm.learning_rate if rate is None else rate),
            self._price,
            algorithm.relaxed_steps(config.relaxed, config.steps),
            leaning_alphas(gates_of([0] * config.layers), algorithm.head_start_of(config.head_start)),
        )

    def search(self, teacher: Teacher, rng: jax.Array) -> list[int]:
        """The architecture found for this teacher."""
        state = self._first(jax.random.fold_in(rng, 3))
        for _ in range(self._config.steps):
            state = self._step(state, teacher, rng)
        if self._name == "random":
            batch = self._teachers.batch(teacher, jax.random.fold_in(rng, 4), 8 * self._config.batch)

            def value(gates):
                return self._score(state.params, gates, batch) + self._price(gates)

            rows = best_of_random(value, initial_alphas(self._choices), rng, self._config.random_paths)
        else:
            rows = state.shares
        return [int(rows[f"layer{i}"]["conv"].argmax()) for i in range(self._config.layers)]

    def _price(self, gates):
        prices = prices_of(self._config)
        return self._config.cost_weight * sum(row["conv"] @ prices for row in gates.values())

    def _draw(self, teacher, rng):
        return self._teachers.batch(teacher, rng, self._config.batch)

    def _error(self, params, gates, batch):
        return mean_error(self._net.apply({"params": params}, batch[0], gates), batch)

    def _init(self, rng):
        images = jnp.zeros((1, self._config.size, self._config.size, self._config.channels))
        params_rng, alphas_rng = jax.random.split(rng)
        params = self._net.init(params_rng, images, initial_alphas(self._choices))["params"]
        return self._search.init(params, self._choices, alphas_rng)

    def _bilevel_step(self, state, teacher, rng):
        train, held_out, ties = jax.random.split(jax.random.fold_in(rng, state.step), 3)
        return self._search.step(state, self._draw(teacher, train), self._draw(teacher, held_out), ties)[0]
