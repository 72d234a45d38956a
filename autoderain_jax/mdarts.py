"""MDARTS: architecture parameters by proximal gradient, at the memory cost of training one model.

One step of the search, on a batch held out for the alphas and a batch for the weights:

    alphas = prox(alphas - lr * scaled(d/dgates [L_held_out(params, gates) + cost(gates)]))     at gates of the alphas
    params = params - optimiser(d/dparams L_train(params, gates))                           at gates of the new alphas

where ``prox`` projects on the simplex, and ``scaled`` is what ``proximal.scale_by_mixed_adam`` makes of the centred
gradient. First the gates are *relaxed*: they are the alphas themselves. Kernel space folds such a mixture into one
convolution as it does a single path, and the projection takes rows toward a corner, a single path, by itself. Then the
gates are *binary*, ``prox_one_hot(alphas)``: the masks select a single path, the weights adapt to it, and the alphas
stay, as at a corner their gradient always finds the grass greener elsewhere.

The step is ours, after NASP (Yao et al., AAAI 2020) and ProxQuant (Bai et al., ICLR 2019); the paper's abstract says no
more than "proximal gradient" and "in the spirit of binary-network training". Binary from the start, the search would
train what leads at first, which keeps its lead, and judge every choice beside wrong ones elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.candidates import Candidate
from autoderain_jax.kernel_space import gradient_in_stages
from autoderain_jax.proximal import prox_one_hot
from autoderain_jax.search_space import Choices, Rows, Stacked, initial_alphas, map_rows, stack_rows
from autoderain_jax.stages import Stage, traced

PyTree = Any
Batch = Any
Loss = Callable[..., jax.Array]
Cost = Callable[[Rows], jax.Array]
Metrics = dict[str, jax.Array]

TIE_BREAK = 1e-3
"""Up to so much the first alphas differ by chance, so that ties are broken by the seed."""


class SearchState(NamedTuple):
    """All that a search carries from step to step; a pytree of arrays.

    Attributes:
      step: int32 scalar, steps done.
      params: the supernet's weights.
      alphas: architecture parameters.
      params_opt, alphas_opt: states of the two optimisers.
      share: of rows as ``stack_rows`` has them: for each option, the share of recent steps in which it led, or its
        weight where options are mixed (moving average). The genotype takes the largest.
      flips: share of the choices whose leading option changed in a step (moving average).
    """

    step: jax.Array
    params: PyTree
    alphas: Rows
    params_opt: PyTree
    alphas_opt: PyTree
    share: Stacked
    flips: jax.Array

    @property
    def shares(self) -> Rows:
        """``share`` as rows like the alphas."""
        return stack_rows(self.alphas)[1](self.share)


class Search(NamedTuple):
    """A search as pure functions; jit (with the state donated), vmap or scan them at will, unless they are in stages.

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
        return state, of_gates | of_weights


def no_cost(gates: Rows) -> jax.Array:
    """The price of an architecture where computation is free."""
    del gates
    return jnp.zeros(())


def starting(
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    start: Rows | None = None,
) -> Callable[[PyTree, Choices, jax.Array], SearchState]:
    """``Search.init``: alphas at ``start`` or all level, but for a little by which ``rng`` breaks ties."""

    def init(params: PyTree, choices: Choices, rng: jax.Array) -> SearchState:
        alphas = _unequal(initial_alphas(choices) if start is None else start, rng)
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            alphas=alphas,
            params_opt=params_optimiser.init(params),
            alphas_opt=alphas_optimiser.init(stack_rows(alphas)[0]),
            share=stack_rows(initial_alphas(choices))[0],
            flips=jnp.zeros(()),
        )

    return init


def apply_to_weights(optimiser: optax.GradientTransformation, state: SearchState, grads: PyTree) -> SearchState:
    """One step of the weights along their gradient."""
    updates, params_opt = optimiser.update(grads, state.params_opt, state.params)
    return state._replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), params_opt=params_opt)


def priced(loss: Loss, cost: Cost) -> Callable[..., tuple[jax.Array, Metrics]]:
    """``(params, gates, batch) -> (loss + cost, metrics)``, what alphas descend on held-out batches."""

    def objective(params: PyTree, gates: Rows, batch: Batch, *kernels: PyTree):
        value, price = loss(params, gates, batch, *kernels), cost(gates)
        return value + price, {"held_out_loss": value, "cost": price}

    return objective


