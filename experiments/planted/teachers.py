"""Teachers made of our own candidates, and the images that they label."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.blocks import ChoiceConv
from autoderain_jax.candidates import DEFAULT_CANDIDATES as CANDIDATES
from autoderain_jax.candidates import candidate
from autoderain_jax.search_space import Rows, Supernet
from experiments.planted.config import PlantedConfig

Picks = tuple[int, ...]
"""An architecture: index of the candidate in each layer."""


class PlantedNet(nn.Module):
    """Teacher and student: (b, h, w, c) to the same shape through ``layers`` choosable convolutions."""

    layers: int
    supernet: Supernet

    @nn.compact
    def __call__(self, x: jax.Array, gates: Rows) -> jax.Array:
        """The sum of what the layers add: the output without the residual path."""
        start = x
        for i in range(self.layers):
            conv = ChoiceConv(x.shape[-1], CANDIDATES, self.supernet, name=f"layer{i}")
            row = gates[f"layer{i}"]["conv"]
            x = conv(x, row) if self.layers == 1 else x + 0.5 * conv(nn.relu(x), row)
        return x if self.layers == 1 else x - start


class Teacher(NamedTuple):
    """Weights, one-hot gates, and the mean square of what it outputs."""

    params: dict
    gates: Rows
    power: jax.Array


Batch = tuple[jax.Array, jax.Array, jax.Array]
"""Images (b, h, w, c), what the teacher makes of them, and its mean square."""


class Teachers:
    """Draws teachers, and batches that they label; random numbers alone decide about both."""

    def __init__(self, config: PlantedConfig):
        self._config = config
        self._net = PlantedNet(config.layers, Supernet(shared=False))
        self._first = jax.jit(lambda rng, images, gates: self._net.init(rng, images, gates)["params"])

    def draw(self, rng: jax.Array, picks: Sequence[int] | np.ndarray) -> Teacher:
        """A teacher of this architecture with weights of its own."""
        rng, images = jax.random.split(jax.random.fold_in(rng, 1))
        images, gates = self._images(images, self._config.batch), gates_of(picks)
        params = self._first(rng, images, gates)
        return Teacher(params, gates, jnp.mean(jnp.square(self._net.apply({"params": params}, images, gates))))

    def batch(self, teacher: Teacher, rng: jax.Array, images: int) -> Batch:
        """So many images, labelled."""
        drawn = self._images(rng, images)
        return drawn, self._net.apply({"params": teacher.params}, drawn, teacher.gates), teacher.power

    def weights(self, rng: jax.Array, images: jax.Array, picks: Picks) -> Any:
        """Fresh weights of a network like the teacher, which has each candidate's own."""
        return self._first(rng, images, gates_of(picks))

    def _images(self, rng: jax.Array, images: int) -> jax.Array:
        c = self._config
        return jax.random.normal(rng, (images, c.size, c.size, c.channels))


def mean_error(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Mean square of the difference to the labels, beside that of the labels: 1 for a student that outputs nothing."""
    _, labels, power = batch
    return jnp.mean(jnp.square(outputs - labels)) / power


def gates_of(picks: Sequence[int] | np.ndarray) -> Rows:
    """One-hot gates that select an architecture."""
    return {f"layer{i}": {"conv": jax.nn.one_hot(pick, len(CANDIDATES))} for i, pick in enumerate(picks)}


@functools.cache
def prices_of(config: PlantedConfig) -> np.ndarray:
    """Price of each candidate; that of the dearest architecture is 1."""
    prices = np.array([candidate(name).macs(config.channels, config.channels) for name in CANDIDATES], np.float32)
    return prices / (prices.max() * config.layers)


def planted_picks(config: PlantedConfig) -> np.ndarray:
    """The planted candidates' indices, (teachers, layers): each equally often for one layer, else at random."""
    if config.layers == 1:
        return np.arange(config.teachers)[:, None] % len(CANDIDATES)
    return np.random.RandomState(config.seed).randint(len(CANDIDATES), size=(config.teachers, config.layers))
