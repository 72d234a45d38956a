"""MDARTS: architecture parameters by proximal gradient, at the memory cost of training one model.

One step of the search, on a batch held out for the alphas and a batch for the weights:

    alphas = prox(alphas - lr * inner(d/dgates [L_held_out(params, gates) + cost(gates)]))     at gates of the alphas
    params = params - optimiser(d/dparams L_train(params, gates))                           at gates of the new alphas

where ``prox`` projects on the simplex. First the gates are *relaxed*: they are the alphas themselves. Kernel space
folds such a mixture into one convolution as it does a single path, and the projection takes rows toward a corner, a
single path, by itself. Then the gates are *binary*, ``prox_one_hot(alphas)``: the masks select a single path, the
weights adapt to it, and the alphas stay, as at a corner their gradient always finds the grass greener elsewhere.

The step is ours, after NASP (Yao et al., AAAI 2020) and ProxQuant (Bai et al., ICLR 2019); the paper's abstract says no
more than "proximal gradient" and "in the spirit of binary-network training". Binary from the start, the search would
train what leads at first, which keeps its lead, and judge every choice beside wrong ones elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.proximal import prox_one_hot
from autoderain_jax.search_space import Choices, Rows, initial_alphas, map_rows

PyTree = Any
Batch = Any
Loss = Callable[[PyTree, Rows, Batch], jax.Array]
Cost = Callable[[Rows], jax.Array]
Metrics = dict[str, jax.Array]

HEAD_START = 1e-3
"""Up to so much the first alphas differ by chance, so that ties are broken by the seed."""


class SearchState(NamedTuple):
    """All that a search carries from step to step; a pytree of arrays.

    Attributes:
      step: int32 scalar, steps done.
      params: the supernet's weights.
      alphas: architecture parameters.
      params_opt, alphas_opt: states of the two optimisers.
      share: for each option, the share of recent steps in which it led, or its weight where options are mixed
        (moving average). The genotype takes the largest.
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
      init: ``(params, choices, rng) -> SearchState``.
      gates: ``(state, held_out, rng) -> (state, metrics)``: one step of the alphas.
      weights: ``(state, train, rng) -> (state, metrics)``: one step of the weights, after which ``state.step`` counts.
    """

    init: Callable[..., SearchState]
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
    relaxed_steps: int = 0,
    share_decay: float = 0.99,
) -> Search:
    """Builds the search.

    Args:
      loss: ``(params, gates, batch) -> scalar``, differentiable in ``params`` and in ``gates``.
      params_optimiser: updates the weights.
      alphas_optimiser: updates the alphas; must end in ``proximal.proximal``, as ``proximal_gradient`` does.
      cost: price of the architecture that ``gates`` select, added to the held-out loss.
      relaxed_steps: for so many steps gates are the alphas; then gates are binary and alphas stay. With 0, gates are
        binary from the start and alphas do move.
      share_decay: decay of the moving average ``SearchState.share``.

    Returns:
      A ``Search``, whose steps make no use of ``rng``.
    """

    def init(params: PyTree, choices: Choices, rng: jax.Array) -> SearchState:
        alphas = _unequal(initial_alphas(choices), rng)
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            alphas=alphas,
            params_opt=params_optimiser.init(params),
            alphas_opt=alphas_optimiser.init(alphas),
            share=initial_alphas(choices),
            flips=jnp.zeros(()),
        )

    def while_relaxed(state: SearchState, rows: Rows, afterwards: Rows) -> Rows:
        return map_rows(lambda *both: jnp.where(state.step < relaxed_steps, *both), rows, afterwards)

    def gates_of(state: SearchState) -> Rows:
        binary = prox_one_hot(state.alphas)
        return while_relaxed(state, state.alphas, binary) if relaxed_steps else binary

    def gates(state: SearchState, held_out: Batch, rng: jax.Array):
        del rng
        before = state.alphas
        objective = priced(loss, cost, state.params, held_out)
        state, metrics = move_alphas(objective, alphas_optimiser, state, gates_of(state))
        if relaxed_steps:
            state = state._replace(alphas=while_relaxed(state, state.alphas, before))
        return record_share(state, prox_one_hot(before), prox_one_hot(state.alphas), share_decay), metrics

    def weights(state: SearchState, train: Batch, rng: jax.Array):
        del rng
        return train_weights(loss, params_optimiser, state, gates_of(state), train)

    return Search(init, gates, weights)


def _unequal(alphas: Rows, rng: jax.Array) -> Rows:
    """The same with a head start for some: noise of mean zero in every row."""

    def add(rows: jax.Array) -> jax.Array:
        # The key must differ between lengths.
        noise = jax.random.uniform(jax.random.fold_in(rng, rows.shape[-1]), rows.shape, rows.dtype, 0.0, HEAD_START)
        return rows + noise - noise.mean(-1, keepdims=True)

    return map_rows(add, alphas)
