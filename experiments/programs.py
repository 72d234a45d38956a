"""Steps compiled: what memory and operations they take, by XLA's own analysis, and what the device has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from autoderain_jax import memory
from autoderain_jax.parallel import Layout
from experiments import command

LOWER = "lower --batch, --patch, --network.width or --network.blocks, or give --accumulate or --remat"
"""What to do where training takes too much memory."""


def jit_once(function: Callable[..., Any], **options: Any) -> Any:
    """``jax.jit`` of what runs but once, such as drawing the first weights: compiled in less time, and less well.

    On a CPU a quarter of the time; on others, where it was not tried, as ever.
    """
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(function, **options)


class Program:
    """A jitted function compiled for arguments of one shape.

    Args:
      function: jitted.
      args: what it will be given, or the shapes.

    Attributes:
      extra: bytes that it takes besides what it is given: activations, gradients, what it returns unless that takes the
        place of what was given, the program itself where the device keeps it.
      flops: operations as XLA counts them, or None where it does not.
      seconds: what tracing, lowering and compiling took.
    """

    def __init__(self, function: Any, *args: Any):
        began = time.perf_counter()
        self.run = function.lower(*args).compile()
        self.seconds = time.perf_counter() - began
        analysis = self.run.memory_analysis()
        new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        self.extra = analysis.temp_size_in_bytes + analysis.generated_code_size_in_bytes + new
        self.flops: float | None = (self.run.cost_analysis() or {}).get("flops")


class Run(NamedTuple):
    """A program that a step runs.

    Attributes:
      program: which.
      handed: bytes among its arguments that programs before it made in the same step.
    """

    program: Program
    handed: int

    @property
    def extra(self) -> int:
        """Bytes that it takes besides what the step was given."""
        return self.program.extra + self.handed


class Programs:
    """Makes programs of functions, as a ``stages.Stage`` does, and can compile them before they run.

    Args:
      layout: what they return lies whole on these devices; None: wherever what they are given lies.
    """

    def __init__(self, layout: Layout | None = None):
        self._layout = layout
        self._runs: list[Run] | None = None
        self._made: dict[int, Any] = {}

    def __call__(self, function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
        """The function jitted; arguments at ``donate`` give their memory to what it returns."""
        out = {} if self._layout is None else {"out_shardings": self._layout.whole}
        jitted = jax.jit(function, donate_argnums=donate, **out)
        compiled: dict[Any, Program] = {}

        def run(*args: Any) -> Any:
            if self._runs is None:
                # One for all shapes is run as it is: what was restored from a checkpoint does not compile it again.
                return next(iter(compiled.values())).run(*args) if len(compiled) == 1 else jitted(*args)
            shapes = str(jax.tree.map(_shape, args))
            if shapes not in compiled:
                compiled[shapes] = Program(jitted, *args)
            handed = tree_bytes([leaf for leaf in jax.tree.leaves(args) if id(leaf) in self._made])
            self._runs.append(Run(compiled[shapes], handed))
            made = jitted.eval_shape(*args)
            made = made if self._layout is None else self._layout.shapes(made)
            self._made |= {id(leaf): leaf for leaf in jax.tree.leaves(made)}
            return made

        return run

    def ahead(self, step: Callable[..., Any], *args: Any) -> list[Run]:
        """Compiles what a step will run, and returns it, in turn.

        Args:
          step: calls functions that were made here, and does no computing besides.
          args: what it will be given, as shapes.
        """
        self._runs, self._made = [], {}
        try:
            step(*args)
            return self._runs
        finally:
            self._runs, self._made = None, {}


def shapes(tree: Any) -> Any:
    """Shapes of the arrays of a tree, and how they lie."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays, or shapes, of a tree."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)]
    return sum(int(leaf.size) * np.dtype(leaf.dtype).itemsize for leaf in leaves)


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{leaf.shape}"


def predict(runs: Iterable[Run], resident: int) -> str:
    """A sentence on the peak memory of steps before they run; it names what to lower if that is too much.

    Args:
      runs: of these steps, one at a time.
      resident: bytes on the device besides: the state, batches, the pixels of a data set.
    """
    peak, available = max(run.extra for run in runs) + resident, memory.of_device()
    sentence = f"{command.PREDICTED}: {peak / 1e6:,.0f} MB"
    if available is None:
        return sentence
    sentence += f" of {available / 1e6:,.0f} MB"
    if peak > available:
        sentence += f"; warning: it will not fit: {LOWER}"
    return sentence
