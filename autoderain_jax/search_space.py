"""The search space: gates that choose among candidates, and how a choice runs at the cost of one of them.

Linear candidates are kernels, of which a row of gates makes one, so that a single convolution runs (``kernel_space``).
Others run where their gate is not zero, and once more in the backward pass for the gradient of their gates
(``run_selected``). Either way the memory is that of one candidate, and every gate has its exact gradient.

The paper's abstract names the two kinds of choice: the type of convolution; the SE block or none.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from autoderain_jax.candidates import Candidate, convolve
from autoderain_jax.kernel_space import compose, weights_of

SE_OPTIONS = ("off", "on")
"""Options of a squeeze-and-excitation choice, in the order of its row of gates."""

Choices = dict[str, dict[str, tuple[str, ...]]]
"""Block name -> choice name (``conv_a``, ``conv_b``, ``se``) -> the options still open. One option: decided."""

Functions = tuple[Callable[[Any, jax.Array], jax.Array], ...]

Rows = dict[str, dict[str, jax.Array]]
"""Block name -> choice name -> a row with one float per option: alphas, gates, their gradients or their costs."""

Kernels = dict[str, dict[str, jax.Array]]
"""Block name -> choice name -> the kernel that gates make of its linear candidates, (5, 5, in, out)."""

Stacked = dict[str, jax.Array]
"""Rows of one length as one array (rows, K) each, see ``stack_rows``."""


@dataclasses.dataclass(frozen=True)
class Supernet:
    """How open choices keep their weights and how they run.

    Attributes:
      shared: the linear candidates of a choice are projections of one dense kernel; else each has its own weights.
      executor: ``kernel`` folds all linear candidates into one convolution and runs the others where their gate is
        not zero; ``path`` does the latter for all; ``output`` runs every candidate and mixes the outputs, at their
        combined memory. All three compute the same function and the same gradients.
    """

    shared: bool = True
    executor: Literal["kernel", "path", "output"] = "kernel"


def run_choice(
    supernet: Supernet,
    candidates: Sequence[Candidate],
    weights: Mapping[str, Any],
    x: jax.Array,
    gates: jax.Array,
    kernel: jax.Array | None = None,
) -> jax.Array:
    """``sum_k gates[k] * candidate_k(x)``.

    Args:
      supernet: how to run it.
      candidates: the K options.
      weights: of each candidate by name, or ``shared``, a kernel (5, 5, in, out), for all linear ones.
      x: (b, h, w, in).
      gates: (K,), or (P, K) to run P paths apart and add their outputs, at the memory of P paths.
      kernel: what ``compose`` makes of the linear candidates, if that was done before; not for several paths.

    Returns:
      (b, h, w, out).
    """
    if supernet.executor != "kernel":
        weights = weights_of(candidates, weights)
    if gates.ndim == 2:
        return sum(_run(supernet, candidates, weights, x, row) for row in gates)
    return _run(supernet, candidates, weights, x, gates, kernel)


def _run(supernet, candidates, weights, x, gates, kernel=None):
    folded = [k for k, c in enumerate(candidates) if c.linear and supernet.executor == "kernel"]
    others = [k for k in range(len(candidates)) if k not in folded]
    functions = [candidates[k].apply if supernet.executor == "output" else candidates[k].run for k in others]
    their_weights = [weights[candidates[k].name] for k in others]
    their_gates = [gates[k] for k in others]
    y = None
    if folded:
        kernel = compose(candidates, weights, gates) if kernel is None else kernel
        y = convolve(x, kernel.astype(x.dtype))
    if supernet.executor == "output":
        mixed = zip(their_gates, functions, their_weights, strict=True)
        return sum(gate.astype(x.dtype) * function(w, x) for gate, function, w in mixed)
    if functions:
        if y is None:
            like = jax.eval_shape(functions[0], their_weights[0], x)
            y = jnp.zeros(like.shape, like.dtype)
        y = run_selected(tuple(functions), jnp.stack(their_gates), tuple(their_weights), x, y)
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def run_selected(
    functions: Functions, gates: jax.Array, weights: tuple[Any, ...], x: jax.Array, y: jax.Array
) -> jax.Array:
    """``y + sum_k gates[k] * functions[k](weights[k], x)`` at the cost of those whose gates are not zero.

    Nothing is kept for the backward pass but ``x``. It runs the functions again, one after the other: forward only for
    the exact gradient of every gate, selected or not, where gates are differentiated at all; and differentiated where
    the gate is not zero, for weights and input.

    Args:
      functions: ``(weights, x) -> like y``, each hashable.
      gates: (K,).
      weights: a pytree of float arrays for each function.
      x: any array.
      y: what the sum starts from.
    """
    for function, gate, w in zip(functions, gates, weights, strict=True):

        def add(y, function=function, gate=gate, w=w):
            return y + gate.astype(y.dtype) * function(w, x)

        y = lax.cond(gate != 0.0, add, lambda y: y, y)
    return y


def _run_selected_forward(functions, gates, weights, x, y):
    perturbed = gates.perturbed
    gates, weights, x, y = jax.tree.map(lambda leaf: leaf.value, (gates, weights, x, y), is_leaf=_is_primal)
    # Whether gates are differentiated is known when the step is traced: the structure of the residuals tells.
    return run_selected(functions, gates, weights, x, y), ((gates, weights, x), () if perturbed else None)


def _run_selected_backward(functions, residuals, dy):
    (gates, weights, x), gates_wanted = residuals
    gate_gradients, last = [], dy.ravel()[0]
    for function, w in zip(functions, weights, strict=True) if gates_wanted is not None else ():
        last = jnp.vdot(dy, function(_after(last, w), x), preferred_element_type=gates.dtype)
        gate_gradients.append(last)
    gates = _after(last, gates)
    dx, weight_gradients = jnp.zeros_like(x), []
    for function, gate, w in zip(functions, gates, weights, strict=True):

        def selected(dx, function=function, gate=gate, w=w):
            dw, more = jax.vjp(function, w, x)[1](gate.astype(dy.dtype) * dy)
            return dw, dx + more

        def unselected(dx, w=w):
            return jax.tree.map(jnp.zeros_like, w), dx

        dw, dx = lax.cond(gate != 0.0, selected, unselected, dx)
        weight_gradients.append(dw)
    of_gates = jnp.stack(gate_gradients) if gate_gradients else jnp.zeros_like(gates)
    return of_gates, tuple(weight_gradients), dx, dy


def _after(earlier: jax.Array, tree: Any) -> Any:
    """``tree``, not before the scalar ``earlier`` is known: what runs at the same time takes memory at the same time.

    Optimisation barriers do not order anything, a zero that the compiler must not assume does.
    """
    return jax.tree.map(lambda leaf: leaf + 0.0 * earlier.astype(leaf.dtype), tree)


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


run_selected.defvjp(_run_selected_forward, _run_selected_backward, symbolic_zeros=True)


def initial_alphas(choices: Choices) -> Rows:
    """Architecture parameters at their start: 1/K for each of a row's K options, so that nothing is preferred."""
    return {
        block: {name: jnp.full((len(options),), 1.0 / len(options), jnp.float32) for name, options in rows.items()}
        for block, rows in choices.items()
    }


