"""Training state on disk, by Orbax. The one module that knows Orbax's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp

PyTree = Any


class Checkpoints:
    """The checkpoints of one run. Use it as a context manager, so that a save under way is finished.

    Args:
      folder: made if needed.
      keep: how many of the newest to keep.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        self._checkpointer = ocp.training.Checkpointer(
            Path(folder).absolute(),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception) -> None:
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint; None if there is none."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, step: int, state: PyTree) -> None:
        """Saves the state as of ``step`` unless that step is saved already; atomic."""
        if self.latest != step:
            self._checkpointer.save(step, state, force=True)

    def restore(self, like: PyTree) -> PyTree:
        """The newest state, with the structure, shapes, types and placement of ``like``."""
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        return self._checkpointer.load(self.latest, abstract)
