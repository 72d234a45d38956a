"""MDARTS: architecture parameters by proximal gradient, at the memory cost of training one model.

One step of the search, on a batch held out for the alphas and a batch for the weights:

    gates  = prox_one_hot(alphas)
    alphas = prox(alphas - lr * inner(d/dgates [L_held_out(params, gates) + cost(gates)]))
    params = params - optimiser(d/dparams L_train(params, prox_one_hot(alphas)))

Every gradient is taken at one-hot gates, so every forward runs one path. The step is ours, after NASP (Yao et al.,
AAAI 2020) and ProxQuant (Bai et al., ICLR 2019); the paper's abstract says no more than "proximal gradient" and "in
the spirit of binary-network training".

Candidates that are not selected get no weight gradient, so whatever leads at first would be trained and keep its
lead. Therefore the search begins with a warm-up, in which each step trains a path drawn uniformly at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.proximal import prox_one_hot
from autoderain_jax.search_space import Rows, initial_alphas, sample_gates

PyTree = Any
Batch = Any
Loss = Callable[[PyTree, Rows, Batch], jax.Array]
Cost = Callable[[Rows], jax.Array]


class SearchState(NamedTuple):
    """All that a search carries from step to step; a pytree of arrays.

    Attributes:
      step: int32 scalar, steps done.
      params: the supernet's weights.
      alphas: architecture parameters, rows on the simplex.
      params_opt, alphas_opt: states of the two optimisers.
      share: for each option, the share of recent steps after the warm-up in which it was selected (moving average).
    """

    step: jax.Array
    params: PyTree
    alphas: Rows
    params_opt: PyTree
    alphas_opt: PyTree
    share: Rows


class Search(NamedTuple):
    """A search as pure functions; jit (with the state donated), vmap or scan them at will.

    Attributes:
      init: ``(params, choices) -> SearchState``.
      warmup: ``(state, train, rng) -> (state, metrics)``: weights of a random path, alphas left alone.
      step: ``(state, train, held_out, rng) -> (state, metrics)``: one bilevel step.
    """

    init: Callable[..., SearchState]
    warmup: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]


def mdarts(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = lambda gates: jnp.zeros(()),
    share_decay: float = 0.99,
) -> Search:
    """Builds the search.

    Args:
      loss: ``(params, gates, batch) -> scalar``, differentiable in ``params`` and in ``gates``.
      params_optimiser: updates the weights.
      alphas_optimiser: updates the alphas; must end in ``proximal.proximal``, as ``proximal_gradient`` does.
      cost: price of the architecture that ``gates`` select, added to the held-out loss.
      share_decay: decay of the moving average ``SearchState.share``.

    Returns:
      A ``Search``. ``rng`` arguments only break ties between equal alphas and draw the warm-up's paths.
    """

    def init(params: PyTree, choices) -> SearchState:
        alphas = initial_alphas(choices)
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            alphas=alphas,
            params_opt=params_optimiser.init(params),
            alphas_opt=alphas_optimiser.init(alphas),
            share=initial_alphas(choices),
        )

    def train_weights(state: SearchState, gates: Rows, batch: Batch):
        value, grads = jax.value_and_grad(loss)(state.params, gates, batch)
        updates, params_opt = params_optimiser.update(grads, state.params_opt, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(step=state.step + 1, params=params, params_opt=params_opt), value

    def warmup(state: SearchState, train: Batch, rng: jax.Array):
        state, train_loss = train_weights(state, sample_gates(rng, state.alphas), train)
        return state, {"train_loss": train_loss}

    def step(state: SearchState, train: Batch, held_out: Batch, rng: jax.Array):
        def objective(gates):
            held_out_loss, price = loss(state.params, gates, held_out), cost(gates)
            return held_out_loss + price, (held_out_loss, price)

        before_rng, after_rng = jax.random.split(rng)
        gates = prox_one_hot(state.alphas, before_rng)
        grads, (held_out_loss, price) = jax.grad(objective, has_aux=True)(gates)
        updates, alphas_opt = alphas_optimiser.update(grads, state.alphas_opt, state.alphas)
        alphas = optax.apply_updates(state.alphas, updates)

        gates = prox_one_hot(alphas, after_rng)
        share = jax.tree.map(lambda old, new: share_decay * old + (1.0 - share_decay) * new, state.share, gates)
        state = state._replace(alphas=alphas, alphas_opt=alphas_opt, share=share)
        state, train_loss = train_weights(state, gates, train)
        return state, {"train_loss": train_loss, "held_out_loss": held_out_loss, "cost": price}

    return Search(init, warmup, step)
