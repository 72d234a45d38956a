r"""Proximal operators for architecture parameters, and the optax transform that applies them.

MDARTS optimises architecture parameters by proximal gradient, "in the spirit of binary-network training" (the
paper's abstract). Two published ways of doing so are offered; which one the paper uses is not known, so both are ours:

* ``lazy`` keeps continuous alphas and takes gradients at their projection on the one-hot set (NASP, Yao et al., AAAI
  2020; BinaryConnect, Courbariaux et al., NeurIPS 2015);
* ``eager`` also pulls the alphas themselves toward that set, ever more strongly (ProxQuant, Bai et al., ICLR 2019).

Alphas live on the simplex, the convex hull of the one-hot vectors, where NASP has the box [0, 1]: gates of a row sum
to one, so only differences within a row mean anything. In a box the part that all gates of a row share (a price on
every option, say) drives all of its alphas into the same corner, where every choice is a tie.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

PyTree = Any


def prox_one_hot(rows: PyTree) -> PyTree:
    """Projects every row on the set of one-hot vectors: 1 at its largest entry, 0 elsewhere.

    Args:
      rows: arrays of shape (..., K), one row along the last axis for each choice.

    Returns:
      Arrays like ``rows`` with exactly one 1.0 in each row; ties go to the first of the largest entries.
    """
    return jax.tree.map(lambda array: jax.nn.one_hot(array.argmax(-1), array.shape[-1], dtype=array.dtype), rows)


def prox_simplex(rows: PyTree) -> PyTree:
    """Projects every row on the simplex: entries in [0, 1] that sum to 1.

    Args:
      rows: arrays of shape (..., K).
    """

    def project(array: jax.Array) -> jax.Array:
        flat = array.reshape(-1, array.shape[-1])
        return jax.vmap(optax.projections.projection_simplex)(flat).reshape(array.shape)

    return jax.tree.map(project, rows)


def prox_pull(tree: PyTree, strength: jax.Array | float) -> PyTree:
    r"""Proximal operator of :math:`\frac{\lambda}{2}\,\mathrm{dist}^2(a, \text{one-hot})`, row by row.

    It moves each row the fraction :math:`\lambda / (1 + \lambda)` of its way to the nearest one-hot vector.

    Args:
      tree: arrays of shape (..., K).
      strength: :math:`\lambda \ge 0`; 0 leaves the rows alone.
    """
    return jax.tree.map(lambda row, target: (row + strength * target) / (1.0 + strength), tree, prox_one_hot(tree))


def centre_rows() -> optax.GradientTransformation:
    """Subtracts the mean of every row of the updates: what remains is the part along the simplex.

    Put before a transform that normalises, such as Adam, which would otherwise see little but the part that the row's
    gates share.
    """
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda rows: rows - rows.mean(-1, keepdims=True), updates)
    )


def scale_by_mixed_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-12) -> optax.GradientTransformation:
    r"""Adam that divides by the mean of two sizes, an element's own and that of all elements together.

    Adam (Kingma and Ba, ICLR 2015) divides by the first alone, so that all elements move alike. Of alphas, those of a
    choice that hardly matters yet are then moved as fast as any, by chance and by the least price; here they stay
    nearly where they are. Divided by the second alone, as in AdaGrad-Norm (Ward et al., ICML 2019), those that matter
    somewhat less than others would fall behind. The mean is ours:

    .. math::

      u = \frac{2\,\hat{m}}{\sqrt{\hat{v}} + \sqrt{\mathrm{mean}(\hat{v})} + \epsilon}.

    Args:
      b1, b2: decays of the running means of updates and of their squares, both corrected for their start at zero.
      eps: added to the sizes.
    """

    def init_fn(params: PyTree) -> optax.ScaleByAdamState:
        mean, square = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mean, square)

    def update_fn(updates, state, params=None):
        del params
        count = state.count + 1
        mean = jax.tree.map(lambda m, u: b1 * m + (1.0 - b1) * u, state.mu, updates)
        square = jax.tree.map(lambda v, u: b2 * v + (1.0 - b2) * u**2, state.nu, updates)
        own = jax.tree.map(lambda v: jnp.sqrt(v / (1.0 - b2**count)), square)
        of_all = jnp.sqrt(jnp.square(ravel_pytree(own)[0]).mean())
        scaled = jax.tree.map(lambda m, size: 2.0 * m / (1.0 - b1**count) / (size + of_all + eps), mean, own)
        return scaled, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init_fn, update_fn)


class ProximalState(NamedTuple):
    """State of ``proximal``: the number of updates done."""

    count: jax.Array


def proximal(mode: str = "lazy", pull: optax.ScalarOrSchedule = 0.0) -> optax.GradientTransformationExtraArgs:
    r"""Ends a chain of transforms so that ``params + updates`` is the proximal point.

    .. math::

      \alpha \leftarrow \mathrm{prox}_\Delta(\alpha + u) \quad (\text{lazy}), \qquad
      \alpha \leftarrow \mathrm{prox}_\Delta(\mathrm{prox}_{\lambda_t R}(\alpha + u)) \quad (\text{eager}),

    where :math:`u` is the update of the transforms before it, :math:`\Delta` the simplex and :math:`R` half the
    squared distance to the one-hot set.

    Args:
      mode: ``lazy`` or ``eager``.
      pull: :math:`\lambda_t`, a constant or a schedule of the update count; used by ``eager`` alone.

    Returns:
      An ``optax.GradientTransformationExtraArgs`` whose ``update`` needs ``params``, rows on the simplex. The sum of
      both is the proximal point, exactly where an entry becomes 0 and to round-off elsewhere.

    Raises:
      ValueError: an unknown mode, or ``update`` called without ``params``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> transform = optax.chain(optax.sgd(1.0), proximal("lazy"))
      >>> alphas = jnp.array([0.5, 0.5])
      >>> updates, _ = transform.update(jnp.array([-0.25, 0.25]), transform.init(alphas), alphas)
      >>> optax.apply_updates(alphas, updates)
      Array([0.75, 0.25], dtype=float32)
    """
    if mode not in ("lazy", "eager"):
        raise ValueError(f"mode must be 'lazy' or 'eager', not {mode!r}")

    def init_fn(params: PyTree) -> ProximalState:
        del params
        return ProximalState(count=jnp.zeros((), jnp.int32))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        if params is None:
            raise ValueError("proximal needs the current parameters: call update(updates, state, params)")
        point = optax.apply_updates(params, updates)
        if mode == "eager":
            point = prox_pull(point, pull(state.count) if callable(pull) else pull)
        point = prox_simplex(point)
        return jax.tree.map(jnp.subtract, point, params), ProximalState(count=state.count + 1)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def proximal_gradient(
    learning_rate: optax.ScalarOrSchedule, mode: str = "lazy", pull: optax.ScalarOrSchedule = 0.0
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the architecture parameters: mixed Adam along the simplex, then ``proximal``.

    Args:
      learning_rate: an alpha moves by at most about this much a step where its gradient is as large as those of all are
        in the mean square, at most twice as fast where it is larger, and ever less where it is smaller.
      mode, pull: as for ``proximal``.
    """
    return optax.chain(
        centre_rows(), scale_by_mixed_adam(), optax.scale_by_learning_rate(learning_rate), proximal(mode, pull)
    )


def box_gradient(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """The optimiser of the architecture parameters in NASP (Yao et al., AAAI 2020): Adam, then clipped to [0, 1]."""

    def update_fn(updates, state, params):
        return jax.tree.map(lambda u, p: jnp.clip(p + u, 0.0, 1.0) - p, updates, params), state

    clip = optax.GradientTransformation(lambda params: optax.EmptyState(), update_fn)
    return optax.chain(optax.adam(learning_rate), clip)
