"""Steps compiled: what memory and operations they take, by XLA's own analysis, and what the device has."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from autoderain_jax.mdarts import Search


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes of one compiled step.

    Attributes:
      temp: what the step holds while it runs, besides what goes in and out: activations, gradients.
      held: what goes in and out: parameters, optimiser states, batches; donated buffers count once.
      code: the program itself, where the device keeps it.
    """

    temp: int
    held: int
    code: int

    @property
    def total(self) -> int:
        """All of it: the peak, if nothing else is on the device."""
        return self.temp + self.held + self.code


class Program:
    """A function compiled for arguments of one shape; its first argument, the state, is donated.

    Args:
      function: to be compiled.
      args: what it will be given, or the shapes.

    Attributes:
      memory: bytes.
      flops: operations as XLA counts them, or None where it does not.
      seconds: what tracing, lowering and compiling took.
    """

    def __init__(self, function: Callable[..., Any], *args: Any):
        began = time.perf_counter()
        self._compiled = jax.jit(function, donate_argnums=0).lower(*args).compile()
        self.seconds = time.perf_counter() - began
        analysis = self._compiled.memory_analysis()
        held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        self.memory = StepMemory(analysis.temp_size_in_bytes, held, analysis.generated_code_size_in_bytes)
        self.flops: float | None = (self._compiled.cost_analysis() or {}).get("flops")

    def __call__(self, *args: Any) -> Any:
        """Runs it."""
        return self._compiled(*args)


def compile_search(search: Search, state: Any, batch: Any, rng: jax.Array) -> tuple[Search, dict[str, Program]]:
    """The search with compiled steps, and the programs of ``gates`` and ``weights``, which may be one and the same.

    Each step is a program of its own, so that what it holds in memory is gone before the next begins.

    Args:
      search: pure functions.
      state, batch, rng: what the steps will be given, or the shapes.
    """
    if search.turn is None:
        programs = {"gates": Program(search.gates, state, batch, rng)}
        programs["weights"] = Program(search.weights, state, batch, rng)
        return search._replace(**programs), programs
    turn = Program(search.turn, state, batch, rng, np.bool_(True))

    def gates(*args):
        return turn(*args, np.bool_(True))

    def weights(*args):
        return turn(*args, np.bool_(False))

    return search._replace(gates=gates, weights=weights), {"gates": turn, "weights": turn}


def device_memory() -> int | None:
    """Bytes that the first device offers to arrays, or the machine's main memory for a CPU; None if unknown."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return (device.memory_stats() or {}).get("bytes_limit")


def predict(programs: Iterable[Program], resident: int = 0) -> str:
    """A sentence on the peak memory of steps before they run; it names what to lower if that is too much.

    Args:
      programs: that run one at a time.
      resident: bytes on the device besides, such as the pixels of a data set.
    """
    peak, available = max(program.memory.total for program in programs) + resident, device_memory()
    sentence = f"predicted peak memory: {peak / 1e6:,.0f} MB"
    if available is None:
        return sentence
    sentence += f" of {available / 1e6:,.0f} MB"
    if peak > available:
        sentence += "; warning: it will not fit: lower --batch, --patch, --network.width or --network.blocks"
    return sentence
