"""Is a search healthy? Measures of its choices over the steps, and warnings in words.

All of it is read from the run's records, so that a resumed run comes to the same conclusions.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np

from autoderain_jax.network import NetworkConfig, open_choices
from autoderain_jax.search_space import Rows

Record = dict[str, Any]

COLLAPSED = 0.9
"""Share of the convolutions of one kind from which on a search counts as collapsed."""
STAGNANT = 0.02
"""Change of the mean entropy below which alphas count as not having moved."""
RESTLESS = 0.1
"""Share of the choices that flip in a step from which on a search counts as unsettled."""


def measures(shares: Rows, preference: Rows, config: NetworkConfig) -> dict[str, float]:
    """What a record tells of the choices of a search; all are scalars.

    Args:
      shares: the share of recent steps in which each option led, on the host.
      preference: alphas as rows that sum to one.
      config: the network's.

    Returns:
      ``entropy``, the mean over all choices of the entropy of their preference, 1 where all options are equal and 0
      where one has it all; ``share/OPTION``, the share of the convolutions that an option leads; and ``share/se_on``,
      that of SE choices.
    """
    entropies = [_entropy(row) for rows in preference.values() for row in rows.values()]
    kinds: dict[str, list[str]] = {"conv": [], "se": []}
    for block, rows in open_choices(config).items():
        for name, options in rows.items():
            kinds["se" if name == "se" else "conv"].append(options[int(np.argmax(shares[block][name]))])
    counts = Counter(kinds["conv"])
    of_options = {f"share/{option}": counts[option] / len(kinds["conv"]) for option in config.candidates}
    of_options["share/se_on"] = kinds["se"].count("on") / len(kinds["se"])
    return {"entropy": float(np.mean(entropies)), **of_options}


def choices_of(shares: Rows) -> str:
    """The leading option of every choice, as a text of digits that records compare."""
    return " ".join(str(int(np.argmax(row))) for rows in shares.values() for row in rows.values())


def settled(records: list[Record], steps: int) -> bool:
    """Whether for so many steps no choice has changed and the alphas have not become more or less decided.

    Choices alone do not tell: alphas with a head start change for long before another option overtakes.
    """
    if not records:
        return False
    last = records[-1]

    def alike(record: Record) -> bool:
        return record["choices"] == last["choices"] and abs(record["entropy"] - last["entropy"]) < STAGNANT

    since = [record["step"] for record in itertools.takewhile(alike, reversed(records))]
    return last["step"] - min(since) >= steps


def warnings(
    records: list[Record], config: NetworkConfig, prices: Rows, start: Rows, relaxed_steps: int = 0
) -> list[str]:
    """What went wrong with a finished search, each with what may help; none if it is well.

    Args:
      records: of its metrics file.
      config: of its network.
      prices: of its options.
      start: rows that sum to one, where its alphas began.
      relaxed_steps: after which its alphas stayed; 0: they never did.
    """
    of_alphas = [record for record in records if "held_out_loss" in record]
    if not of_alphas:
        return []
    found, last = [], of_alphas[-1]
    row = np.asarray(next(iter(prices.values()))["conv_a"])
    for option in config.candidates:
        if last[f"share/{option}"] >= COLLAPSED:
            price = row[config.candidates.index(option)]
            help_ = {row.min(): ", the cheapest: lower --cost-weight", row.max(): ", the dearest: raise --cost-weight"}
            found.append(
                f"collapse: {last[f'share/{option}']:.0%} of the convolutions are {option}{help_.get(price, '')}"
            )
    began = np.mean([_entropy(row) for rows in start.values() for row in rows.values()])
    if abs(last["entropy"] - began) < STAGNANT:
        found.append(
            "stagnation: the alphas have hardly moved, so that choices are chance or those of the start; "
            "raise --steps, --alphas-learning-rate or lower --cost-weight"
        )
    # Of steps in which alphas stay, there would be nothing left of it in the average.
    flips = [record["flips"] for record in of_alphas if not relaxed_steps or record["step"] <= relaxed_steps][-1:]
    if flips and flips[0] > RESTLESS:
        found.append(
            f"restless: {flips[0]:.0%} of the choices still change in a step, being near ties; "
            "raise --steps, --batch or --cost-weight, or lower --alphas-learning-rate"
        )
    return found


def _entropy(row: Any) -> float:
    p = np.clip(np.asarray(row, np.float64), 1e-12, 1.0)
    return float(-(p * np.log(p)).sum() / math.log(len(p)))
