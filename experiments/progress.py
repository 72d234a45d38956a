"""What the steps of a run measure: looked at, refused unless it is finite, and shown beside how far the run is."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from autoderain_jax.errors import InputError

QUIET_SECONDS = 5.0
"""Least time between progress lines where the output is no terminal."""


class Measured:
    """What steps measured, looked at while the next one runs, and refused unless it is finite."""

    def __init__(self, folder: Path, batch_of: Callable[[int], str]):
        self._folder, self._batch_of = folder, batch_of
        self._unseen: tuple[int, dict[str, Any]] = 0, {}

    def put(self, step: int, metrics: dict[str, Any]) -> None:
        """Takes the figures of a step, which may not be computed yet."""
        self._unseen = step, metrics

    def see(self) -> dict[str, float]:
        """The figures put last, unless they have been seen; raises ``InputError`` if one is not finite."""
        (step, metrics), self._unseen = self._unseen, (0, {})
        scalars = {name: float(value) for name, value in metrics.items()}
        for name, value in scalars.items():
            # Infinity is the PSNR of a perfect image.
            if math.isnan(value) or (math.isinf(value) and not name.endswith("psnr")):
                self._refuse(f"{name} is {value}", step)
        return scalars

    def require_finite(self, step: int, state: Any) -> None:
        """Refuses what was learned until a step unless it is finite: a loss is that of the weights before its step."""
        if not is_finite(state):
            self._refuse("what was learned is not finite", step)

    def _refuse(self, sentence: str, step: int) -> NoReturn:
        raise InputError(
            f"{sentence} at step {step}, {self._batch_of(step - 1)}; the last checkpoint in {self._folder} is kept: "
            "look at these images, or begin anew with a lower --learning-rate"
        )


@jax.jit
def is_finite(state: Any) -> jax.Array:
    """Whether all arrays of floats are; a scalar may be infinite, as a score is that nothing has beaten yet."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.array([(jnp.isfinite(leaf) if leaf.ndim else ~jnp.isnan(leaf)).all() for leaf in leaves]).all()


class Meter:
    """Progress: a bar with time left on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, start: int, steps: int):
        self._console, self._start, self._steps, self._step = console, start, steps, start
        self._began = self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def step(self) -> None:
        """Counts one step."""
        self._step += 1
        self._bar.advance(self._task)

    def show(self, scalars: dict[str, float]) -> None:
        """Shows the latest figures; called before the step they belong to is counted."""
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scalars.items())
        self._bar.update(self._task, description=text)
        now, done = time.monotonic(), self._step + 1
        if self._console.is_terminal or (now - self._printed < QUIET_SECONDS and done < self._steps):
            return
        self._printed = now
        pace = (now - self._began) / (done - self._start)
        left = datetime.timedelta(seconds=round(pace * (self._steps - done)))
        self._console.print(f"step {done}/{self._steps}  {text}  {pace:.2f} s/step  left {left}")
