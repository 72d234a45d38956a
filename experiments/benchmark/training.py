"""What a training step costs on this device: time, arithmetic, memory and compilation, and a trace of it."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any, Literal

import jax
from rich.table import Table

from autoderain_jax.cost import network_macs
from autoderain_jax.errors import InputError
from autoderain_jax.genotype import HAND_MADE, Genotype, uniform
from autoderain_jax.network import DerainNet
from autoderain_jax.parallel import data_parallel
from experiments import command
from experiments.benchmark.steps import Step, allocator_peak, largest, random_batch, search_steps, searched_network
from experiments.benchmark.timing import product_flops, seconds, seconds_queued, write_trace
from experiments.config import Preset, RetrainConfig, retrain_preset, search_preset
from experiments.programs import Programs
from experiments.retrain import clipped_adam, first_state, update_in_parts


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Speed, arithmetic, memory and compile time of a training step of a derived network on one device.

    Patches are noise that lies on the device. On an accelerator, ten steps are begun before they are waited for.
    Operations are six for each multiply-accumulate of the network, forward and backward, without what ``--remat`` does
    again; ``xla_flops`` are XLA's count, which may lack what a GPU's libraries compute. The peak is that of a large
    matrix product in the same precision, measured in the same run. Predicted memory is what retraining would predict,
    but for the pixels of a data set; the allocator's peak is the most since the process began, the smallest step first.
    """

    preset: Preset = "small"
    """Network, batch and patch."""
    genotype: Path | None = None
    """A network found, instead of 3x3 convolutions with SE everywhere; as wide and deep as it was searched."""
    search: bool = False
    """Measure the steps of MDARTS, too, whose operations are those of 5x5 convolutions everywhere."""
    batch: int | None = None
    """Patches per step. Default: the preset's."""
    patch: int | None = None
    """Side of the patches in pixels. Default: the preset's."""
    accumulate: int = 1
    """Take the batch in so many parts."""
    remat: bool = False
    """Compute the inside of every RSEB anew in the backward pass."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    rounds: int = 5
    """Times that each step is measured; the median counts."""
    trace: Path | None = None
    """Write a profiler's trace of three steps to this folder, for TensorBoard's profile plugin or ui.perfetto.dev."""
    json: bool = False
    """Print one JSON object a line instead of a table."""

    def check(self) -> tuple[RetrainConfig, Genotype]:
        """What is trained, and the network; raises ``InputError`` naming the first option that makes no sense."""
        if self.rounds < 1:
            raise InputError(f"--rounds must be positive, not {self.rounds}")
        given = {name: getattr(self, name) for name in ("batch", "patch") if getattr(self, name) is not None}
        config = retrain_preset(self.preset)
        network = config.network if self.genotype is None else searched_network(self.genotype, config.network)
        network = dataclasses.replace(network, dtype=self.dtype)
        config = dataclasses.replace(config, **given, accumulate=self.accumulate, remat=self.remat, network=network)
        config.check()
        data_parallel(config.batch, config.accumulate)
        if self.genotype is None:
            return config, uniform(network, HAND_MADE)
        return config, Genotype.load(self.genotype)


def training(config: TrainingConfig) -> list[dict[str, Any]]:
    """Runs, prints and returns what ``--json`` prints; see ``TrainingConfig``.

    Raises:
      InputError: something is wrong with the options or the genotype.
    """
    trained, genotype = config.check()
    console = command.console(stderr=config.json)
    size = f"{trained.batch} x {trained.patch}x{trained.patch}"
    console.print(f"compiling {config.preset}, {size}, {config.dtype}, for {jax.devices()[0].device_kind}")
    name = HAND_MADE if config.genotype is None else config.genotype.stem
    steps = {(name, "train"): _training_step(trained, genotype)}
    if config.search:
        shape = {field: getattr(trained, field) for field in ("batch", "patch", "remat", "accumulate", "network")}
        found = search_steps(dataclasses.replace(search_preset(config.preset), **shape), "mdarts")
        steps |= {("mdarts", step_name): step for step_name, step in found if step_name != "both"}
    rows: list[dict[str, Any]] = []
    for names, step in sorted(steps.items(), key=lambda item: item[1].total):
        console.print(f"running {' '.join(names)}: {config.rounds} rounds")
        seconds(step)
        taken = statistics.median(seconds_queued(step) for _ in range(config.rounds))
        choices = (genotype if names[1] == "train" else largest(trained.network)).choices
        flops = 6 * network_macs(trained.network, choices) * trained.batch * trained.patch**2
        row = {
            "benchmark": "training",
            "device": jax.devices()[0].device_kind,
            "preset": config.preset,
            "network": names[0],
            "step": names[1],
            "batch": trained.batch,
            "patch": trained.patch,
            "accumulate": config.accumulate,
            "remat": config.remat,
            "dtype": config.dtype,
            "steps_per_second": 1 / taken,
            "patches_per_second": trained.batch / taken,
            "flops": flops,
            "xla_flops": step.flops,
            "flops_per_second": flops / taken,
            "compile_seconds": step.seconds,
            "predicted_bytes": step.total,
            "allocator_peak_bytes": allocator_peak(),
            "rounds": config.rounds,
        }
        rows.append(row)
        if config.trace is not None:
            console.print(f"trace: {write_trace(step, config.trace / '-'.join(names))}")
        step.release()
    # Afterwards: its matrices may take more memory than a step.
    peak = product_flops(config.dtype)
    for row in rows:
        row["share_of_peak"] = row["flops_per_second"] / peak
        if config.json:
            print(json.dumps(row), flush=True)
    if not config.json:
        console.print(_table(rows))
    return rows


def _training_step(config: RetrainConfig, genotype: Genotype) -> Step:
    """As retraining runs it, on noise."""
    network = DerainNet(config.network, genotype.choices, remat=config.remat)
    optimiser = clipped_adam(config.learning_rate, config.steps, config.gradient_clip)
    programs = Programs()
    update = update_in_parts(network, optimiser, config.loss, config.accumulate, programs)
    part = jax.device_put(random_batch(dataclasses.replace(config, batch=config.batch // config.accumulate)))
    parts = [part] * config.accumulate

    def first():
        return first_state(network, optimiser, config)

    def advance(state):
        params, opt_state, loss = update(state.params, state.opt_state, parts)
        return state._replace(params=params, opt_state=opt_state), loss

    state = jax.eval_shape(first)
    return Step(first, part, advance, programs.ahead(update, state.params, state.opt_state, parts))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("step", "steps/s", "patches/s", "GFLOP/s", "of peak", "compile", "predicted", "peak")
    for row in rows:
        peak = row["allocator_peak_bytes"]
        table.add_row(
            f"{row['network']} {row['step']}",
            f"{row['steps_per_second']:.3g}",
            f"{row['patches_per_second']:,.3g}",
            f"{row['flops_per_second'] / 1e9:,.0f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['compile_seconds']:.1f} s",
            f"{row['predicted_bytes'] / 1e6:,.0f} MB",
            "" if peak is None else f"{peak / 1e6:,.0f} MB",
        )
    return table
