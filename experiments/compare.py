"""Does the search find something? Networks found and made by hand, retrained at equal cost: ``python -m
experiments.compare``.

5x5 contains every other candidate, so that only equal cost is a fair race: every network's width is scaled until it
has as many multiply-accumulates, or as many weights, as the hand-made all-3x3 network with SE has at the preset's
width. All are then trained alike, with the same steps and the same seeds, and scored on the same images.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from autoderain_jax.cost import network_macs, network_params
from autoderain_jax.errors import InputError
from autoderain_jax.files import read_json, replace_file
from autoderain_jax.genotype import HAND_MADE, Genotype, uniform
from autoderain_jax.network import NetworkConfig
from autoderain_jax.rivals import ALGORITHMS
from data_pipelines import BUILTIN, choose_part, find_data
from data_pipelines.layouts import ALL
from experiments import command
from experiments.config import Preset, retrain_preset, search_preset
from experiments.evaluate import EvaluateConfig, evaluate
from experiments.retrain import retrain
from experiments.search import search
from experiments.workdir import claim

Contender = Literal["mdarts", "darts", "folded", "nasp", "proxyless", "random", "conv3x3", "conv5x5"]

RESULTS = "results.json"
NETWORK_COSTS = {"macs": network_macs, "params": network_params}
"""What networks can be scaled to have equally much of: ``(config, choices) -> cost``."""


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Retrain networks found by searches and made by hand at equal cost, and compare their scores.

    The same folder again goes on where it was stopped.
    """

    workdir: Path
    """Folder for all runs, and results.json."""
    contenders: tuple[Contender, ...] = ("mdarts", "darts", "random", "conv3x3", "conv5x5")
    """Searches by their algorithm, and hand-made networks by their one type of convolution, with SE."""
    seeds: int = 3
    """Runs of each, of search and retraining, with seeds 0, 1, ..."""
    preset: Preset = "small"
    """Network, batch and patch."""
    data: str = BUILTIN
    """Training data, as for training; it must have another part than the one trained on, which is scored."""
    data_root: Path | None = None
    """Where a data set given by name was unpacked."""
    split: str = "test"
    """Part of the data set that is scored."""
    search_steps: int | None = None
    """Steps of each search. Default: the preset's."""
    search_batch: int | None = None
    """Patches per step of each search. Default: the preset's."""
    retrain_steps: int | None = None
    """Steps of each retraining. Default: the preset's."""
    cost: Literal["macs", "params"] = "macs"
    """What searches pay for and all networks have equally much of: multiply-accumulates, or weights."""
    cost_weight: float | None = None
    """Price of computation in the searches. Default: the preset's."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        if self.seeds < 1:
            raise InputError(f"--seeds must be at least 1, not {self.seeds}")
        for name in ("search_steps", "search_batch", "retrain_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        if self.cost_weight is not None and not 0 <= self.cost_weight < math.inf:
            raise InputError(f"--cost-weight must not be negative, not {self.cost_weight}")
        if not self.contenders or len(set(self.contenders)) < len(self.contenders):
            raise InputError(f"--contenders names {'one twice' if self.contenders else 'none'}")
        if choose_part(find_data(self.data, self.data_root), self.split, self.data) in (ALL, "train"):
            raise InputError(f"--split {self.split} of --data {self.data} is what networks are trained on")


def compare(config: CompareConfig) -> list[dict[str, Any]]:
    """Runs or resumes the comparison; see ``CompareConfig``.

    Returns:
      A row for each contender and seed, as in ``results.json``.

    Raises:
      InputError: something is wrong with the options, the data or a folder.
      KeyboardInterrupt: stopped by a signal, with everything saved.
    """
    config.check()
    console = command.console()
    network = search_preset(config.preset).network
    target = NETWORK_COSTS[config.cost](network, uniform(network, HAND_MADE).choices)
    claim(config.workdir)
    kept = _kept(config.workdir / RESULTS)
    rows: list[dict[str, Any]] = []
    for seed, contender in itertools.product(range(config.seeds), config.contenders):
        console.print(f"== {contender}, seed {seed}")
        rows.append(_run(config, contender, seed, target))
        kept[contender, str(seed)] = rows[-1]
        _write(config, list(kept.values()))
    console.print(_table(rows))
    return rows


def _run(config: CompareConfig, contender: Contender, seed: int, target: float) -> dict[str, Any]:
    """One contender with one seed: searched or made, scaled, retrained and scored."""
    folder = config.workdir / f"{contender}-{seed}"
    data = {"data": config.data, "data_root": config.data_root, "seed": seed}
    default, searching = search_preset(config.preset), None
    if contender in ALGORITHMS:
        options = {"steps": config.search_steps, "batch": config.search_batch, "cost_weight": config.cost_weight}
        given = {name: value for name, value in options.items() if value is not None} | {"cost": config.cost}
        searching = dataclasses.replace(default, workdir=folder / "search", algorithm=contender, **given, **data)
        genotype = search(searching).genotype
    else:
        genotype = uniform(default.network, contender)
        folder.mkdir(parents=True, exist_ok=True)
    genotype.save(folder / "genotype.json")
    network = dataclasses.replace(default.network, width=width_for(config.cost, default.network, genotype, target))
    training = retrain_preset(config.preset)
    model = retrain(
        dataclasses.replace(
            training,
            workdir=folder / "retrain",
            genotype=folder / "genotype.json",
            network=network,
            steps=config.retrain_steps or training.steps,
            **data,
        )
    )
    data.pop("seed")
    scores = evaluate(
        EvaluateConfig(workdir=folder / "scores", model=folder / "retrain" / "model", split=config.split, **data)
    )
    return {
        "contender": contender,
        "seed": seed,
        "width": network.width,
        "parameters": model.parameters,
        "macs_per_pixel": network_macs(network, genotype.choices),
        "cost": config.cost,
        "search_steps": searching.steps if searching else None,
        "retrain_steps": model.training["steps"],
        "split": config.split,
        **scores["protocols"]["y-matlab"],
    }


def _kept(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of an earlier part of the comparison by contender and seed: those not reached again stay."""
    rows = read_json(path, "results") if path.exists() else []
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"contender", "seed"} <= row.keys() for row in rows
    ):
        raise InputError(f"{path} is damaged: it is not a list of results")
    return {(str(row["contender"]), str(row["seed"])): row for row in rows}


