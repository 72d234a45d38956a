"""Train a searched network: ``python -m experiments.retrain --genotype FILE``; or, by ``--initial-model``, further."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError, shown
from autoderain_jax.genotype import Genotype
from autoderain_jax.losses import parse_loss
from autoderain_jax.metrics import score
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, NetworkConfig
from autoderain_jax.parallel import data_parallel, local
from autoderain_jax.scales import AS_IT_IS
from autoderain_jax.stages import Stage, mean_over_parts, take
from data_pipelines import Pairs
from data_pipelines.batches import as_floats, batches, origin
from data_pipelines.sampling import Sampling
from experiments import command, processes
from experiments.config import RetrainConfig, open_training, retrain_preset
from experiments.programs import LOWER, Programs, jit_once, predict, shapes, tree_bytes
from experiments.report import write_retrain_report
from experiments.workdir import Workdir

EXACT_PSNR = 100.0
"""In dB: what an image that is restored to the last bit counts as among those that choose weights."""


class MeanState(NamedTuple):
    """State of ``running_mean``: the number of updates done, and the mean of what they gave."""

    count: jax.Array
    mean: Any


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
    genotype, initial = start_of(config)
    train, held_out = open_training(config)
    train.require_patch(config.patch)
    held_out.require_scored()
    layout = data_parallel(config.batch, config.accumulate)
    inputs = {"blocks": genotype.blocks, "images": [train.listing_id(), held_out.listing_id()]}
    if initial is not None:
        inputs["initial_model"] = initial.id
    workdir = Workdir(config.workdir, config, "retrain", **inputs)
    network = DerainNet(config.network, genotype.choices, remat=config.remat)
    optimiser = clipped_adam(config.learning_rate, config.steps, config.gradient_clip, config.ema)
    given = None if initial is None else layout.place_whole(initial.params)
    begin = functools.partial(first_state, network, optimiser, config)
    first = functools.partial(jit_once(begin, out_shardings=layout.whole), given)
    pixels = config.image_pixels or int(np.median(train.sizes.prod(1)))
    model = Model(config.network, genotype, local(first().params), config.patch, _provenance(config, initial), pixels)
    workdir.console.print(
        f"{model.parameters:,} parameters; {len(train)} training pairs, {len(held_out)} held out; {config.steps} steps"
        f"{layout.words}"
    )

    programs = Programs(layout)
    update = update_in_parts(network, optimiser, config.loss, config.accumulate, programs)
    derainer = Derainer(model, scales=AS_IT_IS)
    due = {round(config.steps * (i + 1) / config.validations) for i in range(config.validations)}
    streams: dict[str, Any] = {}
    sampling = Sampling(config.patch, config.batch, config.seed, config.swap_rain)

    def batches_from(start: int) -> str:
        for i in _share(held_out):
            # One that is damaged is told now rather than when something has been learned.
            held_out.image(i)
        options = {"stream": config.stream, "layout": layout, "shard": layout.shard, "parts": config.accumulate}
        stream = batches(train, sampling, start=start, **options)
        batch = next(stream)
        streams["train"] = itertools.chain([batch], stream)
        state = layout.shapes(jax.eval_shape(begin, given))
        runs = programs.ahead(update, state.params, state.opt_state, [shapes(batch)] * config.accumulate)
        return predict(runs, tree_bytes([state, batch]))

    def advance(state: TrainState, step: int):
        params, opt_state, loss = update(state.params, state.opt_state, take(streams["train"], config.accumulate))
        state = state._replace(params=params, opt_state=opt_state)
        metrics = {"train_loss": loss}
        if step == 0 and initial is not None:
            psnr = held_out_psnr(Derainer(initial, scales=AS_IT_IS), held_out)
            workdir.console.print(f"before: held-out PSNR (y-matlab) {psnr:.2f} dB")
            state = state._replace(best_psnr=layout.place_whole(np.float32(psnr)))
        if step + 1 in due:
            best = averaged(params, opt_state)
            candidate = derainer.with_params(local(best))
            psnr = held_out_psnr(candidate, held_out)
            metrics["held_out_psnr"] = psnr
            if psnr > state.best_psnr:
                if workdir.writes:
                    # For use while training goes on, or is given up.
                    candidate.model.save(workdir.folder / "model")
                state = state._replace(best_params=best, best_psnr=layout.place_whole(np.float32(psnr)))
        return state, metrics

    state = workdir.train(
        first(),
        config.steps,
        advance,
        batches_from,
        checkpoint_minutes=config.checkpoint_minutes,
        batch_of=lambda step: origin(train, sampling, step),
    )
    best = derainer.with_params(local(state.best_params))
    if initial is not None and dataclasses.replace(best.model, config=initial.config).id == initial.id:
        # Its precision, window and size of images are its own, too.
        best = Derainer(initial, scales=AS_IT_IS)
    if workdir.writes:
        best.model.save(workdir.folder / "model")
        write_retrain_report(workdir, config, best, held_out)
    workdir.console.print(f"held-out PSNR (y-matlab): {float(state.best_psnr):.2f} dB")
    workdir.console.print(f"model: {workdir.folder / 'model'}\nreport: {workdir.folder / 'report.html'}")
    imports = ["--imports", *config.imports] if config.imports else []
    model = ["--model", str(workdir.folder / "model"), *imports]
    workdir.console.print(command.next_step("derain", "PHOTO", "--output", "restored", *model))
    return best.model


def start_of(config: RetrainConfig) -> tuple[Genotype, Model | None]:
    """The architecture, and the model that is trained further, if one is; raises ``InputError`` if they do not fit."""
    if config.initial_model is None:
        genotype = Genotype.load(config.genotype)
        genotype.check_fits(config.network, str(config.genotype))
        return genotype, None
    initial = Model.load(config.initial_model)
    if config.workdir is not None and (config.workdir / "model").resolve() == config.initial_model.resolve():
        raise InputError(f"--workdir {config.workdir} would overwrite --initial-model {config.initial_model}")
    # The precision that it is trained in is no part of what it is.
    if dataclasses.replace(initial.config, dtype=config.network.dtype) != config.network:
        raise InputError(f"--network is not that of --initial-model {config.initial_model}: leave it out")
    return initial.genotype, initial


def clipped_adam(learning_rate: float, steps: int, clip: float, ema: float = 0.0) -> optax.GradientTransformation:
    """Adam along gradients no longer than ``clip``, at a rate that falls to zero along a cosine.

    Without clipping if ``clip`` is 0, and with ``running_mean`` of the weights unless ``ema`` is.
    """
    parts = [optax.clip_by_global_norm(clip)] if clip else []
    parts.append(optax.adam(optax.cosine_decay_schedule(learning_rate, steps)))
    if ema:
        parts.append(running_mean(ema))
    # Flattened: hundreds of small operations would keep an accelerator waiting for the host.
    return optax.flatten(optax.chain(*parts))


def running_mean(decay: float) -> optax.GradientTransformation:
    """Ends a chain of transforms: keeps an exponential moving average of the parameters, and leaves updates alone.

    The decay is ``(1 + t) / (10 + t)`` at update ``t`` until it reaches ``decay``, so that early weights, which are far
    off, do not stay in it for long.
    """

    def init(params: Any) -> MeanState:
        return MeanState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: MeanState, params: Any) -> tuple[Any, MeanState]:
        keep = jnp.minimum(decay, (1.0 + state.count) / (10.0 + state.count))
        mean = optax.incremental_update(optax.apply_updates(params, updates), state.mean, 1.0 - keep)
        return updates, MeanState(state.count + 1, mean)

    return optax.GradientTransformation(init, update)


def averaged(params: Any, opt_state: Any) -> Any:
    """A copy of the weights, or the mean of them that ``clipped_adam`` keeps, if it does."""
    means = [part.mean for part in opt_state if isinstance(part, MeanState)]
    return ravel_pytree(params)[1](means[0]) if means else jax.tree.map(jnp.copy, params)


def first_state(
    network: DerainNet, optimiser: optax.GradientTransformation, config: RetrainConfig, params: Any = None
) -> TrainState:
    """The weights given, or fresh ones, drawn by the configuration's seed."""
    if params is None:
        patch = jnp.zeros((1, config.patch, config.patch, 3))
        params = jax.jit(network.init)(jax.random.key(config.seed), patch)["params"]
    return TrainState(params, optimiser.init(params), jax.tree.map(jnp.copy, params), jnp.float32(-jnp.inf))


