"""Other searches over the same space and network, to be compared with MDARTS: DARTS, NASP, ProxylessNAS, random.

Each follows its paper in what defines it: what the forward pass evaluates, at which point gradients are taken, and how
alphas move. The rest (space, network, optimiser of the weights, price of computation, number of steps) is what MDARTS
has, so that they differ in the search alone; that setting is ours.

========== ============================== ============================== =========================================
name       gate step evaluates            weight step trains             memory, by activations
========== ============================== ============================== =========================================
mdarts     one convolution, then one path the same                       one model
darts      the mixture of all candidates  the mixture of all candidates  all candidates
folded     one convolution: the mixture   the same                       one model
nasp       every candidate                one path                       all candidates in the gate step
proxyless  two sampled paths              one sampled path               two models in the gate step
random     nothing                        a random path                  one model
========== ============================== ============================== =========================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from autoderain_jax.candidates import Candidate
from autoderain_jax.mdarts import (
    Cost,
    Loss,
    Metrics,
    Search,
    SearchState,
    apply_to_alphas,
    apply_to_weights,
    mdarts,
    no_cost,
    priced,
    record_share,
    starting,
)
from autoderain_jax.proximal import box_gradient, proximal_gradient
from autoderain_jax.search_space import Choices, Rows, Stacked, Supernet, sample_gates, stack_rows
from autoderain_jax.stages import Stage, traced


def darts(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = no_cost,
    share_decay: float = 0.99,
    stage: Stage = traced,
) -> Search:
    """First-order DARTS (Liu et al., ICLR 2019): softmax of the alphas weighs all candidates, in both steps.

    On a supernet that runs choices in output space this is DARTS as published; in kernel space the mixture folds into
    one convolution (named ``folded``, ours). Arguments as for ``mdarts``.
    """

    def gates(state: SearchState, held_out, rng):
        del rng
        alphas, unstack = stack_rows(state.alphas)
        objective = priced(loss, cost)
        descend = jax.grad(lambda alphas: objective(state.params, unstack(softmax(alphas)), held_out), has_aux=True)
        grads, metrics = descend(alphas)
        state = apply_to_alphas(alphas_optimiser, state, grads)
        return record_share(state, softmax(alphas), softmax(stack_rows(state.alphas)[0]), share_decay), metrics

    def weights(state: SearchState, train, rng):
        del rng
        return _train(loss, params_optimiser, state, softmax(state.alphas), train)

    first = _from_zero(starting(params_optimiser, alphas_optimiser))
    return Search(first, stage(gates, (0,)), stage(weights, (0,)))


def proxyless(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = no_cost,
    share_decay: float = 0.99,
    stage: Stage = traced,
) -> Search:
    """ProxylessNAS with binary gates (Cai et al., ICLR 2019): two sampled paths compete in each gate step.

    Every choice samples two candidates by its probabilities; one of them is active, the other is run beside it for the
    gradient of its gate. Their two alphas move, and are shifted together so that the probabilities of the candidates
    not sampled stay what they were. Weight steps train a path sampled by the probabilities.
    """

    def gates(state: SearchState, held_out, rng):
        before, unstack = stack_rows(state.alphas)
        pairs = _each(rng, _sample_two, before)
        paths = jax.tree.map(lambda pair: pair * jnp.array([[1.0], [0.0]]), pairs)
        objective = priced(loss, lambda paths: cost(jax.tree.map(lambda pair: pair.sum(0), paths)))
        descend = jax.grad(lambda paths: objective(state.params, unstack(paths), held_out), has_aux=True)
        grads, metrics = descend(paths)
        grads = jax.tree.map(jax.vmap(_two_alphas_gradient), before, pairs, grads)
        updates, alphas_opt = alphas_optimiser.update(grads, state.alphas_opt, before)
        # Adam's momentum would move candidates that were not sampled.
        moved = jax.tree.map(lambda row, update, pair: row + update * pair.sum(1), before, updates, pairs)
        after = jax.tree.map(jax.vmap(_keep_probability), before, moved, pairs)
        state = state._replace(alphas=unstack(after), alphas_opt=alphas_opt)
        return record_share(state, softmax(before), softmax(after), share_decay), metrics

    def weights(state: SearchState, train, rng):
        alphas, unstack = stack_rows(state.alphas)
        return _train(loss, params_optimiser, state, unstack(_each(rng, _sample, alphas)), train)

    first = _from_zero(starting(params_optimiser, alphas_optimiser))
    return Search(first, stage(gates, (0,)), stage(weights, (0,)))


def random(
    loss: Loss,
    params_optimiser: optax.GradientTransformation,
    alphas_optimiser: optax.GradientTransformation,
    cost: Cost = no_cost,
    share_decay: float = 0.99,
    stage: Stage = traced,
) -> Search:
    """Random search with shared weights (Li and Talwalkar, UAI 2019): all steps train random paths.

    There are no alphas to move; ``best_of_random`` chooses among random paths in the end. The gate step does nothing.
    """

    def weights(state: SearchState, train, rng):
        return _train(loss, params_optimiser, state, sample_gates(rng, state.alphas), train)

    first = starting(params_optimiser, alphas_optimiser)
    return Search(first, lambda state, held_out, rng: (state, {}), stage(weights, (0,)))


def best_of_random(evaluate: Callable[[Rows], jax.Array], rows: Rows, rng: jax.Array, samples: int) -> Rows:
    """The best of so many random paths.

    Args:
      evaluate: ``gates -> scalar``, what to minimise: loss on held-out data plus price.
      rows: rows of the form of the gates.
      rng: draws the paths.
      samples: how many paths.

    Returns:
      The gates of the path with the least value.
    """
    paths: Iterable[Rows] = (sample_gates(jax.random.fold_in(rng, i), rows) for i in range(samples))
    return min(paths, key=lambda gates: float(evaluate(gates)))


def softmax(alphas: Any) -> Any:
    """Softmax of every row of a tree."""
    return jax.tree.map(jax.nn.softmax, alphas)


def share_of_row(alphas: Any) -> Any:
    """Every row of a tree, of alphas in [0, 1], divided by its sum; level where that is zero."""

    def share(rows: jax.Array) -> jax.Array:
        total = rows.sum(-1, keepdims=True)
        return jnp.where(total > 0, rows / jnp.where(total > 0, total, 1.0), 1.0 / rows.shape[-1])

    return jax.tree.map(share, alphas)


def adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam with the momentum that DARTS and ProxylessNAS use for alphas."""
    return optax.adam(learning_rate, b1=0.5)


