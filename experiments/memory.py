"""What memory a compiled step takes, by XLA's own analysis, and what the device has."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import jax


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


def step_memory(compiled: jax.stages.Compiled) -> StepMemory:
    """Memory of a compiled step."""
    analysis = compiled.memory_analysis()
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return StepMemory(analysis.temp_size_in_bytes, held, analysis.generated_code_size_in_bytes)


def device_memory() -> int | None:
    """Bytes that the first device offers to arrays, or the machine's main memory for a CPU; None if unknown."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return (device.memory_stats() or {}).get("bytes_limit")


def predict(programs: Iterable[jax.stages.Compiled]) -> str:
    """A sentence on the peak memory of steps before they run; it names what to lower if that is too much."""
    peak, available = max(step_memory(program).total for program in programs), device_memory()
    sentence = f"predicted peak memory: {peak / 1e6:,.0f} MB"
    if available is None:
        return sentence
    sentence += f" of {available / 1e6:,.0f} MB"
    if peak > available:
        sentence += "; warning: it will not fit: lower --batch, --patch, --network.width or --network.blocks"
    return sentence