def train_step(network: DerainNet, optimiser: optax.GradientTransformation, loss: str):
    """``(params, opt_state, batch) -> (params, opt_state, loss)``; the batch is (rainy, clean) as floats."""
    descend = value_and_gradient(network, loss)

    def update(params, opt_state, batch):
        value, grads = descend(params, batch)
        return *applied(optimiser, params, opt_state, grads), value

    return update


def value_and_gradient(network: DerainNet, loss: str) -> Callable[[Any, Any], tuple[jax.Array, Any]]:
    """``(params, batch) -> (loss, gradient)``."""
    restore_loss = parse_loss(loss)

    def objective(params, batch):
        rainy, clean = batch
        return restore_loss(network.apply({"params": params}, rainy), clean)

    return jax.value_and_grad(objective)


def applied(optimiser: optax.GradientTransformation, params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
    """Weights and the optimiser's state after a step along a gradient."""
    updates, opt_state = optimiser.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def update_in_parts(
    network: DerainNet, optimiser: optax.GradientTransformation, loss: str, parts: int, stage: Stage
) -> Callable[..., tuple[Any, Any, jax.Array]]:
    """``(params, opt_state, parts of a batch) -> (params, opt_state, loss)``, the parts as streams give them."""
    if parts == 1:
        whole = stage(fed(train_step(network, optimiser, loss)), (0, 1))
        return lambda params, opt_state, batch: whole(params, opt_state, *batch)
    descend = value_and_gradient(network, loss)
    gradient = mean_over_parts(lambda params, part: descend(params, as_floats(part)), parts, stage)
    apply = stage(lambda params, opt_state, grads: applied(optimiser, params, opt_state, grads), (0, 1))

    def update(params, opt_state, batch):
        value, grads = gradient(params, batch)
        return *apply(params, opt_state, grads), value

    return update


def fed(step: Callable[..., Any]) -> Callable[..., Any]:
    """A training step that takes batches as streams give them."""
    return lambda params, opt_state, batch: step(params, opt_state, as_floats(batch))


def held_out_psnr(derainer: Derainer, pairs: Pairs) -> float:
    """Mean PSNR in dB by y-matlab over whole images, which all processes share among them.

    An image that is restored to the last bit counts as ``EXACT_PSNR``: infinite, it would leave nothing to choose by.
    """
    mine = 0.0
    derainer.expect(pairs[i].size for i in _share(pairs))
    for i in _share(pairs):
        rainy, clean = pairs.rainy_clean(i)
        mine += min(EXACT_PSNR, float(score(derainer(rainy), clean, ("y-matlab",))["y-matlab"]["psnr"]))
    return processes.total(mine) / len(pairs)


def _share(pairs: Pairs) -> range:
    """The pairs that this process scores."""
    return range(jax.process_index(), len(pairs), jax.process_count())


def _provenance(config: RetrainConfig, initial: Model | None) -> dict[str, Any]:
    # Not of what leaves the result as it is: processes, accumulation, recomputation.
    names = (
        "preset",
        "data",
        "synthetic_rain",
        "synthetic_renderings",
        "swap_rain",
        "seed",
        "steps",
        "batch",
        "patch",
        "learning_rate",
        "gradient_clip",
        "ema",
        "loss",
        "held_out",
    )
    before = {} if initial is None else {"initial_model": {"id": initial.id, **initial.training}}
    return {name: getattr(config, name) for name in names} | before


def main() -> None:
    """The command. Preset, data and network of the search are the defaults, as the genotype tells them."""
    args = sys.argv[1:]
    helping = bool({"-h", "--help"} & set(args))
    preset, path, further = (command.peek(option, args) for option in ("--preset", "--genotype", "--initial-model"))
    if (path is None) == (further is None) and not helping:
        raise InputError("give either --genotype, the genotype.json that a search wrote, or --initial-model")
    origin = Genotype.load(path).origin if path is not None else {}
    initial = Model.load(further, weights=False) if further is not None else None
    if initial is not None:
        if command.peek("--data", args) is None and not helping:
            raise InputError("--data is required with --initial-model: what it is to be trained on")
        origin = initial.training
    default = retrain_preset(preset or origin.get("preset", "tiny"))
    if preset is None and origin.get("preset", "tiny") != default.preset:
        raise InputError(
            f"{further if path is None else path} was made with preset {shown(origin['preset'])}, which is not known: "
            "give --preset"
        )
    if initial is not None:
        default = dataclasses.replace(default, network=initial.config, patch=initial.pool_window)
    if path is not None:
        found = searched_with(origin, path)
        if preset is not None:
            found.pop("network", None)
        if command.peek("--data", args) is not None:
            # It is the place of the search's data, not of others.
            found.pop("data_root", None)
        default = dataclasses.replace(default, **found)
    config = command.parse(RetrainConfig, args, default, prog="python -m experiments.retrain")
    processes.join(config.processes, command.say)
    retrain(config)
    processes.part()


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
    command.run(main, LOWER)
