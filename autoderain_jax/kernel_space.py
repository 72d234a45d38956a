"""Kernel space: every linear candidate is a 5x5 kernel, and a choice among them is a sum of kernels.

For gates ``g`` of one row,

    sum_k g_k conv(x, W_k)  =  conv(x, sum_k g_k W_k).

The right-hand side runs one convolution whatever the number of candidates, and its ordinary gradient is the exact
gradient of every gate, selected or not: ``dL/dg_k = <dL/dW, W_k>`` with ``W`` the sum. That is how the search gets by
with the memory of one model.

And every linear candidate is a *projection* of one dense kernel ``S``: a 3x3 one its middle, a separable one its best
approximation of rank one. So a choice needs no bank of kernels: it has the one kernel that they share, ``W_k =
project_k(S)``, and whatever path is trained, all candidates stay near what they are approximations of. As in
binary-network training, the weights are real-valued and the forward pass uses a projection of them.

So a step of the search is a step of training a plain network of 5x5 convolutions, between two small ones: kernels are
summed before it, and its gradients pulled back to what they were sums of after it (``gradient_in_stages``). All ours.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autoderain_jax.candidates import SUPPORT, Candidate, Convolution, project
from autoderain_jax.stages import Stage, mean_over_parts

PyTree = Any


def shared_kernel(rng: jax.Array, candidates: Sequence[Candidate], in_features: int, features: int) -> jax.Array:
    """He-normal (5, 5, in, out), zero where no candidate has a tap."""
    window = union_window(candidates)
    scale = (2.0 / (window.sum() * in_features)) ** 0.5
    return jax.random.normal(rng, (SUPPORT, SUPPORT, in_features, features)) * scale * window


def union_window(candidates: Sequence[Candidate]) -> np.ndarray:
    """1.0 at the taps that any linear candidate has, (5, 5, 1, 1)."""
    masks = [_window_mask(c) for c in candidates if c.linear]
    return np.maximum.reduce(masks)[..., None, None]


def _window_mask(c: Convolution) -> np.ndarray:
    window = np.zeros((SUPPORT, SUPPORT), np.float32)
    rows, columns = (slice(start, SUPPORT - start, c.dilation) for start in ((SUPPORT - e) // 2 for e in c.extent))
    window[rows, columns] = 1.0
    return window


def weights_of(candidates: Sequence[Candidate], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of every candidate by name: its own, or its projection of ``shared``, which stays among them."""
    if "shared" not in weights:
        return dict(weights)
    return {**weights, **project([c for c in candidates if c.linear], weights["shared"])}


def compose(candidates: Sequence[Candidate], weights: Mapping[str, Any], gates: jax.Array) -> jax.Array:
    """The kernel ``sum_k gates[k] * W_k`` over the linear candidates, (5, 5, in, out).

    It is recomputed in the backward pass, so that no candidate's kernel is kept as a residual.

    Args:
      candidates: the K options of a choice.
      weights: of each candidate by name, or ``shared``, a kernel (5, 5, in, out), for all linear ones.
      gates: (K,).
    """
    return _compose(tuple(candidates), dict(weights), gates)


@functools.partial(jax.checkpoint, static_argnums=0)
def _compose(candidates, weights, gates):
    weights = weights_of(candidates, weights)
    # Split, as the transpose of that is one concatenation, and that of indexing a sum of arrays filled up with zeros.
    parts = jnp.split(gates, len(candidates))
    return sum(gate * c.embed(weights[c.name]) for gate, c in zip(parts, candidates, strict=True) if c.linear)


