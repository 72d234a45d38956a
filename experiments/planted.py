"""Planted answers: does a search find an architecture that is known? ``python -m experiments.planted``.

A teacher made of our own candidates, with random weights and a random choice in each layer, labels random images. A
search over the same candidates should find the teacher's choices. The answer is the share of choices recovered; chance
is 1 / candidates. As layers nearly commute and candidates contain each other, other architectures may do nearly as
well: so ``--rank`` also trains every architecture (or a sample of them) from scratch, and says where the one found
stands among them, by the objective of the search: error on new images plus price.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track
from rich.table import Table

from autoderain_jax.blocks import ChoiceConv
from autoderain_jax.candidates import DEFAULT_CANDIDATES as CANDIDATES
from autoderain_jax.candidates import candidate
from autoderain_jax.errors import InputError
from autoderain_jax.mdarts import Search
from autoderain_jax.rivals import ALGORITHMS, AlgorithmName, Kernels, best_of_random
from autoderain_jax.search_space import Choices, Rows, Supernet, initial_alphas, leaning_alphas
from experiments import command, stacked
from experiments.answers import Answers
from experiments.config import check_own

Picks = tuple[int, ...]
"""An architecture: index of the candidate in each layer."""


@dataclasses.dataclass(frozen=True)
class PlantedConfig:
    """Measure how often a search finds a planted architecture."""

    workdir: Path | None = None
    """Folder in which answers are kept teacher by teacher; the same folder again goes on where it was stopped. What was
    found there can be ranked later."""
    algorithms: tuple[AlgorithmName, ...] = ("mdarts",)
    """Searches to be measured, all on the same teachers."""
    kernels: Kernels | None = None
    """Weights of linear candidates: shared (projections of one kernel) or own. Default: as the algorithm has them."""
    layers: int = 1
    """Layers of teacher and student. One: a convolution. More: residual layers, x + conv(relu(x)) / 2."""
    teachers: int = 40
    """Teachers, each with one search by each algorithm."""
    steps: int = 1200
    """Steps of each search."""
    relaxed: float | None = None
    """Of mdarts: share of the steps in which gates are the alphas themselves. Default: 0.9."""
    head_start: float | None = None
    """Of mdarts: how far alphas begin on the way from level to the first candidate everywhere. Default: 0.4."""
    cost_weight: float = 0.01
    """Price of computation, beside a loss that is 1 for a student that outputs nothing."""
    learning_rate: float = 1e-2
    """Of Adam on the weights."""
    alphas_learning_rate: float | None = None
    """Of Adam on the alphas. Default: the algorithm's."""
    random_paths: int = 30
    """Paths among which random search chooses in the end."""
    cut_gradients: bool = False
    """Remove the gradient of the loss from the gates: what is left must be chance."""
    rank: int = 0
    """Train so many architectures from scratch (all, if there are no more) and rank the ones found among them."""
    rank_steps: int = 1000
    """Steps of each of these trainings. After 300, architectures that train slowly rank too low."""
    rank_learning_rate: float = 3e-2
    """Of Adam on the weights in these trainings, at its peak."""
    rank_batch: int = 4
    """Images per step of these trainings."""
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
        ranking = ("rank_steps", "rank_learning_rate", "rank_batch")
        positive = ("layers", "teachers", "steps", "learning_rate", "random_paths", "channels", "size", "batch")
        for name in (*positive, *ranking):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        if not self.algorithms:
            raise InputError("--algorithms names none")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in [0, 2^32), not {self.seed}")
        for name in ("cost_weight", "alphas_learning_rate", "rank"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, not {getattr(self, name)}")
        for name in ranking:
            if not self.rank and getattr(self, name) != getattr(PlantedConfig, name):
                raise InputError(f"--{name.replace('_', '-')} needs --rank")
        if self.random_paths != PlantedConfig.random_paths and "random" not in self.algorithms:
            raise InputError(f"--random-paths is a way of random, not of {', '.join(self.algorithms)}")
        check_own(self, "mdarts" in self.algorithms, ", ".join(self.algorithms))


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


@dataclasses.dataclass
class Found:
    """Outcome of one algorithm over all teachers.

    Attributes:
      true, found: index of the true and of the found candidate, (teachers, layers).
      ranks: for each teacher, the share of the architectures trained that are better than the one found; empty
        without ``rank``.
    """

    true: np.ndarray
    found: np.ndarray
    ranks: list[float] = dataclasses.field(default_factory=list)

    @property
    def recovered(self) -> float:
        """Share of the choices recovered."""
        return float(np.mean(self.true == self.found))


def planted(config: PlantedConfig) -> dict[str, Found]:
    """Searches for every teacher by every algorithm; raises ``InputError`` for a senseless option.

    Returns:
      The outcome by algorithm and, with ``rank``, the teacher's own architecture by the name ``true``.
    """
    config.check()
    console = command.console()
    true = _true_choices(config)
    searched = kept_found(config, config.workdir)
    ranked = kept_ranks(config, config.workdir) if config.rank else None
    players = {name: _Player(config, name) for name in config.algorithms}
    trainer = _Trainer(config)
    todo = range(min(len(answers.done) for answers in (searched, ranked) if answers), config.teachers)
    for index in track(todo, "searching", console=console, disable=not console.is_terminal):
        rng = jax.random.fold_in(jax.random.key(config.seed), index)
        teacher = trainer.teacher(rng, true[index])
        if index == len(searched.done):
            answers = {name: player.search(teacher, rng) for name, player in players.items()}
            searched.add({name: [int(pick) for pick in answer] for name, answer in answers.items()})
        found: dict[str, Picks] = {name: tuple(pick) for name, pick in searched.done[index].items()}
        if ranked and index == len(ranked.done):
            found["true"] = tuple(int(pick) for pick in true[index])
            values = trainer.values(teacher, rng, _architectures(config, index, found.values()))
            ranked.add(
                {
                    name: float(np.mean([value < values[pick] for value in values.values()]))
                    for name, pick in found.items()
                }
            )
        if not console.is_terminal:
            console.print(f"teacher {index + 1}/{config.teachers}")
            for name, pick in found.items():
                rank = f"; {ranked.done[index][name]:.1%} are better" if ranked else ""
                console.print(f"  {name}: {' '.join(CANDIDATES[i] for i in pick)}{rank}")
    results = {}
    for name in (*config.algorithms, *(["true"] if ranked else [])):
        answers = true if name == "true" else [answer[name] for answer in searched.done]
        ranks = [shares[name] for shares in ranked.done[: config.teachers]] if ranked else []
        results[name] = Found(true, np.array(answers[: config.teachers]), ranks)
    return results


def kept_found(config: PlantedConfig, folder: Path | None) -> Answers:
    """What was found so far, with these options, teacher by teacher: a candidate's index for each layer, by name."""
    options = {name: value for name, value in _options(config).items() if not name.startswith("rank")}

    def sound(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == set(config.algorithms)
            and all(isinstance(picks, list) and len(picks) == config.layers for picks in value.values())
            and all(type(pick) is int and 0 <= pick < len(CANDIDATES) for picks in value.values() for pick in picks)
        )

    return Answers(folder, "found.json", options, sound)


def kept_ranks(config: PlantedConfig, folder: Path | None) -> Answers:
    """How these rank: for each teacher the share of architectures that are better, by name and for ``true``."""

    def sound(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == {*config.algorithms, "true"}
            and all(type(share) is float and 0 <= share <= 1 for share in value.values())
        )

    return Answers(folder, "ranks.json", _options(config), sound)


def _options(config: PlantedConfig) -> dict[str, Any]:
    """What answers depend on; a folder may go on with other options besides."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}


_FREE = ("workdir", "teachers")
"""Options with which a folder may go on otherwise than it began."""


class _Trainer:
    """Draws teachers, and trains architectures from scratch."""

    def __init__(self, config: PlantedConfig):
        self._config = config
        self._net = PlantedNet(config.layers, Supernet(shared=False))
        schedule = optax.cosine_decay_schedule(config.rank_learning_rate, config.rank_steps, alpha=0.01)
        # Flattened, as the time of so small a step is that of its many operations.
        self._optimiser = optax.flatten(optax.adam(schedule))
        self._advance = jax.jit(self._step, donate_argnums=(0, 1))
        self._error = jax.jit(lambda weights, gates, batch: _mean_error(stacked.run(weights, gates, batch[0]), batch))
        self._label = jax.jit(lambda teacher, images: _label(self._net, teacher, images))
        self._first = jax.jit(self._init)
        self._all = jax.jit(jax.vmap(self._whole, (None, 0, None, None, None)))

    def teacher(self, rng: jax.Array, picks: np.ndarray) -> Teacher:
        """A teacher with weights of its own."""
        rng, images = jax.random.split(jax.random.fold_in(rng, 1))
        images, gates = self._images(images, self._config.batch), _gates(picks)
        params = self._first(rng, images, gates)
        return Teacher(params, gates, jnp.mean(jnp.square(self._net.apply({"params": params}, images, gates))))

    def values(self, teacher: Teacher, rng: jax.Array, architectures: list[Picks]) -> dict[Picks, float]:
        """The objective of each architecture, trained from scratch."""
        first, new, rng = jax.random.split(jax.random.fold_in(rng, 2), 3)
        test = self._draw(teacher, new, 8 * self._config.batch)
        # All begin with the same weights of every candidate.
        weights = stacked.stack(self._first(first, test[0], _gates(architectures[0])))
        gates = jax.nn.one_hot(np.array(architectures), len(CANDIDATES))
        if jax.default_backend() == "cpu":
            batches = [self._draw(teacher, jax.random.fold_in(rng, i)) for i in range(self._config.rank_steps)]
            errors = [self._one(weights, row, batches, test) for row in gates]
        else:
            # An accelerator takes little longer for all than for one.
            errors = self.side_by_side(weights, gates, teacher, rng, test)
        prices = self._config.cost_weight * _prices(self._config)
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
            return self._step(*carry, gates, self._draw(teacher, jax.random.fold_in(rng, i))), None

        carry = weights, self._optimiser.init(weights)
        (weights, _), _ = jax.lax.scan(step, carry, jnp.arange(self._config.rank_steps))
        return self._error(weights, gates, test)

    def _images(self, rng: jax.Array, images: int) -> jax.Array:
        c = self._config
        return jax.random.normal(rng, (images, c.size, c.size, c.channels))

    def _draw(self, teacher: Teacher, rng: jax.Array, images: int | None = None):
        return self._label(teacher, self._images(rng, images or self._config.rank_batch))

    def _init(self, rng, images, gates):
        return self._net.init(rng, images, gates)["params"]

    def _step(self, weights, state, gates, batch):
        grads = jax.grad(self._error)(weights, gates, batch)
        updates, state = self._optimiser.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state


class _Player:
    """One algorithm, compiled once for all teachers."""

    def __init__(self, config: PlantedConfig, name: AlgorithmName):
        algorithm = ALGORITHMS[name].with_kernels(config.kernels)
        self._config, self._name = config, name
        self._net = PlantedNet(config.layers, algorithm.supernet)
        self._teacher_net = PlantedNet(config.layers, Supernet(shared=False))
        self._choices: Choices = {f"layer{i}": {"conv": CANDIDATES} for i in range(config.layers)}
        self._search = self._build(algorithm)
        self._first = jax.jit(self._init)
        self._step = jax.jit(self._bilevel_step, donate_argnums=0)
        self._score = jax.jit(lambda *args: _error(self._net, *args))

    def _build(self, algorithm) -> Search:
        config = self._config
        prices = _prices(config)

        def loss_on(supernet):
            net = self._net.clone(supernet=supernet)
            cut = jax.lax.stop_gradient if config.cut_gradients else lambda gates: gates
            return lambda params, gates, batch: _error(net, params, cut(gates), batch)

        schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.1)
        rate = config.alphas_learning_rate
        return algorithm.build(
            loss_on,
            optax.adam(schedule),
            algorithm.optimiser(algorithm.learning_rate if rate is None else rate),
            lambda gates: config.cost_weight * sum(row["conv"] @ prices for row in gates.values()),
            round(config.steps * ((algorithm.relaxed or 0.0) if config.relaxed is None else config.relaxed)),
            leaning_alphas(
                _gates([0] * config.layers),
                (algorithm.head_start or 0.0) if config.head_start is None else config.head_start,
            ),
        )

    def search(self, teacher: Teacher, rng: jax.Array) -> list[int]:
        """The architecture found for this teacher."""
        state = self._first(jax.random.fold_in(rng, 3))
        for _ in range(self._config.steps):
            state = self._step(state, teacher, rng)
        if self._name == "random":
            batch = self._draw(teacher, jax.random.fold_in(rng, 4), images=8 * self._config.batch)
            prices = _prices(self._config)

            def value(gates):
                price = sum(row["conv"] @ prices for row in gates.values())
                return self._score(state.params, gates, batch) + self._config.cost_weight * price

            rows = best_of_random(value, initial_alphas(self._choices), rng, self._config.random_paths)
        else:
            rows = state.shares
        return [int(rows[f"layer{i}"]["conv"].argmax()) for i in range(self._config.layers)]

    def _draw(self, teacher: Teacher, rng: jax.Array, images: int | None = None):
        c = self._config
        return _label(
            self._teacher_net, teacher, jax.random.normal(rng, (images or c.batch, c.size, c.size, c.channels))
        )

    def _init(self, rng):
        images = jnp.zeros((1, self._config.size, self._config.size, self._config.channels))
        params_rng, alphas_rng = jax.random.split(rng)
        params = self._net.init(params_rng, images, initial_alphas(self._choices))["params"]
        return self._search.init(params, self._choices, alphas_rng)

    def _bilevel_step(self, state, teacher, rng):
        train, held_out, ties = jax.random.split(jax.random.fold_in(rng, state.step), 3)
        return self._search.step(state, self._draw(teacher, train), self._draw(teacher, held_out), ties)[0]


def _label(net: PlantedNet, teacher: Teacher, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return images, net.apply({"params": teacher.params}, images, teacher.gates), teacher.power


def _error(net: PlantedNet, params: Any, gates: Rows, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    return _mean_error(net.apply({"params": params}, batch[0], gates), batch)


def _mean_error(outputs: jax.Array, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    _, labels, power = batch
    return jnp.mean(jnp.square(outputs - labels)) / power


def _gates(picks: Sequence[int] | np.ndarray) -> Rows:
    return {f"layer{i}": {"conv": jax.nn.one_hot(pick, len(CANDIDATES))} for i, pick in enumerate(picks)}


@functools.cache
def _prices(config: PlantedConfig) -> np.ndarray:
    """Price of each candidate; that of the dearest architecture is 1."""
    prices = np.array([candidate(name).macs(config.channels, config.channels) for name in CANDIDATES], np.float32)
    return prices / (prices.max() * config.layers)


def _architectures(config: PlantedConfig, index: int, found: Iterable[Picks]) -> list[Picks]:
    """Those found, and all there are or a sample of them."""
    everything = len(CANDIDATES) ** config.layers
    if config.rank >= everything:
        return list(itertools.product(range(len(CANDIDATES)), repeat=config.layers))
    draw = np.random.RandomState([config.seed, index])
    sample = (tuple(int(i) for i in row) for row in draw.randint(len(CANDIDATES), size=(config.rank, config.layers)))
    return list(dict.fromkeys([*found, *sample]))


def _true_choices(config: PlantedConfig) -> np.ndarray:
    """The planted candidates' indices, (teachers, layers): each equally often for one layer, else at random."""
    if config.layers == 1:
        return np.arange(config.teachers)[:, None] % len(CANDIDATES)
    return np.random.RandomState(config.seed).randint(len(CANDIDATES), size=(config.teachers, config.layers))


def main() -> None:
    """The command."""
    config = command.parse(PlantedConfig, sys.argv[1:], prog="python -m experiments.planted")
    # Ranks are decided by small errors, which GPUs would round to three digits.
    jax.config.update("jax_default_matmul_precision", "float32")
    results = planted(config)
    console = command.console()
    for name, result in results.items():
        if name != "true":
            table = Table("planted", *CANDIDATES, title=f"found by {name}")
            for i, row in enumerate(CANDIDATES):
                counts = (int(np.sum(result.found[result.true == i] == j)) for j in range(len(CANDIDATES)))
                table.add_row(row, *map(str, counts))
            console.print(table)
    table = Table("algorithm", "recovered", *(["better than it, mean", "median"] if config.rank else []))
    for name, result in results.items():
        ranks = [f"{np.mean(result.ranks):.1%}", f"{np.median(result.ranks):.1%}"] if config.rank else []
        table.add_row(name, f"{result.recovered:.3f}", *ranks)
    console.print(table)
    console.print(f"{results[config.algorithms[0]].true.size} choices; chance {1 / len(CANDIDATES):.3f}")


if __name__ == "__main__":
    command.run(main)
