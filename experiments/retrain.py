"""Train a searched network from scratch: ``python -m experiments.retrain --genotype FILE``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError, shown
from autoderain_jax.genotype import Genotype
from autoderain_jax.losses import parse_loss
from autoderain_jax.metrics import SSIM_WINDOW, score
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, NetworkConfig
from data_pipelines import Pairs
from data_pipelines.batches import as_floats, batches
from experiments import command
from experiments.config import RetrainConfig, open_training, retrain_preset
from experiments.report import write_retrain_report
from experiments.workdir import Workdir


class TrainState(NamedTuple):
    """What retraining carries from step to step; a pytree of arrays.

    Attributes:
      params, opt_state: weights and the optimiser's state.
      best_params, best_psnr: the weights that scored best on the held-out images (dB, y-matlab), and that score.
    """

    params: Any
    opt_state: Any
    best_params: Any
    best_psnr: jax.Array


def retrain(config: RetrainConfig) -> Model:
    """Runs or resumes a retraining; see ``RetrainConfig``.

    Raises:
      InputError: something is wrong with the configuration, the genotype, the data or the folder.
      KeyboardInterrupt: stopped by a signal, with everything saved.
    """
    config.check()
    genotype = Genotype.load(config.genotype)
    genotype.check_fits(config.network, str(config.genotype))
    train, held_out = open_training(config)
    train.require_patch(config.patch)
    held_out.require_patch(SSIM_WINDOW)
    workdir = Workdir(
        config.workdir, config, "retrain", blocks=genotype.blocks, images=[train.listing_id(), held_out.listing_id()]
    )
    network = DerainNet(config.network, genotype.choices)
    optimiser = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    state = first_state(network, optimiser, config)
    model = Model(config.network, genotype, state.params, config.patch, _provenance(config))
    workdir.console.print(
        f"{model.parameters:,} parameters; {len(train)} training pairs, {len(held_out)} held out; {config.steps} steps"
    )

    update = jax.jit(fed(train_step(network, optimiser, config.loss)), donate_argnums=(0, 1))
    derainer = Derainer(model)
    due = {round(config.steps * (i + 1) / config.validations) for i in range(config.validations)}
    streams: dict[str, Any] = {}

    def batches_from(start: int) -> None:
        size = {"patch": config.patch, "batch": config.batch}
        streams["train"] = batches(train, seed=config.seed, start=start, stream=config.stream, **size)

    def advance(state: TrainState, step: int):
        params, opt_state, loss = update(state.params, state.opt_state, next(streams["train"]))
        state = state._replace(params=params, opt_state=opt_state)
        metrics = {"train_loss": loss}
        if step + 1 in due:
            psnr = held_out_psnr(derainer.with_params(params), held_out)
            metrics["held_out_psnr"] = psnr
            if psnr > state.best_psnr:
                best = jax.tree.map(jnp.copy, params)
                state = state._replace(best_params=best, best_psnr=jnp.float32(psnr))
        return state, metrics

    state = workdir.train(state, config.steps, advance, batches_from, checkpoint_minutes=config.checkpoint_minutes)
    best = derainer.with_params(state.best_params)
    best.model.save(workdir.folder / "model")
    write_retrain_report(workdir, config, best, held_out)
    workdir.console.print(f"held-out PSNR (y-matlab): {float(state.best_psnr):.2f} dB")
    workdir.console.print(f"model: {workdir.folder / 'model'}\nreport: {workdir.folder / 'report.html'}")
    return best.model


def first_state(network: DerainNet, optimiser: optax.GradientTransformation, config: RetrainConfig) -> TrainState:
    """Fresh weights, drawn by the configuration's seed."""
    patch = jnp.zeros((1, config.patch, config.patch, 3))
    params = jax.jit(network.init)(jax.random.key(config.seed), patch)["params"]
    return TrainState(params, optimiser.init(params), jax.tree.map(jnp.copy, params), jnp.float32(-jnp.inf))


def train_step(network: DerainNet, optimiser: optax.GradientTransformation, loss: str):
    """``(params, opt_state, batch) -> (params, opt_state, loss)``; the batch is (rainy, clean) as floats."""
    restore_loss = parse_loss(loss)

    def objective(params, batch):
        rainy, clean = batch
        return restore_loss(network.apply({"params": params}, rainy), clean)

    def update(params, opt_state, batch):
        value, grads = jax.value_and_grad(objective)(params, batch)
        updates, opt_state = optimiser.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    return update


def fed(step: Callable[..., Any]) -> Callable[..., Any]:
    """A training step that takes batches as streams give them."""
    return lambda params, opt_state, batch: step(params, opt_state, as_floats(batch))


def held_out_psnr(derainer: Derainer, pairs: Pairs) -> float:
    """Mean PSNR in dB by y-matlab over whole images."""
    scores = []
    for i in range(len(pairs)):
        rainy, clean = pairs.rainy_clean(i)
        scores.append(score(derainer(rainy), clean, ("y-matlab",))["y-matlab"]["psnr"])
    return float(np.mean(scores))


def _provenance(config: RetrainConfig) -> dict[str, Any]:
    names = (
        "preset",
        "data",
        "synthetic_rain",
        "synthetic_renderings",
        "seed",
        "steps",
        "batch",
        "patch",
        "learning_rate",
        "loss",
        "held_out",
    )
    return {name: getattr(config, name) for name in names}


def main() -> None:
    """The command. Preset, data and network of the search are the defaults, as the genotype tells them."""
    args = sys.argv[1:]
    preset, path = command.peek("--preset", args), command.peek("--genotype", args)
    if path is None and not {"-h", "--help"} & set(args):
        raise InputError("--genotype is required: the genotype.json that a search wrote")
    origin = Genotype.load(path).origin if path is not None else {}
    default = retrain_preset(preset or origin.get("preset") or "tiny")
    if path is not None:
        found = searched_with(origin, path)
        if preset is not None:
            found.pop("network", None)
        default = dataclasses.replace(default, **found)
    retrain(command.parse(RetrainConfig, args, default, prog="python -m experiments.retrain"))


def searched_with(origin: Mapping[str, Any], source: str | None) -> dict[str, Any]:
    """Data and network that a genotype was searched with; raises ``InputError`` if its origin makes no sense."""
    found: dict[str, Any] = {}
    for name in ("data", "data_root"):
        if not isinstance(origin.get(name, ""), str):
            raise InputError(f"{source}, origin: {name} must be text, not {shown(origin[name])}")
    if "data" in origin:
        found["data"] = origin["data"]
    if "data_root" in origin:
        found["data_root"] = Path(origin["data_root"])
    if "network" in origin:
        found["network"] = NetworkConfig.from_json(origin["network"], f"{source}, origin")
    return found


if __name__ == "__main__":
    command.run(main)
