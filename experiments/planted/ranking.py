"""Architectures trained from scratch on a teacher, among which those found are ranked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.planted import stacked
from experiments.planted.config import PlantedConfig
from experiments.planted.teachers import CANDIDATES, Picks, Teacher, Teachers, mean_error, prices_of


class Trainer:
    """Trains architectures from scratch, by programs that serve all teachers."""

    def __init__(self, config: PlantedConfig, teachers: Teachers):
        self._config, self._teachers = config, teachers
        schedule = optax.cosine_decay_schedule(config.rank_learning_rate, config.rank_steps, alpha=0.01)
        # Flattened, as the time of so small a step is that of its many operations.
        self._optimiser = optax.flatten(optax.adam(schedule))
        self._draw = jax.jit(teachers.batch, static_argnums=2)
        self._advance = jax.jit(self._step, donate_argnums=(0, 1))
        self._error = jax.jit(lambda weights, gates, batch: mean_error(stacked.run(weights, gates, batch[0]), batch))
        self._all = jax.jit(jax.vmap(self._whole, (None, 0, None, None, None)))

    def values(self, teacher: Teacher, rng: jax.Array, architectures: list[Picks]) -> dict[Picks, float]:
        """The objective of each architecture, trained from scratch."""
        first, new, rng = jax.random.split(jax.random.fold_in(rng, 2), 3)
        test = self._draw(teacher, new, 8 * self._config.batch)
        # All begin with the same weights of every candidate.
        weights = stacked.stack(self._teachers.weights(first, test[0], architectures[0]))
        gates = jax.nn.one_hot(np.array(architectures), len(CANDIDATES))
        if jax.default_backend() == "cpu":
            batches = [self._batch(teacher, rng, i) for i in range(self._config.rank_steps)]
            errors = [self._one(weights, row, batches, test) for row in gates]
        else:
            # An accelerator takes little longer for all than for one.
            errors = self.side_by_side(weights, gates, teacher, rng, test)
        prices = self._config.cost_weight * prices_of(self._config)
        return {
            picks: float(error) + float(sum(prices[pick] for pick in picks))
            for picks, error in zip(architectures, errors, strict=True)
        }

    def side_by_side(self, weights: Any, gates: jax.Array, teacher: Teacher, rng: jax.Array, test: Any) -> jax.Array:
        """The error of each of ``gates`` (architectures, layers, candidates), trained all in one program."""
        most = self._config.rank + len(self._config.algorithms) + 1
        # Some that were drawn twice are missing: one program serves all teachers.
        padded = jnp.concatenate([gates, jnp.broadcast_to(gates[:1], (max(most - len(gates), 0), *gates.shape[1:]))])
        return self._all(weights, padded, teacher, rng, test)[: len(gates)]

    def _one(self, weights, gates, batches, test):
        weights = jax.tree.map(jnp.copy, weights)
        state = self._optimiser.init(weights)
        for batch in batches:
            weights, state = self._advance(weights, state, gates, batch)
        return self._error(weights, gates, test)

    def _whole(self, weights, gates, teacher, rng, test):
        """``_one`` as one program."""

        def step(carry, i):
            return self._step(*carry, gates, self._batch(teacher, rng, i)), None

        carry = weights, self._optimiser.init(weights)
        (weights, _), _ = jax.lax.scan(step, carry, jnp.arange(self._config.rank_steps))
        return self._error(weights, gates, test)

    def _batch(self, teacher, rng, step):
        return self._draw(teacher, jax.random.fold_in(rng, step), self._config.rank_batch)

    def _step(self, weights, state, gates, batch):
        grads = jax.grad(self._error)(weights, gates, batch)
        updates, state = self._optimiser.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state


def architectures(config: PlantedConfig, index: int, found: Iterable[Picks]) -> list[Picks]:
    """Those found, and all there are or a sample of them."""
    everything = len(CANDIDATES) ** config.layers
    if config.rank >= everything:
        return list(itertools.product(range(len(CANDIDATES)), repeat=config.layers))
    draw = np.random.RandomState([config.seed, index])
    sample = (tuple(int(i) for i in row) for row in draw.randint(len(CANDIDATES), size=(config.rank, config.layers)))
    return list(dict.fromkeys([*found, *sample]))