AlgorithmName = Literal["mdarts", "darts", "folded", "nasp", "proxyless", "random"]
KernelKind = Literal["shared", "own"]


class Algorithm(NamedTuple):
    """A search algorithm with what it needs.

    Attributes:
      search: builds it, called as ``mdarts`` is.
      optimiser: ``learning_rate -> optimiser of the alphas``.
      supernet: the supernet it runs on, as published; MDARTS's is ours.
      learning_rate: of the alphas, unless another is asked for.
      relaxed: share of the steps in which gates are relaxed, unless another is asked for; None for algorithms other
        than ours, which do not know this.
      head_start: of the alphas, toward the network made by hand, unless another is asked for; None as for relaxed.
      gates_executor: how its gate step runs the supernet, where that differs.
      preference: from alphas to rows that sum to one.
    """

    search: Callable[..., Search]
    optimiser: Callable[..., optax.GradientTransformation]
    supernet: Supernet
    learning_rate: float
    relaxed: float | None = None
    head_start: float | None = None
    gates_executor: str | None = None
    preference: Callable[[Rows], Rows] = lambda alphas: alphas

    @property
    def in_stages(self) -> bool:
        """Whether its steps are a plain network's, between small ones: MDARTS with shared kernels."""
        return self.relaxed is not None and self.supernet == Supernet()

    def relaxed_steps(self, asked: float | None, steps: int) -> int:
        """In how many of so many steps gates are relaxed; 0 for algorithms that do not know this."""
        relaxed = self.relaxed if asked is None else asked
        # None would be another way: alphas that move although gates are binary.
        return max(1, round(relaxed * steps)) if relaxed else 0

    def head_start_of(self, asked: float | None) -> float:
        """How far alphas begin on the way from level to the network made by hand."""
        return (self.head_start or 0.0) if asked is None else asked

    def with_kernels(self, kernels: KernelKind | None) -> Algorithm:
        """The same with shared kernels or weights of their own; None leaves it as it is."""
        if kernels is None:
            return self
        return self._replace(supernet=dataclasses.replace(self.supernet, shared=kernels == "shared"))

    def build(
        self,
        loss_on: Callable[[Supernet], Loss],
        params_optimiser: optax.GradientTransformation,
        alphas_optimiser: optax.GradientTransformation,
        cost: Cost = no_cost,
        relaxed_steps: int = 0,
        start: Rows | None = None,
        shared: Sequence[Candidate] = (),
        stage: Stage = traced,
        parts: int = 1,
    ) -> Search:
        """The search on the supernets that it needs.

        Args:
          loss_on: the loss ``(params, gates, batch) -> scalar`` on a supernet that keeps weights and runs as told.
          params_optimiser, alphas_optimiser, cost: as for ``mdarts``.
          relaxed_steps, start: as for ``mdarts``, and for it alone.
          shared: as for ``mdarts``, for it alone and where it does share kernels.
          stage: as for ``mdarts``.
          parts: as ``shared``.
        """
        own = {} if self.relaxed is None else {"relaxed_steps": relaxed_steps, "start": start}
        if self.in_stages:
            own |= {"shared": shared, "parts": parts}

        def on(supernet: Supernet) -> Search:
            return self.search(loss_on(supernet), params_optimiser, alphas_optimiser, cost, stage=stage, **own)

        search = on(self.supernet)
        if self.gates_executor:
            gates = on(dataclasses.replace(self.supernet, executor=self.gates_executor)).gates
            search = search._replace(gates=gates)
        return search