def apply_to_alphas(
    optimiser: optax.GradientTransformation, state: SearchState, grads: Stacked, where: jax.Array | bool = True
) -> SearchState:
    """One step of the alphas along their gradient, ``where`` it is true."""
    before, unstack = stack_rows(state.alphas)
    updates, alphas_opt = optimiser.update(grads, state.alphas_opt, before)
    after = jax.tree.map(lambda a, u: jnp.where(where, a + u, a), before, updates)
    return state._replace(alphas=unstack(after), alphas_opt=alphas_opt)


def record_share(state: SearchState, before: Stacked, gates: Stacked, decay: float) -> SearchState:
    """Adds the gates now selected to the shares, and the choices that they change to the flips."""

    def average(old, new):
        return decay * old + (1.0 - decay) * new

    changed = [before[length].argmax(-1) != gates[length].argmax(-1) for length in gates]
    return state._replace(
        share=jax.tree.map(average, state.share, gates),
        flips=average(state.flips, jnp.concatenate(changed).mean()),
    )


def mdarts(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = no_cost,
    relaxed_steps: int = 0,
    start: Rows | None = None,
    share_decay: float = 0.99,
    shared: Sequence[Candidate] = (),
    stage: Stage = traced,
    parts: int = 1,
) -> Search:
    """Builds the search.

    Args:
      loss: ``(params, gates, batch) -> scalar``, differentiable in ``params`` and in ``gates``.
      params_optimiser: updates the weights.
      alphas_optimiser: updates the alphas; must end in ``proximal.proximal``, as ``proximal_gradient`` does.
      cost: price of the architecture that ``gates`` select, added to the held-out loss.
      relaxed_steps: for so many steps gates are the alphas; then gates are binary and alphas stay. With 0, gates are
        binary from the start and alphas do move.
      start: the first alphas, such as ``leaning_alphas``; None: 1/K for each of a row's K options.
      share_decay: decay of the moving average ``SearchState.share``.
      shared: the candidates of every choice, if they share kernels and ``loss`` takes what gates make of these as a
        fourth argument; the gradient is then taken in stages, see ``kernel_space.gradient_in_stages``.
      stage: makes programs of the parts of a step; by default they are traced into one.
      parts: gradient accumulation, for ``shared`` alone: a batch is a sequence of so many parts of equal size.

    Returns:
      A ``Search``, whose steps make no use of ``rng``.
    """
    objective = priced(loss, cost)

    def select(alphas: Rows, step: jax.Array) -> Rows:
        return map_rows(lambda rows: jnp.where(step < relaxed_steps, rows, prox_one_hot(rows)), alphas)

    def train(state: SearchState, of_params: PyTree) -> SearchState:
        return apply_to_weights(params_optimiser, state, of_params)

    def move(state: SearchState, of_gates: Rows) -> SearchState:
        before = prox_one_hot(stack_rows(state.alphas)[0])
        moving = state.step < relaxed_steps if relaxed_steps else True
        state = apply_to_alphas(alphas_optimiser, state, stack_rows(of_gates)[0], moving)
        return record_share(state, before, prox_one_hot(stack_rows(state.alphas)[0]), share_decay)

    # In stages, every part is a program; else every step is one, from which is left out what it does not need.
    part, whole = (stage, traced) if shared else (traced, stage)
    if shared:
        gradient = gradient_in_stages(objective, shared, stage, parts)
    else:
        gradient = jax.grad(objective, (0, 1), has_aux=True)
    select, train, move = part(select), part(train, (0,)), part(move, (0,))

    def descend(state: SearchState, batch: Batch):
        """The gradients of weights and gates, of which kernel space gives both for the price of one."""
        return gradient(state.params, select(state.alphas, state.step), batch)

    def gates(state: SearchState, held_out: Batch, rng: jax.Array):
        del rng
        (_, of_gates), metrics = descend(state, held_out)
        return move(state, of_gates), metrics

    def weights(state: SearchState, batch: Batch, rng: jax.Array):
        del rng
        (of_params, _), metrics = descend(state, batch)
        return train(state, of_params), {"train_loss": metrics["held_out_loss"]}

    return Search(starting(params_optimiser, alphas_optimiser, start), whole(gates, (0,)), whole(weights, (0,)))


def _unequal(alphas: Rows, rng: jax.Array) -> Rows:
    """The same with noise of mean zero in every row."""

    def add(rows: jax.Array) -> jax.Array:
        # The key must differ between lengths.
        noise = jax.random.uniform(jax.random.fold_in(rng, rows.shape[-1]), rows.shape, rows.dtype, 0.0, TIE_BREAK)
        return rows + noise - noise.mean(-1, keepdims=True)

    return map_rows(add, alphas)
