"""The programs that a step is made of, and gradient accumulation: a batch in parts, at the memory of one part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Stage = Callable[..., Callable[..., Any]]
"""``(function, donate) -> function``: makes a program of a function, such as by ``jax.jit``; ``donate`` are places of
arguments whose memory may be used for what it returns."""


def traced(function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    """The stage that makes none: the function becomes part of the program that calls it."""
    del donate
    return function


def mean_over_parts(function: Callable[..., PyTree], count: int, stage: Stage) -> Callable[..., PyTree]:
    """The mean of what a function gives for the parts of a batch.

    For the gradient of a loss that is a mean over patches, and parts of equal size, it is the gradient on the whole
    batch, up to round-off. The parts are run by one program in turn; a loop within a program would leave XLA's fast
    convolutions unused on a CPU.

    Args:
      function: ``(*args, part) -> arrays``.
      count: of the parts.
      stage: makes programs.

    Returns:
      ``(*args, parts) -> arrays``, for a sequence of so many parts.
    """
    first = stage(function)
    add = stage(lambda sums, *args: jax.tree.map(jnp.add, sums, function(*args)), (0,))
    divide = stage(lambda sums: jax.tree.map(lambda leaf: leaf / count, sums), (0,))

    def mean(*args: Any) -> PyTree:
        *same, parts = args
        sums = first(*same, parts[0])
        for part in parts[1:]:
            sums = add(sums, *same, part)
        return divide(sums)

    return mean


def take(stream: Any, parts: int) -> Sequence[Any]:
    """The next parts of a batch, from a stream that gives one at a time."""
    return [next(stream) for _ in range(parts)]
