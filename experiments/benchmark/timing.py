"""Times of actions in turn, so that what slows the machine slows all of them."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


def seconds(action: Callable[[], Any], times: int = 1) -> float:
    """Seconds that an action takes, on average over so many times."""
    began = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(action())
    return (time.perf_counter() - began) / times


def in_turn(actions: Mapping[str, Callable[[], Any]], times: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each action by round, on average over so many times; each round begins with another action."""
    measured: dict[str, list[float]] = {name: [] for name in actions}
    order = itertools.cycle(actions)
    for _ in range(rounds):
        for _ in actions:
            name = next(order)
            measured[name].append(seconds(actions[name], times))
        next(order)
    return measured


def ratio(measured: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Ratio to a base measured in the same rounds: the median, and its 95% interval by order statistics."""
    ratios = sorted(a / b for a, b in zip(measured, base, strict=True))
    middle, reach = (len(ratios) - 1) / 2, 0.98 * math.sqrt(len(ratios))
    low, high = max(0, math.floor(middle - reach)), min(len(ratios) - 1, math.ceil(middle + reach))
    return {"median": statistics.median(ratios), "low": ratios[low], "high": ratios[high]}
