"""Search an architecture: ``python -m experiments.search``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from autoderain_jax.candidates import candidate, counting_device
from autoderain_jax.cost import PRICES, network_macs, relative_cost
from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.files import replace_file
from autoderain_jax.genotype import Genotype, derive, inherit, one_hot_gates
from autoderain_jax.losses import parse_loss
from autoderain_jax.mdarts import Search, SearchState
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, open_choices
from autoderain_jax.parallel import Layout, data_parallel, local
from autoderain_jax.proximal import proximal_gradient
from autoderain_jax.rivals import best_of_random
from autoderain_jax.scales import AS_IT_IS
from autoderain_jax.search_space import Rows, Supernet, initial_alphas
from autoderain_jax.stages import take
from data_pipelines import Pairs
from data_pipelines.batches import as_floats, batches, origin
from data_pipelines.sampling import Sampling
from experiments import agreement, command, health, processes
from experiments.config import SearchConfig, SearchesConfig, open_training, retrain_preset, search_preset
from experiments.programs import LOWER, Programs, jit_once, predict, tree_bytes
from experiments.report import write_search_report, write_searches_report
from experiments.retrain import held_out_psnr
from experiments.workdir import Workdir

HELD_OUT_STREAM = 2**32
"""Added to the seed for the stream of held-out patches, so that it is not the training stream."""
GENOTYPE = "genotype.json"
"""The file of a search's folder that holds what it found."""
CHOOSING_BATCHES = 8
"""Held-out batches on which random search compares its paths."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A search ready to run.

    Attributes:
      search: its pure functions.
      first_state: ``rng -> SearchState``, not yet jitted.
      objective: ``(params, gates, batch) -> scalar``, held-out loss plus price; a batch is (rainy, clean), float32.
      programs: of the steps.
    """

    search: Search
    first_state: Callable[[jax.Array], SearchState]
    objective: Callable[[Any, Rows, Any], jax.Array]
    programs: Programs


def build(config: SearchConfig, prices: Rows, layout: Layout | None = None) -> Built:
    """The search that the configuration describes, at the given prices, on the devices of a layout."""
    choices = open_choices(config.network)
    algorithm = config.built_algorithm
    restore_loss = parse_loss(config.loss)

    def network(supernet: Supernet) -> DerainNet:
        return DerainNet(config.network, choices, supernet=supernet, remat=config.remat)

    def loss_on(supernet: Supernet):
        def loss(params, gates, batch, kernels=None):
            rainy, clean = batch
            return restore_loss(network(supernet).apply({"params": params}, rainy, gates, kernels), clean)

        return loss

    def cost(gates):
        return config.cost_weight * relative_cost(gates, prices)

    rate = algorithm.learning_rate if config.alphas_learning_rate is None else config.alphas_learning_rate
    if config.algorithm == "mdarts":
        moving = config.relaxed_steps or config.steps
        alphas_optimiser = proximal_gradient(rate, config.mode, optax.linear_schedule(0.0, config.pull, moving))
    else:
        alphas_optimiser = algorithm.optimiser(rate)
    params_optimiser = optax.flatten(optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)))
    programs = Programs(layout)
    search = algorithm.build(
        loss_on,
        params_optimiser,
        alphas_optimiser,
        cost,
        relaxed_steps=config.relaxed_steps,
        start=config.start,
        shared=[candidate(name) for name in config.network.candidates],
        stage=programs,
        parts=config.accumulate,
    )

    def first_state(rng):
        params_rng, alphas_rng = jax.random.split(rng)
        patch = jnp.zeros((1, config.patch, config.patch, 3))
        params = network(algorithm.supernet).init(params_rng, patch, initial_alphas(choices))["params"]
        return search.init(params, choices, alphas_rng)

    loss = loss_on(algorithm.supernet)
    return Built(search, first_state, lambda params, gates, batch: loss(params, gates, batch) + cost(gates), programs)


class Found(NamedTuple):
    """What a search found.

    Attributes:
      genotype: the architecture.
      derainer: it, with the weights that it has from the search.
      held_out: the images held out for the alphas.
    """

    genotype: Genotype
    derainer: Derainer
    held_out: Pairs


