"""MDARTS: architecture parameters by proximal gradient, at the memory cost of training one model.

One step of the search, on a batch held out for the alphas and a batch for the weights:

    gates  = prox_one_hot(alphas)
    alphas = prox(alphas - lr * inner(d/dgates [L_held_out(params, gates) + cost(gates)]))
    params = params - optimiser(d/dparams L_train(params, prox_one_hot(alphas)))

Every gradient is taken at one-hot gates, so every forward runs one path. The step is ours, after NASP (Yao et al.,
AAAI 2020) and ProxQuant (Bai et al., ICLR 2019); the paper's abstract says no more than "proximal gradient" and "in
the spirit of binary-network training".

Candidates that are not selected get no weight gradient of their own, so whatever leads at first would be trained and
keep its lead. Therefore the search begins with a warm-up that prefers nothing: it trains the kernels that linear
candidates share, or, where candidates have weights of their own, a path drawn uniformly at random each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.proximal import prox_one_hot
from autoderain_jax.search_space import Choices, Rows, initial_alphas, map_rows, sample_gates

PyTree = Any
Batch = Any
Loss = Callable[[PyTree, Rows, Batch], jax.Array]
Cost = Callable[[Rows], jax.Array]
Explore = Callable[[jax.Array, Rows], Rows]
Metrics = dict[str, jax.Array]


class SearchState(NamedTuple):
    """All that a search carries from step to step; a pytree of arrays.

    Attributes:
      step: int32 scalar, steps done.
      params: the supernet's weights.
      alphas: architecture parameters.
      params_opt, alphas_opt: states of the two optimisers.
      share: for each option, the share of recent steps after the warm-up in which it was selected, or its weight
        where options are mixed (moving average). The genotype takes the largest.
      flips: share of the choices whose leading option changed in a step (moving average).
    """

    step: jax.Array
    params: PyTree
    alphas: Rows
    params_opt: PyTree
    alphas_opt: PyTree
    share: Rows
    flips: jax.Array


class Search(NamedTuple):
    """A search as pure functions; jit (with the state donated), vmap or scan them at will.

    Attributes:
      init: ``(params, choices) -> SearchState``.
      warmup: ``(state, train, rng) -> (state, metrics)``: trains weights without preference, alphas left alone.
      gates: ``(state, held_out, rng) -> (state, metrics)``: one step of the alphas.
      weights: ``(state, train, rng) -> (state, metrics)``: one step of the weights, after which ``state.step`` counts.
    """

    init: Callable[..., SearchState]
    warmup: Callable[..., tuple[SearchState, Metrics]]
    gates: Callable[..., tuple[SearchState, Metrics]]
    weights: Callable[..., tuple[SearchState, Metrics]]

    def step(self, state: SearchState, train: Batch, held_out: Batch, rng: jax.Array) -> tuple[SearchState, Metrics]:
        """One bilevel step: alphas, then weights."""
        gates_rng, weights_rng = jax.random.split(rng)
        state, of_gates = self.gates(state, held_out, gates_rng)
        state, of_weights = self.weights(state, train, weights_rng)
        return state, of_weights | of_gates


def no_cost(gates: Rows) -> jax.Array:
    """The price of an architecture where computation is free."""
    del gates
    return jnp.zeros(())


def train_weights(
    loss: Loss, optimiser: optax.GradientTransformation, state: SearchState, gates: Rows, batch: Batch
) -> tuple[SearchState, Metrics]:
    """One step of the weights at given gates."""
    value, grads = jax.value_and_grad(loss)(state.params, gates, batch)
    updates, params_opt = optimiser.update(grads, state.params_opt, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(step=state.step + 1, params=params, params_opt=params_opt), {"train_loss": value}


def move_alphas(
    objective: Callable[[Rows], tuple[jax.Array, Metrics]],
    optimiser: optax.GradientTransformation,
    state: SearchState,
    at: Rows,
) -> tuple[SearchState, Metrics]:
    """One step of the alphas along the gradient of ``objective`` (with its metrics) at the point ``at``."""
    grads, metrics = jax.grad(objective, has_aux=True)(at)
    updates, alphas_opt = optimiser.update(grads, state.alphas_opt, state.alphas)
    return state._replace(alphas=optax.apply_updates(state.alphas, updates), alphas_opt=alphas_opt), metrics


def priced(loss: Loss, cost: Cost, params: PyTree, batch: Batch) -> Callable[[Rows], tuple[jax.Array, Metrics]]:
    """``gates -> (held-out loss + cost, metrics)``."""

    def objective(gates: Rows):
        held_out_loss, price = loss(params, gates, batch), cost(gates)
        return held_out_loss + price, {"held_out_loss": held_out_loss, "cost": price}

    return objective


def record_share(state: SearchState, before: Rows, gates: Rows, decay: float) -> SearchState:
    """Adds the gates now selected to the shares, and the choices that they change to the flips."""

    def average(old, new):
        return decay * old + (1.0 - decay) * new

    changed = map_rows(lambda old, new: (old.argmax(-1) != new.argmax(-1)).astype(jnp.float32), before, gates)
    flips = jnp.mean(jnp.stack(jax.tree.leaves(changed)))
    share = map_rows(average, state.share, gates)
    return state._replace(share=share, flips=average(state.flips, flips))


def mdarts(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = no_cost,
    explore: Explore = sample_gates,
    share_decay: float = 0.99,
) -> Search:
    """Builds the search.

    Args:
      loss: ``(params, gates, batch) -> scalar``, differentiable in ``params`` and in ``gates``.
      params_optimiser: updates the weights.
      alphas_optimiser: updates the alphas; must end in ``proximal.proximal``, as ``proximal_gradient`` does.
      cost: price of the architecture that ``gates`` select, added to the held-out loss.
      explore: ``(rng, alphas) -> gates``, what the warm-up trains.
      share_decay: decay of the moving average ``SearchState.share``.

    Returns:
      A ``Search``. Except for the warm-up, ``rng`` arguments only break ties between equal alphas.
    """

    def init(params: PyTree, choices: Choices) -> SearchState:
        alphas = initial_alphas(choices)
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            alphas=alphas,
            params_opt=params_optimiser.init(params),
            alphas_opt=alphas_optimiser.init(alphas),
            share=initial_alphas(choices),
            flips=jnp.zeros(()),
        )

    def warmup(state: SearchState, train: Batch, rng: jax.Array):
        return train_weights(loss, params_optimiser, state, explore(rng, state.alphas), train)

    def gates(state: SearchState, held_out: Batch, rng: jax.Array):
        before_rng, after_rng = jax.random.split(rng)
        before = prox_one_hot(state.alphas, before_rng)
        state, metrics = move_alphas(priced(loss, cost, state.params, held_out), alphas_optimiser, state, before)
        return record_share(state, before, prox_one_hot(state.alphas, after_rng), share_decay), metrics

    def weights(state: SearchState, train: Batch, rng: jax.Array):
        return train_weights(loss, params_optimiser, state, prox_one_hot(state.alphas, rng), train)

    return Search(init, warmup, gates, weights)