def leaning_alphas(reference: Rows, head_start: float) -> Rows:
    """Alphas that begin on the way from ``initial_alphas`` to one architecture.

    Where data say little, alphas wander; from a start at which all are level they end anywhere, from this one where
    they began. A search that improves on an architecture made by hand should leave what it has no reason to change.

    Args:
      reference: its one-hot rows.
      head_start: how far on the way, in [0, 1).
    """
    return jax.tree.map(lambda row: (1.0 - head_start) / len(row) + head_start * jnp.asarray(row), reference)


def stack_rows(rows: Any) -> tuple[Stacked, Callable[[Stacked], Any]]:
    """Rows of one length as one array: a search has dozens of them, and computing with all at once compiles faster.

    Args:
      rows: a tree of rows, arrays of shape (K,) or with more axes in front.

    Returns:
      For every shape among the rows, such as ``5``, an array with one more axis in front, and the function that turns
      such arrays back into a tree like ``rows``.
    """
    leaves, treedef = jax.tree.flatten(rows)
    groups: dict[str, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault("x".join(map(str, leaf.shape)), []).append(i)

    def unstack(stacked: Stacked) -> Any:
        found: dict[int, jax.Array] = {}
        for shape, places in groups.items():
            # The transpose of a split is one concatenation; that of indexing is a sum of arrays filled up with zeros.
            parts = lax.split(stacked[shape], (1,) * len(places))
            found |= {i: part[0] for i, part in zip(places, parts, strict=True)}
        return treedef.unflatten([found[i] for i in range(len(leaves))])

    return {shape: jnp.stack([leaves[i] for i in places]) for shape, places in groups.items()}, unstack


def map_rows(function: Callable[..., jax.Array], *trees: Any) -> Any:
    """Maps a function of arrays (..., K) over trees of rows; rows of one length are stacked and go through together.

    Args:
      function: ``(array, ...) -> array``, of the same shape, row by row; called once for every length.
      trees: of one structure, with arrays of shape (K,) or, all alike, with more axes in front.
    """
    stacks = [stack_rows(tree) for tree in trees]
    return stacks[0][1](jax.tree.map(function, *(stacked for stacked, _ in stacks)))


def sample_gates(rng: jax.Array, rows: Rows) -> Rows:
    """One-hot gates, uniformly random and independent per row: one path through the supernet."""

    def sample(stacked: jax.Array) -> jax.Array:
        *shape, options = stacked.shape
        # The key must differ between lengths.
        picks = jax.random.randint(jax.random.fold_in(rng, options), shape, 0, options)
        return jax.nn.one_hot(picks, options, dtype=stacked.dtype)

    return map_rows(sample, rows)
