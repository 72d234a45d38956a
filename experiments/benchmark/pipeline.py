"""Can the streams of patches feed training, and what do they cost beside it?"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import HAND_MADE, uniform
from autoderain_jax.network import DerainNet
from data_pipelines import BUILTIN, Pairs, open_pairs
from data_pipelines.batches import as_floats, batches, fits
from data_pipelines.sampling import Sampling
from experiments import command
from experiments.benchmark.timing import in_turn, ratio, seconds
from experiments.config import Preset, retrain_preset
from experiments.retrain import clipped_adam, fed, first_state, train_step

STREAMS = ("device", "tf")
"""Measured; the first only where the data fit."""
ROUNDS_ALONE = 21
LONG_STEP = 5.0
"""Seconds of a step beyond which the costs of a stream beside it are not measured: they would be lost in it."""


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Patches per second of each stream, beside what each preset's training step consumes.

    Also the share of a step's time that a batch takes alone; what steps cost more when they are fed, by fed and unfed
    steps in turn (median and its 95% interval); and how much the process's memory grows over many batches. Times of
    one run are comparable, those of different runs hardly.
    """

    presets: tuple[Preset, ...] = ("tiny", "small", "base")
    """Whose training steps, patches and batches are measured."""
    data: str = BUILTIN
    """Training data, as for training."""
    data_root: Path | None = None
    """Where a data set given by name was unpacked."""
    seconds: float = 1.0
    """How long steps are run in each round, fed and unfed, about."""
    rounds: int = 31
    """Rounds in which fed and unfed steps are run in turn."""
    batches: int = 10_000
    """Batches over which memory is watched; those of the first preset given."""
    json: bool = False
    """Print one JSON object a line instead of a table."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        if not self.presets:
            raise InputError("--presets names none")
        for name in ("seconds", "rounds", "batches"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name} must be positive, not {getattr(self, name)}")


def pipeline(config: PipelineConfig) -> list[dict[str, Any]]:
    """Measures and prints; see ``PipelineConfig``.

    Returns:
      What ``--json`` prints, one dictionary for each preset and stream.

    Raises:
      InputError: something is wrong with the options or the data.
    """
    config.check()
    console = command.console(stderr=config.json)
    pairs = open_pairs(config.data, "train", config.data_root)
    rows = []
    for preset in config.presets:
        console.print(f"measuring {preset}")
        for row in _measure(config, preset, pairs, watch_memory=preset == config.presets[0]):
            rows.append({"benchmark": "pipeline", "data": config.data, "preset": preset, **row})
            if config.json:
                print(json.dumps(rows[-1]), flush=True)
    if not config.json:
        console.print(_table(rows))
    return rows


def _measure(config: PipelineConfig, preset: Preset, pairs: Pairs, watch_memory: bool) -> Iterator[dict[str, Any]]:
    training = retrain_preset(preset)
    size = {"patch": training.patch, "batch": training.batch}
    names = STREAMS if fits(pairs) else ("tf",)
    streams = {name: batches(pairs, Sampling(**size, seed=0), stream=name) for name in names}
    cut = jax.jit(as_floats)
    for stream in streams.values():
        seconds(lambda stream=stream: cut(next(stream)), -(-len(pairs) // training.batch))
    step = _Step(preset)
    fixed = jax.device_put(next(streams["tf"]))
    for batch in (fixed, *map(next, streams.values())):
        step(batch)
    once = min(seconds(lambda: step(fixed), 1) for _ in range(2))
    block = max(1, round(config.seconds / once))
    # The device's stream has nothing going on in the background, so that its steps can be compared one by one.
    blocks = {"device": (1, block * config.rounds), "tf": (block, config.rounds)}
    beside = {}
    if once < LONG_STEP:
        for name in names:
            actions = {"fixed": lambda: step(fixed), "fed": lambda stream=streams[name]: step(next(stream))}
            times, rounds = blocks[name]
            beside[name] = in_turn(actions, rounds, functools.partial(seconds, times=times))
    fixed_step = statistics.median([s for seconds in beside.values() for s in seconds["fixed"]] or [once])
    cuts = {name: lambda stream=streams[name]: cut(next(stream)) for name in names}
    alone = in_turn(cuts, ROUNDS_ALONE, functools.partial(seconds, times=200))
    for name in names:
        yield {
            "stream": name,
            **size,
            "step_seconds": fixed_step,
            "patches_per_second": training.batch / statistics.median(alone[name]),
            "consumed_per_second": training.batch / fixed_step,
            "ratio_to_consumed": fixed_step / statistics.median(alone[name]),
            "overhead": _overhead(beside[name]) if name in beside else None,
            "memory_growth_mb": _growth(streams[name], cut, config.batches) if watch_memory else None,
        }


class _Step:
    """The training step of a preset, on a network of one kind of convolution."""

    def __init__(self, preset: Preset):
        config = retrain_preset(preset)
        network = DerainNet(config.network, uniform(config.network, HAND_MADE).choices)
        optimiser = clipped_adam(config.learning_rate, config.steps, config.gradient_clip)
        state = first_state(network, optimiser, config)
        self._state = state.params, state.opt_state
        self._update = jax.jit(fed(train_step(network, optimiser, config.loss)), donate_argnums=(0, 1))

    def __call__(self, batch: Any) -> jax.Array:
        *self._state, loss = self._update(*self._state, batch)
        return loss


def _overhead(measured: dict[str, list[float]]) -> dict[str, float | None]:
    """Share by which fed steps take longer, as ``ratio`` gives it."""
    ratios = ratio(measured["fed"], measured["fixed"])
    return {name: None if value is None else value - 1.0 for name, value in ratios.items()}


def _growth(stream: Iterator, cut: Callable, count: int) -> float | None:
    """Growth of the process's memory in MB over so many batches; None where the system does not tell it."""
    before = _resident_mb()
    for batch in itertools.islice(stream, count):
        jax.block_until_ready(cut(batch))
    return _resident_mb() - before if before is not None else None


def _resident_mb() -> float | None:
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if status.exists() else None


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("preset", "stream", "patches/s", "needed", "share of step", "cost beside it", "memory")
    for row in rows:
        cost, growth = row["overhead"], row["memory_growth_mb"]
        interval = f" ({cost['low']:+.1%}, {cost['high']:+.1%})" if cost and cost["low"] is not None else ""
        table.add_row(
            row["preset"],
            row["stream"],
            f"{row['patches_per_second']:,.0f}",
            f"{row['consumed_per_second']:.3g}",
            f"{1 / row['ratio_to_consumed']:.2%}",
            f"{cost['median']:+.1%}{interval}" if cost else "",
            f"{growth:+.1f} MB" if growth is not None else "",
        )
    return table
