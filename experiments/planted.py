"""Planted answers: does the search find an architecture that is known? ``python -m experiments.planted``.

A teacher made of our own candidates, with random weights and a random choice in each layer, labels random images. A
search over the same candidates should find the teacher's choices. The answer is the share of choices recovered; chance
is 1 / candidates.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track
from rich.table import Table

from autoderain_jax.blocks import ChoiceConv
from autoderain_jax.errors import InputError
from autoderain_jax.mdarts import mdarts
from autoderain_jax.proximal import prox_one_hot, proximal_gradient
from autoderain_jax.search_space import DEFAULT_CANDIDATES, Choices, Rows, candidate
from experiments import command

CANDIDATES = DEFAULT_CANDIDATES


@dataclasses.dataclass(frozen=True)
class PlantedConfig:
    """Measure how often MDARTS finds a planted architecture."""

    layers: int = 1
    """Layers of teacher and student. One: a convolution. More: residual layers, x + conv(relu(x)) / 2."""
    teachers: int = 40
    """Teachers, each with one search."""
    steps: int = 1200
    """Steps of each search."""
    warmup: float = 0.75
    """Share of the steps that train random paths."""
    cost_weight: float = 0.01
    """Price of computation, beside a loss that is 1 for a student that outputs nothing."""
    learning_rate: float = 3e-2
    """Of Adam on the weights."""
    alphas_learning_rate: float = 6e-3
    """Of Adam on the alphas."""
    cut_gradients: bool = False
    """Remove the gradient of the loss from the gates: what is left must be chance."""
    channels: int = 8
    """Channels of teacher and student."""
    size: int = 12
    """Side of the random images in pixels."""
    batch: int = 8
    """Images per step."""
    seed: int = 0
    """Seed of teachers, students and images."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        for name in ("layers", "teachers", "steps", "learning_rate", "channels", "size", "batch"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in [0, 2^32), not {self.seed}")
        for name in ("cost_weight", "alphas_learning_rate"):
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"--warmup must be in [0, 1), not {self.warmup}")


class PlantedNet(nn.Module):
    """Teacher and student: (b, h, w, c) to the same shape through ``layers`` choosable convolutions."""

    layers: int

    @nn.compact
    def __call__(self, x: jax.Array, gates: Rows) -> jax.Array:
        """The sum of what the layers add: the output without the residual path."""
        start = x
        for i in range(self.layers):
            conv = ChoiceConv(x.shape[-1], CANDIDATES, name=f"layer{i}")
            row = gates[f"layer{i}"]["conv"]
            x = conv(x, row) if self.layers == 1 else x + 0.5 * conv(nn.relu(x), row)
        return x if self.layers == 1 else x - start


class Teacher(NamedTuple):
    """Weights, one-hot gates, and the mean square of what it outputs."""

    params: dict
    gates: Rows
    power: jax.Array


class Found(NamedTuple):
    """Outcome over all teachers: index of the true and of the found candidate, (teachers, layers)."""

    true: np.ndarray
    found: np.ndarray

    @property
    def recovered(self) -> float:
        """Share of the choices recovered."""
        return float(np.mean(self.true == self.found))


def planted(config: PlantedConfig) -> Found:
    """Searches for every teacher; raises ``InputError`` for a senseless option."""
    config.check()
    net = PlantedNet(config.layers)
    choices: Choices = {f"layer{i}": {"conv": CANDIDATES} for i in range(config.layers)}
    search, draw = _search(net, config)

    @jax.jit
    def first(rng, picks):
        teacher_rng, student_rng, image_rng = jax.random.split(rng, 3)
        gates = {f"layer{i}": {"conv": jax.nn.one_hot(pick, len(CANDIDATES))} for i, pick in enumerate(picks)}
        images = jax.random.normal(image_rng, (config.batch, config.size, config.size, config.channels))
        params, student = (net.init(key, images, gates)["params"] for key in (teacher_rng, student_rng))
        power = jnp.mean(jnp.square(net.apply({"params": params}, images, gates)))
        return Teacher(params, gates, power), search.init(student, choices)

    @functools.partial(jax.jit, donate_argnums=0)
    def warmup(state, teacher, rng):
        images_rng, path_rng = jax.random.split(jax.random.fold_in(rng, state.step))
        return search.warmup(state, draw(teacher, images_rng), path_rng)[0]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, teacher, rng):
        train, held_out, ties = jax.random.split(jax.random.fold_in(rng, state.step), 3)
        return search.step(state, draw(teacher, train), draw(teacher, held_out), ties)[0]

    true = _true_choices(config)
    console = command.console()
    found = []
    for index in track(range(config.teachers), "searching", console=console, disable=not console.is_terminal):
        rng = jax.random.fold_in(jax.random.key(config.seed), index)
        teacher, state = first(rng, jnp.asarray(true[index]))
        for i in range(config.steps):
            state = (warmup if i < round(config.warmup * config.steps) else step)(state, teacher, rng)
        rows = prox_one_hot(state.share, rng)
        found.append([int(rows[f"layer{i}"]["conv"].argmax()) for i in range(config.layers)])
        if not console.is_terminal:
            names = ", ".join(CANDIDATES[i] for i in found[-1])
            console.print(f"teacher {index + 1}/{config.teachers}: found {names}")
    return Found(true, np.array(found))


def _search(net: PlantedNet, config: PlantedConfig):
    """The search, and a function that draws labelled images."""

    def draw(teacher: Teacher, rng):
        images = jax.random.normal(rng, (config.batch, config.size, config.size, config.channels))
        labels = net.apply({"params": teacher.params}, images, teacher.gates)
        return images, labels, teacher.power

    def loss(params, gates, batch):
        images, labels, power = batch
        if config.cut_gradients:
            gates = jax.lax.stop_gradient(gates)
        return jnp.mean(jnp.square(net.apply({"params": params}, images, gates) - labels)) / power

    prices = jnp.array([candidate(name).macs(config.channels, config.channels) for name in CANDIDATES], jnp.float32)
    prices /= prices.max() * config.layers
    search = mdarts(
        loss,
        optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1)),
        proximal_gradient(config.alphas_learning_rate),
        cost=lambda gates: config.cost_weight * sum(row["conv"] @ prices for row in gates.values()),
    )
    return search, draw


def _true_choices(config: PlantedConfig) -> np.ndarray:
    """The planted candidates' indices, (teachers, layers): each equally often for one layer, else at random."""
    if config.layers == 1:
        return np.arange(config.teachers)[:, None] % len(CANDIDATES)
    return np.random.RandomState(config.seed).randint(len(CANDIDATES), size=(config.teachers, config.layers))


def main() -> None:
    """The command."""
    result = planted(command.parse(PlantedConfig, sys.argv[1:], prog="python -m experiments.planted"))
    table = Table("planted", *CANDIDATES, title="found")
    for i, name in enumerate(CANDIDATES):
        table.add_row(name, *(str(int(np.sum(result.found[result.true == i] == j))) for j in range(len(CANDIDATES))))
    console = command.console()
    console.print(table)
    console.print(f"recovered: {result.recovered:.3f} of {result.true.size} choices; chance {1 / len(CANDIDATES):.3f}")


if __name__ == "__main__":
    command.run(main)
