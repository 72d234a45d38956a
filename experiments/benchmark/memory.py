"""What memory, operations and compilation the steps of a search take, beside training a single model."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
from rich.table import Table

from experiments import command
from experiments.benchmark.plots import draw_ratios
from experiments.benchmark.steps import Step, StepsConfig, allocator_peak, measured_steps, settings


@dataclasses.dataclass(frozen=True)
class MemoryConfig(StepsConfig):
    """Memory of each step of a search beside the training step of a single model, by XLA's own analysis.

    The single model has the largest candidate and SE everywhere. ``ratio_to_single`` is of the temporary bytes: what a
    step holds beside parameters and optimiser states, which ``total`` includes. Also operations and compile time.
    """


def memory(config: MemoryConfig) -> list[dict[str, Any]]:
    """Compiles, prints and returns what ``--json`` prints; see ``MemoryConfig``.

    Raises:
      InputError: something is wrong with the options or the genotype.
    """
    config.check()
    console = command.console(stderr=config.json)
    rows: list[dict[str, Any]] = []
    for setting in settings(config):
        steps = measured_steps(config, setting, console.print)
        single = steps["single", "weights"]
        peaks = _allocator_peaks(steps)
        for (algorithm, name), step in steps.items():
            row = {
                "benchmark": "memory",
                "algorithm": algorithm,
                "step": name,
                "temp_bytes": step.temp,
                "ratio_to_single": step.temp / single.temp,
                "total_bytes": step.total,
                "total_ratio": step.total / single.total,
                "state_bytes": step.held,
                "bank_bytes": step.held - single.held,
                "flops": step.flops,
                "flops_ratio": step.flops / single.flops if step.flops and single.flops else None,
                "compile_seconds": step.seconds,
                "compile_ratio": step.seconds / single.seconds,
                "allocator_peak_bytes": peaks.get((algorithm, name)),
                **setting.describe(),
            }
            rows.append(row)
            if config.json:
                print(json.dumps(row), flush=True)
    if not config.json:
        console.print(_table(rows))
    if config.plot is not None:
        draw_ratios(rows, config.plot, "temporary memory / single model")
    return rows


def _allocator_peaks(steps: dict[tuple[str, str], Step]) -> dict[tuple[str, str], int]:
    """The allocator's peak, where it counts: each step is run, the smallest first."""
    if allocator_peak() is None:
        return {}
    peaks = {}
    for name, step in sorted(steps.items(), key=lambda item: item[1].total):
        jax.block_until_ready(step())
        step.release()
        peaks[name] = allocator_peak()
    return peaks


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "setting", "algorithm", "step", "temp MB", "ratio", "total MB", "ratio", "bank MB", "FLOPs", "compile"
    )
    for row in rows:
        table.add_row(
            f"{row['varied']} {row['value']}",
            row["algorithm"],
            row["step"],
            f"{row['temp_bytes'] / 1e6:,.1f}",
            f"{row['ratio_to_single']:.3f}",
            f"{row['total_bytes'] / 1e6:,.1f}",
            f"{row['total_ratio']:.3f}",
            f"{row['bank_bytes'] / 1e6:+,.1f}",
            f"{row['flops_ratio']:.2f}x" if row["flops_ratio"] else "",
            f"{row['compile_seconds']:.1f} s, {row['compile_ratio']:.2f}x",
        )
    return table
