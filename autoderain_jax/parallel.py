"""Data parallelism: a batch is shared among devices, of one process or several; everything else is the same on all.

Compiled for arrays that are laid out so, a training step computes what it would on one device, up to round-off: XLA
adds the sums over devices (`jit` partitions, see "Distributed arrays and automatic parallelization" in JAX's docs).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from autoderain_jax.errors import InputError

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Layout:
    """How arrays lie on devices.

    Attributes:
      mesh: of one axis, all devices in use.
    """

    mesh: Mesh

    @property
    def whole(self) -> NamedSharding:
        """Of arrays that all devices have whole: weights, alphas, states of optimisers."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def shared(self) -> NamedSharding:
        """Of arrays whose first axis, that of a batch, is shared among the devices."""
        return NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))

    @property
    def words(self) -> str:
        """On how many devices, unless there is but one."""
        used, found = self.mesh.size, len(jax.devices())
        return (f" on {used} devices" if used == found else f" on {used} of {found} devices") if found > 1 else ""

    @property
    def shard(self) -> tuple[int, int]:
        """(index, count) of this process, which gets its share of every batch and no other."""
        return jax.process_index(), jax.process_count()

    def place_whole(self, tree: PyTree) -> PyTree:
        """Arrays that are the same in all processes, on every device."""
        return jax.tree.map(self._place_whole, tree)

    def place_share(self, tree: PyTree) -> PyTree:
        """This process's share of arrays, as a part of the arrays that all processes' shares make up."""
        return jax.tree.map(lambda share: jax.make_array_from_process_local_data(self.shared, np.asarray(share)), tree)

    def shapes(self, tree: PyTree, shared: bool = False) -> PyTree:
        """Shapes that lie so: whole, or shared."""
        sharding = self.shared if shared else self.whole
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    def _place_whole(self, leaf: jax.typing.ArrayLike) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, self.whole, lambda index: leaf[index])


def data_parallel(batch: int, parts: int = 1) -> Layout:
    """A layout on all devices; of a single process, on as many as can share a batch equally.

    Args:
      batch: patches of a step.
      parts: in how many parts a step takes its batch, one after the other.

    Raises:
      InputError: the devices of several processes cannot share the batch.
    """
    devices = jax.devices()
    if jax.process_count() == 1:
        count = max(n for n in range(1, len(devices) + 1) if batch % (n * parts) == 0) if batch % parts == 0 else 0
        devices = devices[:count]
    if not devices or batch % (len(devices) * parts):
        turns = f" in {parts} parts" if parts > 1 else ""
        number = len(devices) or 1
        by = f"{number} devices" if number > 1 else "a device"
        raise InputError(f"--batch {batch} cannot be shared equally{turns} by {by}")
    return Layout(Mesh(np.array(devices), ("data",)))


def local(tree: PyTree) -> PyTree:
    """Arrays that lie whole on all devices, as NumPy arrays: what a single device or a file can take."""
    return jax.tree.map(np.asarray, tree)
