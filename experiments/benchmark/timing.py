"""Times of actions in turn, so that what slows the machine slows all of them."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

QUEUED = 10
"""Actions begun on an accelerator before any is waited for, as in training: beginning one takes the host time, too."""
FEWEST_ROUNDS = 6
"""Whose smallest and largest value have the median between them with 95%: five have it with 94%."""
TRACED = 3
"""Actions in a trace."""


def on_accelerator() -> bool:
    """Whether JAX computes on something else than the CPU."""
    return jax.devices()[0].platform != "cpu"


def seconds(action: Callable[[], Any], times: int = 1) -> float:
    """Seconds that an action takes, on average over so many times."""
    began = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(action())
    return (time.perf_counter() - began) / times


def seconds_queued(action: Callable[[], Any]) -> float:
    """Seconds that an action takes: on an accelerator, on average over ``QUEUED`` that are waited for together."""
    times = QUEUED if on_accelerator() else 1
    began = time.perf_counter()
    for _ in range(times):
        last = action()
    jax.block_until_ready(last)
    return (time.perf_counter() - began) / times


def write_trace(action: Callable[[], Any], folder: Path) -> Path:
    """A profiler's trace of ``TRACED`` times an action, for TensorBoard's profile plugin or ui.perfetto.dev."""
    with jax.profiler.trace(folder):
        for number in range(TRACED):
            with jax.profiler.StepTraceAnnotation("step", step_num=number):
                jax.block_until_ready(action())
    return folder


def product_flops(dtype: str) -> float:
    """Operations per second of a large matrix product in this precision, the best of five: the machine's peak."""
    side = 8192 if on_accelerator() else 2048
    # Not of ones, which take a GPU less power than what networks compute, and so less time.
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(jnp.matmul)
    seconds(lambda: product(matrix, matrix))
    return 2 * side**3 / min(seconds_queued(lambda: product(matrix, matrix)) for _ in range(5))


def in_turn(
    actions: Mapping[str, Callable[[], Any]], rounds: int, measure: Callable[[Callable[[], Any]], float] = seconds
) -> dict[str, list[float]]:
    """What ``measure`` tells of each action by round; each round begins with another action."""
    measured: dict[str, list[float]] = {name: [] for name in actions}
    order = itertools.cycle(actions)
    for _ in range(rounds):
        for _ in actions:
            name = next(order)
            measured[name].append(measure(actions[name]))
        next(order)
    return measured


def ratio(measured: Sequence[float], base: Sequence[float]) -> dict[str, float | None]:
    """Ratio to a base measured in the same rounds: the median, and its 95% interval by order statistics.

    Fewer than ``FEWEST_ROUNDS`` tell of no interval, and ``low`` and ``high`` are None.
    """
    ratios = sorted(a / b for a, b in zip(measured, base, strict=True))
    middle, reach = (len(ratios) - 1) / 2, 0.98 * math.sqrt(len(ratios))
    if len(ratios) < FEWEST_ROUNDS:
        return {"median": statistics.median(ratios), "low": None, "high": None}
    low, high = max(0, math.floor(middle - reach)), min(len(ratios) - 1, math.ceil(middle + reach))
    return {"median": statistics.median(ratios), "low": ratios[low], "high": ratios[high]}