ALONE = Supernet(shared=False)
"""Kernel space, with weights of its own for every candidate."""
MIXED = Supernet(shared=False, executor="output")
"""Output space, with weights of its own for every candidate."""

ALGORITHMS: dict[AlgorithmName, Algorithm] = {
    "mdarts": Algorithm(mdarts, proximal_gradient, Supernet(), 6e-3, relaxed=0.9, head_start=0.4),
    "darts": Algorithm(darts, adam, MIXED, 3e-3, preference=softmax),
    "folded": Algorithm(darts, adam, Supernet(), 3e-3, preference=softmax),
    "nasp": Algorithm(mdarts, box_gradient, ALONE, 6e-3, gates_executor="output", preference=share_of_row),
    "proxyless": Algorithm(proxyless, adam, ALONE, 6e-3, preference=softmax),
    "random": Algorithm(random, proximal_gradient, ALONE, 0.0),
}
"""Every algorithm by name."""


def _from_zero(init: Callable[..., SearchState]) -> Callable[..., SearchState]:
    """The same first state with alphas, here the logits of a softmax, that start at zero."""

    def from_zero(params, choices: Choices, rng: jax.Array) -> SearchState:
        state = init(params, choices, rng)
        return state._replace(alphas=jax.tree.map(jnp.zeros_like, state.alphas))

    return from_zero


def _train(
    loss: Loss, optimiser: optax.GradientTransformation, state: SearchState, gates: Rows, batch
) -> tuple[SearchState, Metrics]:
    """One step of the weights at given gates."""
    value, grads = jax.value_and_grad(loss)(state.params, gates, batch)
    return apply_to_weights(optimiser, state, grads), {"train_loss": value}


def _each(rng: jax.Array, function: Callable, stacked: Stacked) -> Stacked:
    """Maps ``(key, row)`` over all rows, each with a key of its own."""
    keys = dict(zip(stacked, jax.random.split(rng, len(stacked)), strict=True))
    return {length: jax.vmap(function)(jax.random.split(keys[length], len(a)), a) for length, a in stacked.items()}


def _sample(rng: jax.Array, row: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jax.random.categorical(rng, row), row.shape[-1])


def _sample_two(rng: jax.Array, row: jax.Array) -> jax.Array:
    """Two different candidates by their probabilities, one-hot, (2, K), the first as drawn first: the Gumbel trick."""
    _, picks = jax.lax.top_k(row + jax.random.gumbel(rng, row.shape), 2)
    return jax.nn.one_hot(picks, row.shape[-1])


def _two_alphas_gradient(row: jax.Array, pair: jax.Array, grads: jax.Array) -> jax.Array:
    """From the gradients of two gates to those of their alphas, by the softmax over the two; zero elsewhere."""
    of_gates = jnp.einsum("pk,pk->p", pair, grads)
    probabilities = jax.nn.softmax(pair @ row)
    of_alphas = probabilities * (of_gates - probabilities @ of_gates)
    return of_alphas @ pair


def _keep_probability(before: jax.Array, after: jax.Array, pair: jax.Array) -> jax.Array:
    """Shifts the two alphas of ``pair`` so that their probabilities sum to what they did before."""
    shift = jax.nn.logsumexp(pair @ before) - jax.nn.logsumexp(pair @ after)
    return after + shift * pair.sum(0)
