"""The search space: gates that choose among candidates, and how a choice runs at the cost of one of them.

Every linear candidate is a 5x5 kernel, hence, for gates ``g`` of one row,

    sum_k g_k conv(x, W_k)  =  conv(x, sum_k g_k W_k).

The right-hand side runs one convolution whatever the number of candidates, and its ordinary gradient is the exact
gradient of every gate, selected or not. That is how the search gets by with the memory of one model.

And every linear candidate is a *projection* of one dense kernel ``S``: a 3x3 one its middle, a separable one its best
approximation of rank one. So a choice needs no bank of kernels: it has the one kernel that they share, ``W_k =
project_k(S)``, and whatever path is trained, all candidates stay near what they are approximations of. As in
binary-network training, the weights are real-valued and the forward pass uses a projection of them.

The paper's abstract names the two kinds of choice (the type of convolution; the SE block or none). Kernel space and
the shared kernel are ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from autoderain_jax.candidates import SUPPORT, Candidate, Convolution, convolve, project, rank_one, rank_one_tangent

SE_OPTIONS = ("off", "on")
"""Options of a squeeze-and-excitation choice, in the order of its row of gates."""

Choices = dict[str, dict[str, tuple[str, ...]]]
"""Block name -> choice name (``conv_a``, ``conv_b``, ``se``) -> the options still open. One option: decided."""

Functions = tuple[Callable[[Any, jax.Array], jax.Array], ...]

Rows = dict[str, dict[str, jax.Array]]
"""Block name -> choice name -> a row with one float per option: alphas, gates, their gradients or their costs."""

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


def shared_kernel(rng: jax.Array, candidates: Sequence[Candidate], in_features: int, features: int) -> jax.Array:
    """He-normal (5, 5, in, out), zero where no candidate has a tap."""
    window = union_window(candidates)
    scale = (2.0 / (window.sum() * in_features)) ** 0.5
    return jax.random.normal(rng, (SUPPORT, SUPPORT, in_features, features)) * scale * window


def union_window(candidates: Sequence[Candidate]) -> np.ndarray:
    """1.0 at the taps that any linear candidate has, (5, 5, 1, 1)."""
    masks = [window_mask(c) for c in candidates if c.linear]
    return np.maximum.reduce(masks)[..., None, None]


@functools.cache
def window_mask(c: Convolution) -> np.ndarray:
    """1.0 at the taps that a linear candidate has, (5, 5)."""
    window = np.zeros((SUPPORT, SUPPORT), np.float32)
    rows, columns = (slice(start, SUPPORT - start, c.dilation) for start in ((SUPPORT - e) // 2 for e in c.extent))
    window[rows, columns] = 1.0
    return window


def run_choice(
    supernet: Supernet,
    candidates: Sequence[Candidate],
    weights: Mapping[str, Any],
    x: jax.Array,
    gates: jax.Array,
) -> jax.Array:
    """``sum_k gates[k] * candidate_k(x)``.

    Args:
      supernet: how to run it.
      candidates: the K options.
      weights: of each candidate by name, or ``shared``, a kernel (5, 5, in, out), for all linear ones.
      x: (b, h, w, in).
      gates: (K,), or (P, K) to run P paths apart and add their outputs, at the memory of P paths.

    Returns:
      (b, h, w, out).
    """
    if supernet.executor != "kernel":
        weights = weights_of(candidates, weights)
    if gates.ndim == 2:
        return sum(_run(supernet, candidates, weights, x, row) for row in gates)
    return _run(supernet, candidates, weights, x, gates)


def _run(supernet, candidates, weights, x, gates):
    folded = [k for k, c in enumerate(candidates) if c.linear and supernet.executor == "kernel"]
    others = [k for k in range(len(candidates)) if k not in folded]
    functions = [candidates[k].apply if supernet.executor == "output" else candidates[k].run for k in others]
    their_weights = [weights[candidates[k].name] for k in others]
    their_gates = [gates[k] for k in others]
    y = None
    if folded:
        kernel = compose([candidates[k] for k in folded], weights, _pick(folded, len(gates)) @ gates)
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


def weights_of(candidates: Sequence[Candidate], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of every candidate by name: its own, or its projection of ``shared``, which stays among them."""
    if "shared" not in weights:
        return dict(weights)
    return {**weights, **project([c for c in candidates if c.linear], weights["shared"])}


def compose(candidates: Sequence[Candidate], weights: Mapping[str, Any], gates: jax.Array) -> jax.Array:
    """The kernel ``sum_k gates[k] * W_k``, (5, 5, in, out).

    It is recomputed in the backward pass, so that no candidate's kernel is kept as a residual.
    """
    if "shared" in weights:
        return compose_shared(tuple(candidates), weights["shared"], gates)
    return _compose_own(tuple(candidates), [weights[c.name] for c in candidates], gates)