def search(config: SearchConfig, prices: Rows | None = None) -> Found:
    """Runs or resumes a search; see ``SearchConfig``.

    Args:
      config: the search.
      prices: of all options, where they were measured before.

    Raises:
      InputError: something is wrong with the configuration, the data or the folder.
      KeyboardInterrupt: stopped by a signal, with everything saved.
    """
    config.check()
    train, held_out = open_training(config)
    for pairs in (train, held_out):
        pairs.require_patch(config.patch)
    held_out.require_scored()
    layout = data_parallel(config.batch, config.accumulate)
    workdir = Workdir(config.workdir, config, "search", images=[train.listing_id(), held_out.listing_id()])
    workdir.console.print(
        f"{len(train)} training pairs, {len(held_out)} held out for the alphas; "
        f"{config.steps} steps of {config.algorithm}{layout.words}"
    )
    choices = open_choices(config.network)
    prices = _kept_prices(workdir, config, prices)
    built = build(config, prices, layout)
    run = _Run(built, config, {"train": train, "held_out": held_out}, layout)
    state = workdir.train(
        run.first_state(),
        config.steps,
        run.advance,
        run.batches_from,
        run.record,
        checkpoint_minutes=config.checkpoint_minutes,
        finished=(lambda records: health.settled(records, config.early_stop)) if config.early_stop else None,
        batch_of=run.batch_of,
    )
    genotype = derive(choices, run.preferred(state), _origin(config, int(local(state.step))))
    derainer = Derainer(
        Model(config.network, genotype, inherit(local(state.params), genotype), config.patch), scales=AS_IT_IS
    )
    if workdir.writes:
        genotype.save(workdir.folder / GENOTYPE)
        if not workdir.records():
            raise InputError(f"{workdir.metrics_file} has no metrics of this run left: nothing to report")
        problems = health.warnings(workdir.records(), config.network, prices, config.start, config.relaxed_steps)
        write_search_report(workdir, config, genotype, derainer, held_out, prices, problems)
        for problem in problems:
            workdir.console.print(f"warning: {problem}")
    workdir.console.print(f"found: {workdir.folder / GENOTYPE}\nreport: {workdir.folder / 'report.html'}")
    workdir.console.print(_next(config, workdir.folder))
    return Found(genotype, derainer, held_out)


def searches(config: SearchesConfig) -> None:
    """Runs or resumes one search, or as many as there are seeds and prices; see ``SearchesConfig``.

    Several write ``searches.json`` with a row for each, and the ``genotype.json`` of the best score on held-out images
    where they have one price.

    Raises:
      InputError, KeyboardInterrupt: as for ``search``.
    """
    config.check()
    plain = {field.name: getattr(config, field.name) for field in dataclasses.fields(SearchConfig)}
    if config.seeds == 1 and not config.cost_weights:
        search(SearchConfig(**plain))
        return
    # What the table of all needs is missed now rather than when they are done.
    counting_device()
    workdir = Workdir(config.workdir, config, "searches")
    # Measured again, those of time would be others.
    prices = _kept_prices(workdir, config)
    weights = config.cost_weights or (config.cost_weight,)
    rows, genotypes = [], []
    for weight, seed in itertools.product(weights, range(config.seed, config.seed + config.seeds)):
        folder = workdir.folder / f"cost-{weight:g}-seed-{seed}"
        workdir.console.print(f"== cost weight {weight:g}, seed {seed}")
        one = SearchConfig(**{**plain, "workdir": folder, "cost_weight": weight, "seed": seed})
        genotypes.append((found := search(one, prices)).genotype)
        rows.append(
            {"seed": seed, "cost_weight": weight, **_summary(config, found, prices), "genotype": str(folder / GENOTYPE)}
        )
    if not workdir.writes:
        return
    replace_file(workdir.folder / "searches.json", json.dumps(command.finite(rows), indent=2) + "\n")
    agreement.write_events(workdir.folder, rows, genotypes)
    write_searches_report(workdir, config, rows, genotypes)
    workdir.console.print(agreement.table(rows, genotypes, config.network))
    workdir.console.print(f"report: {workdir.folder / 'report.html'}")
    if len(weights) == 1:
        best = max(range(len(rows)), key=lambda i: rows[i]["held_out_psnr"])
        genotypes[best].save(workdir.folder / GENOTYPE)
        workdir.console.print(f"found: {workdir.folder / GENOTYPE}, that of seed {rows[best]['seed']}")
        workdir.console.print(_next(config, workdir.folder))
    else:
        for row in rows:
            workdir.console.print(f"cost weight {row['cost_weight']:g}, seed {row['seed']}: {row['genotype']}")
        workdir.console.print(_next(config, "FOLDER"))


def _next(config: SearchConfig, folder: Path | str) -> str:
    """The command that trains what was found in a folder, with what its genotype does not tell."""
    rain = ["--synthetic-rain", config.synthetic_rain] if config.synthetic_rain != "none" else []
    if config.synthetic_renderings != 1:
        rain += ["--synthetic-renderings", str(config.synthetic_renderings)]
    if config.swap_rain:
        rain += ["--swap-rain", str(config.swap_rain)]
    default = retrain_preset(config.preset)
    others = [("--patch", config.patch, default.patch), ("--loss", config.loss, default.loss)]
    changed = [word for option, value, usual in others if value != usual for word in (option, str(value))]
    imports = ["--imports", *config.imports] if config.imports else []
    files = ["--genotype", f"{folder}/{GENOTYPE}", "--workdir", f"{folder}/retrain"]
    return command.next_step("retrain", *files, *changed, *rain, *imports)


def _kept_prices(workdir: Workdir, config: SearchConfig, prices: Rows | None = None) -> Rows:
    """The prices of all options, which are the same when a run goes on."""
    choices = open_choices(config.network)
    return workdir.keep("prices.json", lambda: prices or PRICES[config.cost](config.network, config.patch), choices)


