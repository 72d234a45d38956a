"""The command: one table for each algorithm, and one for all."""

from __future__ import annotations

import sys

import jax
import numpy as np
from rich.table import Table

from experiments import command
from experiments.planted import PlantedConfig, planted
from experiments.planted.teachers import CANDIDATES


def main() -> None:
    """The command."""
    config = command.parse(PlantedConfig, sys.argv[1:], prog="python -m experiments.planted")
    # Ranks are decided by small errors, which GPUs would round to three digits.
    jax.config.update("jax_default_matmul_precision", "float32")
    results = planted(config)
    console = command.console()
    for name, result in results.items():
        if name != "true":
            table = Table("planted", *CANDIDATES, title=f"found by {name}")
            for i, row in enumerate(CANDIDATES):
                counts = (int(np.sum(result.found[result.true == i] == j)) for j in range(len(CANDIDATES)))
                table.add_row(row, *map(str, counts))
            console.print(table)
    table = Table("algorithm", "recovered", *(["better than it, mean", "median"] if config.rank else []))
    for name, result in results.items():
        ranks = [f"{np.mean(result.ranks):.1%}", f"{np.median(result.ranks):.1%}"] if config.rank else []
        table.add_row(name, f"{result.recovered:.3f}", *ranks)
    console.print(table)
    console.print(f"{results[config.algorithms[0]].true.size} choices; chance {1 / len(CANDIDATES):.3f}")


if __name__ == "__main__":
    command.run(main)