@functools.partial(jax.checkpoint, static_argnums=0)
def _compose_own(candidates, weights, gates):
    return sum(gate * c.embed(w) for gate, c, w in zip(gates, candidates, weights, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def compose_shared(candidates: tuple[Convolution, ...], shared: jax.Array, gates: jax.Array) -> jax.Array:
    """``sum_k gates[k] * project_k(shared)`` for linear candidates, (5, 5, in, out).

    Dense candidates together are a window over the shared kernel; separable ones of one size are projected together,
    side by side along the input channels. The derivative is written out, as is that of ``candidates.rank_one``: in
    few operations, as every one of a search's many choices has them.
    """
    return _compose_shared_forward(candidates, shared, gates)[0]


def _compose_shared_forward(candidates, shared, gates):
    kernel = _dense_window(candidates, gates) * shared
    projections = []
    for alike in _separable_groups(candidates):
        parts = rank_one(_taps_of(candidates, alike, shared))
        theirs = gates @ _along_input(alike, candidates, shared)
        product = (theirs * parts["depthwise"])[..., None] * parts["pointwise"]
        kernel += _embed_taps(candidates, alike, product)
        projections.append(parts)
    return kernel, (shared, gates, projections)


def _compose_shared_backward(candidates, residuals, change):
    shared, gates, projections = residuals
    of_shared = _dense_window(candidates, gates) * change
    of_gates = jnp.tensordot(_dense_masks(candidates), (change * shared).sum((2, 3)), 2)
    for alike, parts in zip(_separable_groups(candidates), projections, strict=True):
        taps, pointwise = parts["depthwise"], parts["pointwise"]
        of_product = _taps_of(candidates, alike, change)
        of_taps, of_pointwise = (of_product * pointwise).sum(-1), (of_product * taps[..., None]).sum((0, 1))
        places = _along_input(alike, candidates, shared)
        # Of each gate: the product of the change and the projection.
        of_gates += places @ (taps * of_taps).sum((0, 1))
        # Of the shared kernel: the change projected on the tangent space of the separable kernels.
        theirs = (gates @ places)[:, None]
        tangent = rank_one_tangent(taps, pointwise, theirs[:, 0] * of_taps, theirs * of_pointwise)
        of_shared += _embed_taps(candidates, alike, tangent)
    return of_shared, of_gates


compose_shared.defvjp(_compose_shared_forward, _compose_shared_backward)


def _dense_window(candidates: Sequence[Convolution], gates: jax.Array) -> jax.Array:
    """The gates' sum over the dense candidates that have a tap, (5, 5, 1, 1)."""
    return jnp.tensordot(gates, _dense_masks(candidates), 1)[..., None, None]


def _dense_masks(candidates: Sequence[Convolution]) -> np.ndarray:
    """The windows of the candidates, zeros for separable ones, (K, 5, 5)."""
    return np.stack([window_mask(c) * (not c.separable) for c in candidates])


def _separable_groups(candidates: Sequence[Convolution]) -> list[list[int]]:
    """Places of the separable candidates, those of one size together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for k, c in enumerate(candidates):
        if c.separable:
            groups.setdefault(c.window, []).append(k)
    return list(groups.values())


def _taps_of(candidates: Sequence[Convolution], alike: Sequence[int], kernel: jax.Array) -> jax.Array:
    """The taps that candidates of one size have of a kernel, side by side: (h, w, in * candidates, out)."""
    return jnp.concatenate([candidates[k].taps_of(kernel) for k in alike], 2)


def _embed_taps(candidates: Sequence[Convolution], alike: Sequence[int], taps: jax.Array) -> jax.Array:
    """The sum over candidates of what ``_taps_of`` gives, each put back in its place: (5, 5, in, out)."""
    parts = lax.split(taps, (taps.shape[2] // len(alike),) * len(alike), 2)
    return sum(candidates[k].spread(part) for k, part in zip(alike, parts, strict=True))


def _along_input(alike: Sequence[int], candidates: Sequence[Convolution], shared: jax.Array) -> np.ndarray:
    """The matrix that takes gates at these places, each as often as there are input channels: (K, in * places)."""
    return np.repeat(_pick(alike, len(candidates)), shared.shape[2], axis=0).T


def _pick(places: Sequence[int], length: int) -> np.ndarray:
    """The matrix that takes these places of a vector: compiles faster than indexing, whose transpose is a scatter."""
    return np.eye(length, dtype=np.float32)[np.array(places)]


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