def _summary(config: SearchConfig, found: Found, prices: Rows) -> dict[str, Any]:
    """What a search's row tells of the network that it found."""
    gates = one_hot_gates(open_choices(config.network), found.genotype)
    return {
        "cost": float(relative_cost(gates, prices)),
        "macs_per_pixel": network_macs(config.network, found.genotype.choices),
        "parameters": found.derainer.model.parameters,
        "held_out_psnr": held_out_psnr(found.derainer, found.held_out),
    }


def _origin(config: SearchConfig, steps: int) -> dict[str, Any]:
    return {
        "algorithm": config.algorithm,
        "preset": config.preset,
        "data": config.data,
        **({"data_root": str(config.data_root)} if config.data_root else {}),
        "seed": config.seed,
        "steps": steps,
        "network": json.loads(json.dumps(dataclasses.asdict(config.network))),
    }


class _Run:
    """The steps of a search as ``Workdir.train`` wants them, and its streams."""

    def __init__(self, built: Built, config: SearchConfig, pairs: Mapping[str, Pairs], layout: Layout):
        self._built, self._config, self._pairs, self._layout = built, config, pairs, layout
        self._streams: dict[str, Any] = {}
        self._key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=layout.whole)()
        self._search = built.search
        # Cut outside of the steps, so that batches of data sets of any size are alike.
        self._cut = jax.jit(as_floats, out_shardings=layout.shared)

    def first_state(self) -> SearchState:
        """Where the search starts."""
        return jit_once(self._built.first_state, out_shardings=self._layout.whole)(self._key)

    def batches_from(self, start: int) -> str:
        """Opens the streams at a step, compiles the steps, and returns what memory they will take."""
        self._streams = {name: self._stream(name, start) for name in self._pairs}
        first = {name: next(stream) for name, stream in self._streams.items()}
        for name, batch in first.items():
            self._streams[name] = map(self._cut, itertools.chain([batch], self._streams[name]))
        state = self._layout.shapes(jax.eval_shape(self._built.first_state, self._key))
        batch = self._layout.shapes(jax.eval_shape(as_floats, first["train"]), shared=True)
        ahead = self._built.programs.ahead
        steps = (self._search.gates, self._search.weights)
        batch = self._whole([batch] * self._config.accumulate)
        runs = [run for step in steps for run in ahead(step, state, batch, self._key)]
        # Besides the state: two batches, and the data where they lie on the device.
        return predict(runs, tree_bytes([state, batch, batch, first]))

    def batch_of(self, step: int) -> str:
        """What a step learned from, in words."""
        return " and ".join(origin(self._pairs[name], self._sampling(name), step) for name in self._pairs)

    def advance(self, state: SearchState, step: int) -> tuple[SearchState, dict[str, Any]]:
        """One step of the search."""
        rng = jax.random.fold_in(self._key, step)
        parts = {name: take(stream, self._config.accumulate) for name, stream in self._streams.items()}
        return self._search.step(state, self._whole(parts["train"]), self._whole(parts["held_out"]), rng)

    def record(self, state: SearchState) -> dict[str, Any]:
        """Alphas, as rows that sum to one, and the search's health, as JSON values; nothing if it has no alphas."""
        if self._config.algorithm == "random":
            return {}
        alphas, shares, flips = local((state.alphas, state.shares, state.flips))
        preference = local(self._config.built_algorithm.preference(alphas))
        return {
            **health.measures(shares, preference, self._config.network),
            "flips": float(flips),
            "choices": health.choices_of(shares),
            "alphas": jax.tree.map(lambda row: np.round(row.astype(float), 5).tolist(), preference),
        }

    def preferred(self, state: SearchState) -> Rows:
        """Rows whose largest entries are the options found."""
        if self._config.algorithm != "random":
            return state.shares
        stream = self._stream("held_out", self._config.steps)
        held_out = [self._cut(next(stream)) for _ in range(CHOOSING_BATCHES)]
        objective = jax.jit(self._built.objective)

        def value(gates):
            return sum(objective(state.params, gates, batch) for batch in held_out)

        return best_of_random(value, state.alphas, self._key, self._config.random_paths)

    def _whole(self, parts: Sequence[Any]) -> Any:
        """A batch as the search takes it, in parts only if it is to accumulate."""
        return parts if self._config.accumulate > 1 else parts[0]

    def _stream(self, name: str, start: int):
        options = {"stream": self._config.stream, "layout": self._layout, "shard": self._layout.shard}
        return batches(self._pairs[name], self._sampling(name), start=start, parts=self._config.accumulate, **options)

    def _sampling(self, name: str) -> Sampling:
        """What decides the patches of a stream."""
        config = self._config
        if name == "held_out":
            return Sampling(config.patch, config.batch, config.seed + HELD_OUT_STREAM)
        return Sampling(config.patch, config.batch, config.seed, config.swap_rain)


def main() -> None:
    """The command."""
    args = sys.argv[1:]
    preset = command.peek("--preset", args)
    default = search_preset(preset or "tiny", SearchesConfig)
    config = command.parse(SearchesConfig, args, default, prog="python -m experiments.search")
    processes.join(config.processes, command.say)
    searches(config)
    processes.part()


if __name__ == "__main__":
    command.run(main, LOWER)