def gradient_in_stages(
    objective: Callable[..., tuple[jax.Array, PyTree]], candidates: Sequence[Candidate], stage: Stage, parts: int = 1
) -> Callable[[PyTree, PyTree, PyTree], tuple[tuple[PyTree, PyTree], PyTree]]:
    """The gradient of a supernet whose linear candidates share kernels, in small programs and the plain network's.

    It is that of ``jax.grad(objective, (0, 1), has_aux=True)``, but the large program knows nothing of candidates: it
    compiles in the time that training a single model takes, and the small ones once for each shape.

    Args:
      objective: ``(params, gates, batch, kernels) -> (scalar, metrics)``, where ``params`` need not have the shared
        kernels whose sums ``kernels`` holds, block name -> choice name -> (5, 5, in, out).
      candidates: the options of every choice that has a shared kernel.
      stage: makes programs.
      parts: with more than one, the batch is a sequence of so many, and everything a mean over them.

    Returns:
      ``(params, gates, batch) -> ((of_params, of_gates), metrics)``.
    """

    def summed(shared: jax.Array, gates: jax.Array) -> jax.Array:
        return compose(candidates, {"shared": shared}, gates)

    def pulled_back(shared: jax.Array, gates: jax.Array, of_kernel: jax.Array, of_gates: jax.Array):
        of_shared, more = jax.vjp(summed, shared, gates)[1](of_kernel)
        return of_shared, of_gates + more

    def plain(rest: PyTree, kernels: PyTree, gates: PyTree, batch: PyTree):
        return jax.grad(lambda r, k, g: objective(r, g, batch, k), (0, 1, 2), has_aux=True)(rest, kernels, gates)

    def all_summed(shared: list[jax.Array], gates: list[jax.Array]):
        return list(jax.vmap(summed)(jnp.stack(shared), jnp.stack(gates)))

    def all_pulled_back(*lists: list[jax.Array]):
        return [list(arrays) for arrays in jax.vmap(pulled_back)(*map(jnp.stack, lists))]

    # Of kernels of one shape, all at once: an accelerator would wait for the host to begin so many small programs.
    compose_stage, pull_back = stage(all_summed), stage(all_pulled_back, (2,))
    # Kernels become their own gradients in place, unless another part needs them.
    plain_stage = stage(plain, (1,)) if parts == 1 else mean_over_parts(plain, parts, stage)

    def gradient(params: PyTree, gates: PyTree, batch: PyTree):
        rest, shared = _without_shared(params)
        kernels: dict[str, dict[str, jax.Array]] = {block: {} for block in shared}
        for places in _by_shape(shared):
            found = compose_stage([shared[b][n] for b, n in places], [gates[b][n] for b, n in places])
            for (block, name), kernel in zip(places, found, strict=True):
                kernels[block][name] = kernel
            del found, kernel
        (of_rest, of_kernels, of_gates), metrics = plain_stage(rest, kernels, gates, batch)
        del kernels
        for places in _by_shape(shared):
            of_shared, of_rows = pull_back(
                [shared[b][n] for b, n in places],
                [gates[b][n] for b, n in places],
                [of_kernels[b].pop(n) for b, n in places],
                [of_gates[b][n] for b, n in places],
            )
            for (block, name), of_kernel, of_row in zip(places, of_shared, of_rows, strict=True):
                of_rest[block][name]["shared"], of_gates[block][name] = of_kernel, of_row
        return (of_rest, of_gates), metrics

    return gradient


def _by_shape(kernels: Mapping[str, Mapping[str, jax.Array]]) -> list[list[tuple[str, str]]]:
    """(block, name) of all kernels, those of one shape together."""
    places: dict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
    for block, choices in kernels.items():
        for name, kernel in choices.items():
            places[kernel.shape].append((block, name))
    return list(places.values())


def _without_shared(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, jax.Array]]]:
    """Parameters without the shared kernels, and these: block name -> choice name -> kernel."""
    rest, shared = {}, {}
    for block, parts in params.items():
        choices = {name for name, part in parts.items() if isinstance(part, Mapping) and "shared" in part}
        if choices:
            shared[block] = {name: parts[name]["shared"] for name in sorted(choices)}
        rest[block] = {
            name: {key: leaf for key, leaf in part.items() if key != "shared"} if name in choices else part
            for name, part in parts.items()
        }
    return rest, shared
