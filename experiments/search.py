"""Search an architecture: ``python -m experiments.search``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from autoderain_jax.cost import PRICES, relative_cost
from autoderain_jax.derainer import Derainer
from autoderain_jax.genotype import Genotype, derive, inherit
from autoderain_jax.losses import parse_loss
from autoderain_jax.mdarts import Search, SearchState
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, open_choices
from autoderain_jax.proximal import proximal_gradient
from autoderain_jax.rivals import ALGORITHMS, Algorithm, best_of_random
from autoderain_jax.search_space import Rows, Supernet, initial_alphas
from data_pipelines.batches import as_floats, batches
from experiments import command, health
from experiments.config import SearchConfig, open_training, search_preset
from experiments.memory import predict
from experiments.report import write_search_report
from experiments.workdir import Workdir

HELD_OUT_STREAM = 2**32
"""Added to the seed for the stream of held-out patches, so that it is not the training stream."""
CHOOSING_BATCHES = 8
"""Held-out batches on which random search compares its paths."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A search ready to run.

    Attributes:
      search: its pure functions.
      first_state: ``rng -> SearchState``, not yet jitted.
      objective: ``(params, gates, batch) -> scalar``, held-out loss plus price.
    """

    search: Search
    first_state: Callable[[jax.Array], SearchState]
    objective: Callable[[Any, Rows, Any], jax.Array]


def build(config: SearchConfig, prices: Rows) -> Built:
    """The search that the configuration describes, at the given prices."""
    choices = open_choices(config.network)
    algorithm = algorithm_of(config)
    restore_loss = parse_loss(config.loss)

    def network(supernet: Supernet) -> DerainNet:
        return DerainNet(config.network, choices, supernet=supernet)

    def loss_on(supernet: Supernet):
        def loss(params, gates, batch):
            rainy, clean = as_floats(batch)
            return restore_loss(network(supernet).apply({"params": params}, rainy, gates), clean)

        return loss

    def cost(gates):
        return config.cost_weight * relative_cost(gates, prices)

    rate = algorithm.learning_rate if config.alphas_learning_rate is None else config.alphas_learning_rate
    if config.algorithm == "mdarts":
        alphas_optimiser = proximal_gradient(rate, config.mode, optax.linear_schedule(0.0, config.pull, config.steps))
    else:
        alphas_optimiser = algorithm.optimiser(rate)
    params_optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    search = algorithm.build(loss_on, params_optimiser, alphas_optimiser, cost, relaxed_steps(config))

    def first_state(rng):
        params_rng, alphas_rng = jax.random.split(rng)
        patch = jnp.zeros((1, config.patch, config.patch, 3))
        params = network(algorithm.supernet).init(params_rng, patch, initial_alphas(choices))["params"]
        return search.init(params, choices, alphas_rng)

    loss = loss_on(algorithm.supernet)
    return Built(search, first_state, lambda params, gates, batch: loss(params, gates, batch) + cost(gates))


def algorithm_of(config: SearchConfig) -> Algorithm:
    """The algorithm with the kind of kernels that the configuration asks for."""
    return ALGORITHMS[config.algorithm].with_kernels(config.kernels)


def relaxed_steps(config: SearchConfig) -> int:
    """In how many steps gates are relaxed; 0 for algorithms that do not know this."""
    relaxed = algorithm_of(config).relaxed if config.relaxed is None else config.relaxed
    return round((relaxed or 0.0) * config.steps)


def search(config: SearchConfig) -> Genotype:
    """Runs or resumes a search; see ``SearchConfig``.

    Raises:
      InputError: something is wrong with the configuration, the data or the folder.
      KeyboardInterrupt: stopped by a signal, with everything saved.
    """
    config.check()
    train, held_out = open_training(config)
    for pairs in (train, held_out):
        pairs.require_patch(config.patch)
    workdir = Workdir(config.workdir, config, "search", images=[train.listing_id(), held_out.listing_id()])
    workdir.console.print(
        f"{len(train)} training pairs, {len(held_out)} held out for the alphas; "
        f"{config.steps} steps of {config.algorithm}"
    )
    prices = workdir.keep("prices.json", lambda: PRICES[config.cost](config.network, config.patch))
    built = build(config, prices)
    run = _Run(built, config, train, held_out, workdir)
    state = workdir.train(
        jax.jit(built.first_state)(jax.random.key(config.seed)),
        config.steps,
        run.advance,
        run.batches_from,
        run.record,
        checkpoint_minutes=config.checkpoint_minutes,
        finished=lambda records: (
            bool(config.early_stop) and health.settled(records, config.early_stop, relaxed_steps(config))
        ),
    )
    genotype = derive(open_choices(config.network), run.preferred(state), _origin(config))
    genotype.save(workdir.folder / "genotype.json")
    derainer = Derainer(Model(config.network, genotype, inherit(state.params, genotype), config.patch))
    problems = health.warnings(workdir.records(), config.network, prices)
    write_search_report(workdir, config, genotype, derainer, held_out, prices, problems)
    for problem in problems:
        workdir.console.print(f"warning: {problem}")
    workdir.console.print(f"found: {workdir.folder / 'genotype.json'}\nreport: {workdir.folder / 'report.html'}")
    workdir.console.print(
        f"next: python -m experiments.retrain --genotype {shlex.quote(str(workdir.folder))}/genotype.json"
    )
    return genotype


def _origin(config: SearchConfig) -> dict[str, Any]:
    return {
        "algorithm": config.algorithm,
        "preset": config.preset,
        "data": config.data,
        **({"data_root": str(config.data_root)} if config.data_root else {}),
        "seed": config.seed,
        "steps": config.steps,
        "network": json.loads(json.dumps(dataclasses.asdict(config.network))),
    }


class _Run:
    """The steps of a search as ``Workdir.train`` wants them, and its streams."""

    def __init__(self, built: Built, config: SearchConfig, train, held_out, workdir: Workdir):
        self._built, self._config, self._console = built, config, workdir.console
        self._pairs = {"train": train, "held_out": held_out}
        self._streams: dict[str, Any] = {}
        self._key = jax.random.key(config.seed)
        self._step: Any = None

    def batches_from(self, start: int) -> None:
        """Opens the streams at a step, compiles the step, and says what memory it will take."""
        self._streams = {name: self._stream(name, start) for name in self._pairs}
        first = {name: next(stream) for name, stream in self._streams.items()}
        for name, batch in first.items():
            self._streams[name] = itertools.chain([batch], self._streams[name])
        state = jax.eval_shape(self._built.first_state, self._key)
        step = jax.jit(self._built.search.step, donate_argnums=0)
        self._step = step.lower(state, first["train"], first["held_out"], self._key).compile()
        self._console.print(predict([self._step]))

    def advance(self, state: SearchState, step: int) -> tuple[SearchState, dict[str, Any]]:
        """One step of the search."""
        rng = jax.random.fold_in(self._key, step)
        return self._step(state, next(self._streams["train"]), next(self._streams["held_out"]), rng)

    def record(self, state: SearchState) -> dict[str, Any]:
        """Alphas, as rows that sum to one, and the search's health, as JSON values."""
        state = state._replace(params=None, params_opt=None, alphas_opt=None)
        preference = algorithm_of(self._config).preference(state.alphas)
        state, preference = jax.device_get((state, preference))
        return {
            **health.measures(state, preference, self._config.network),
            "choices": health.choices_of(state.share),
            "alphas": jax.tree.map(lambda row: np.round(row.astype(float), 5).tolist(), preference),
        }

    def preferred(self, state: SearchState) -> Rows:
        """Rows whose largest entries are the options found."""
        if self._config.algorithm != "random":
            return state.share
        stream = self._stream("held_out", self._config.steps)
        held_out = [next(stream) for _ in range(CHOOSING_BATCHES)]
        objective = jax.jit(self._built.objective)

        def value(gates):
            return sum(objective(state.params, gates, batch) for batch in held_out)

        return best_of_random(value, state.alphas, self._key, self._config.random_paths)

    def _stream(self, name: str, start: int):
        config = self._config
        seed = config.seed + (HELD_OUT_STREAM if name == "held_out" else 0)
        options = {"patch": config.patch, "batch": config.batch, "stream": config.stream}
        return batches(self._pairs[name], seed=seed, start=start, **options)


def main() -> None:
    """The command."""
    args = sys.argv[1:]
    preset = command.peek("--preset", args)
    default = search_preset(preset or "tiny")
    search(command.parse(SearchConfig, args, default, prog="python -m experiments.search"))


if __name__ == "__main__":
    command.run(main)
