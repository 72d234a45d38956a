"""Search an architecture: ``python -m experiments.search``."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from autoderain_jax.cost import macs, relative_cost
from autoderain_jax.derainer import Derainer
from autoderain_jax.genotype import Genotype, derive, inherit
from autoderain_jax.losses import parse_loss
from autoderain_jax.mdarts import Search, SearchState, mdarts
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, open_choices
from autoderain_jax.proximal import proximal_gradient
from autoderain_jax.search_space import initial_alphas
from data_pipelines.batches import as_floats, batches
from experiments import command
from experiments.config import SearchConfig, open_training, search_preset
from experiments.report import write_search_report
from experiments.workdir import Workdir

HELD_OUT_STREAM = 2**32
"""Added to the seed for the stream of held-out patches, so that it is not the training stream."""


def build(config: SearchConfig) -> tuple[Search, SearchState]:
    """The search as pure functions, and its first state."""
    choices = open_choices(config.network)
    network = DerainNet(config.network, choices)
    restore_loss = parse_loss(config.loss)
    prices = macs(config.network)

    def loss(params, gates, batch):
        rainy, clean = as_floats(batch)
        return restore_loss(network.apply({"params": params}, rainy, gates), clean)

    alpha_steps = max(config.steps - warmup_steps(config), 1)
    search = mdarts(
        loss,
        params_optimiser=optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps)),
        alphas_optimiser=proximal_gradient(
            config.alphas_learning_rate, config.mode, optax.linear_schedule(0.0, config.pull, alpha_steps)
        ),
        cost=lambda gates: config.cost_weight * relative_cost(gates, prices),
    )

    def first_state(rng):
        patch = jnp.zeros((1, config.patch, config.patch, 3))
        gates = initial_alphas(choices)
        return search.init(network.init(rng, patch, gates)["params"], choices)

    return search, jax.jit(first_state)(jax.random.key(config.seed))


def warmup_steps(config: SearchConfig) -> int:
    """How many steps train random paths."""
    return min(round(config.warmup * config.steps), config.steps - 1)


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
        f"{config.steps} steps, {warmup_steps(config)} of them warm-up"
    )
    functions, state = build(config)
    advance, batches_from = _stepper(functions, config, train, held_out)
    state = workdir.train(
        state, config.steps, advance, batches_from, alphas_record, checkpoint_minutes=config.checkpoint_minutes
    )
    genotype = found_genotype(state, config)
    genotype.save(workdir.folder / "genotype.json")
    derainer = Derainer(Model(config.network, genotype, inherit(state.params, genotype), config.patch))
    write_search_report(workdir, config, genotype, derainer, held_out)
    workdir.console.print(f"found: {workdir.folder / 'genotype.json'}\nreport: {workdir.folder / 'report.html'}")
    workdir.console.print(
        f"next: python -m experiments.retrain --genotype {shlex.quote(str(workdir.folder))}/genotype.json"
    )
    return genotype


def found_genotype(state: SearchState, config: SearchConfig) -> Genotype:
    """The options that were selected most in the late steps of the search; ties are broken by the seed."""
    origin = {
        "preset": config.preset,
        "data": config.data,
        **({"data_root": str(config.data_root)} if config.data_root else {}),
        "seed": config.seed,
        "steps": config.steps,
        "network": json.loads(json.dumps(dataclasses.asdict(config.network))),
    }
    return derive(open_choices(config.network), state.share, jax.random.key(config.seed), origin)


def alphas_record(state: SearchState) -> dict[str, Any]:
    """The alphas as JSON values, for the metrics file."""
    return {"alphas": jax.tree.map(lambda row: np.round(row.astype(float), 5).tolist(), jax.device_get(state.alphas))}


def _stepper(functions: Search, config: SearchConfig, train, held_out) -> tuple[Callable, Callable]:
    """One step of the search as ``Workdir.train`` wants it, and what opens its data."""
    warmup = jax.jit(functions.warmup, donate_argnums=0)
    bilevel = jax.jit(functions.step, donate_argnums=0)
    key = jax.random.key(config.seed)
    first = warmup_steps(config)
    streams: dict[str, Any] = {}

    def batches_from(start: int) -> None:
        options = {"patch": config.patch, "batch": config.batch, "stream": config.stream}
        streams["train"] = batches(train, seed=config.seed, start=start, **options)
        # The held-out stream begins with the bilevel steps.
        streams["held_out"] = batches(
            held_out, seed=config.seed + HELD_OUT_STREAM, start=max(start - first, 0), **options
        )

    def advance(state: SearchState, step: int):
        rng = jax.random.fold_in(key, step)
        if step < first:
            return warmup(state, next(streams["train"]), rng)
        return bilevel(state, next(streams["train"]), next(streams["held_out"]), rng)

    return advance, batches_from


def main() -> None:
    """The command."""
    args = sys.argv[1:]
    preset = command.peek("--preset", args)
    default = search_preset(preset or "tiny")
    search(command.parse(SearchConfig, args, default, prog="python -m experiments.search"))


if __name__ == "__main__":
    command.run(main)