def _write(config: CompareConfig, rows: list[dict[str, Any]]) -> None:
    replace_file(config.workdir / RESULTS, json.dumps(command.finite(rows), indent=2, allow_nan=False) + "\n")


def _table(rows: list[dict[str, Any]]) -> Table:
    """Means over seeds with their standard deviation, and the difference to the reference seed by seed."""
    table = Table("network", "width", "parameters", "MACs/pixel", "PSNR (y-matlab)", "SSIM", f"against {HAND_MADE}")
    psnr = {(row["contender"], row["seed"]): row["psnr"] for row in rows}
    for contender in dict.fromkeys(row["contender"] for row in rows):
        mine = [row for row in rows if row["contender"] == contender]
        gains = [row["psnr"] - psnr[HAND_MADE, row["seed"]] for row in mine if (HAND_MADE, row["seed"]) in psnr]
        table.add_row(
            contender,
            _range([row["width"] for row in mine]),
            _range([row["parameters"] for row in mine]),
            f"{statistics.mean(row['macs_per_pixel'] for row in mine):,.0f}",
            _spread([row["psnr"] for row in mine], "dB"),
            f"{statistics.mean(row['ssim'] for row in mine):.4f}",
            _spread(gains, "dB", "+") if gains and contender != HAND_MADE else "",
        )
    return table


def _range(values: list[int]) -> str:
    return f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"


def _spread(values: list[float], unit: str, sign: str = "") -> str:
    # There is none of scores that are infinite, as those of perfect images are.
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 and all(map(math.isfinite, values)) else ""
    return f"{statistics.mean(values):{sign}.2f}{spread} {unit}"


def width_for(kind: str, config: NetworkConfig, genotype: Genotype, cost: float) -> int:
    """The width at which a network comes nearest to a cost, of a kind in ``NETWORK_COSTS``."""

    def at(width: int) -> float:
        return NETWORK_COSTS[kind](dataclasses.replace(config, width=width), genotype.choices)

    low, high = 1, 1
    while at(high) < cost:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < cost else (low, middle)
    return min((low, high), key=lambda width: abs(at(width) - cost))


def main() -> None:
    """The command."""
    compare(command.parse(CompareConfig, sys.argv[1:], prog="python -m experiments.compare"))


if __name__ == "__main__":
    command.run(main)
