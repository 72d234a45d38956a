"""What time the steps of a search take, beside training a single model."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any

from rich.table import Table

from autoderain_jax.errors import InputError
from experiments import command
from experiments.benchmark.plots import draw_ratios
from experiments.benchmark.steps import StepsConfig, measured_steps, settings
from experiments.benchmark.timing import in_turn, ratio, seconds_queued


@dataclasses.dataclass(frozen=True)
class SpeedConfig(StepsConfig):
    """Time of each step of a search beside the training step of a single model, run in turn.

    The single model has the largest candidate and SE everywhere. Ratios are medians over rounds with their 95%
    intervals, where there are six rounds or more; times of one run are comparable, those of different runs hardly.
    """

    rounds: int = 15
    """Rounds in which every step is run once or, on an accelerator, ten times that are waited for together."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        super().check()
        if self.rounds < 1:
            raise InputError(f"--rounds must be positive, not {self.rounds}")


def speed(config: SpeedConfig) -> list[dict[str, Any]]:
    """Runs, prints and returns what ``--json`` prints; see ``SpeedConfig``.

    Raises:
      InputError: something is wrong with the options or the genotype.
    """
    config.check()
    console = command.console(stderr=config.json)
    rows: list[dict[str, Any]] = []
    for setting in settings(config):
        steps = measured_steps(config, setting, console.print)
        console.print(f"running {setting.varied} {setting.value}: {config.rounds} rounds of {len(steps)} steps")
        in_turn(steps, rounds=1)
        measured = in_turn(steps, config.rounds, seconds_queued)
        base = measured["single", "weights"]
        for (algorithm, name), seconds in measured.items():
            interval = ratio(seconds, base)
            row = {
                "benchmark": "speed",
                "algorithm": algorithm,
                "step": name,
                "seconds": statistics.median(seconds),
                "ratio_to_single": interval["median"],
                "ratio_low": interval["low"],
                "ratio_high": interval["high"],
                "rounds": config.rounds,
                **setting.describe(),
            }
            rows.append(row)
            if config.json:
                print(json.dumps(row), flush=True)
    if not config.json:
        console.print(_table(rows))
    if config.plot is not None:
        draw_ratios(rows, config.plot, "time of a step / single model")
    return rows


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("setting", "algorithm", "step", "seconds", "ratio", "95% interval")
    for row in rows:
        table.add_row(
            f"{row['varied']} {row['value']}",
            row["algorithm"],
            row["step"],
            f"{row['seconds']:.4g}",
            f"{row['ratio_to_single']:.3f}",
            "" if row["ratio_low"] is None else f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}",
        )
    return table
