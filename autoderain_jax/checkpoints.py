"""Training state on disk, by Orbax. The one module that knows Orbax's interface."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

from autoderain_jax.errors import InputError, in_short
from autoderain_jax.files import flush

PyTree = Any
_SILENCED: list[contextlib.ExitStack] = []
"""What would let the loggers speak again, once they may."""


class Checkpoints:
    """The checkpoints of one run. Use it as a context manager, so that a save under way is finished.

    Each holds the SHA-256 of its arrays, as Orbax does not notice a flipped bit in them.

    Args:
      folder: made if needed.
      keep: how many of the newest to keep. Three, so that beside one that is damaged, and one that may not be on the
        disk yet, there is another.
    """

    def __init__(self, folder: str | Path, keep: int = 3):
        self._folder = Path(folder)
        self._checkpointer = ocp.training.Checkpointer(
            self._folder.absolute(),
            context=_context(),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._sound: set[int] = set()
        self._writing: tuple[int, Any] | None = None
        self._failed = False
        self._loud = contextlib.ExitStack()

    def __enter__(self) -> Checkpoints:
        self._loud.enter_context(_quiet())
        return self

    def __exit__(self, kind, *exception) -> None:
        with self._loud:
            try:
                if kind is None:
                    self.wait()
            finally:
                with contextlib.suppress(Exception if self._failed or kind else ()):
                    # Of a save that failed it tells once more.
                    self._checkpointer.close()
                if self._failed:
                    # Its threads may log later still.
                    _SILENCED.append(self._loud.pop_all())

    def save(self, step: int, state: PyTree) -> None:
        """Saves the state as of ``step``, whole or not at all, unless that step is known to be there.

        It returns when the state is copied, and is written while training goes on.

        Raises:
          InputError: this or the save before it cannot be written; the checkpoints before are kept.
        """
        self.wait()
        if step in self._sound:
            return
        with self._telling(step):
            content = {"state": state, "sha256": _placed(_digest(state), state)}
            self._writing = step, self._checkpointer.save_async(step, content, force=True, overwrite=True)

    def wait(self) -> None:
        """Waits until the last save is written; raises ``InputError`` if it cannot be."""
        if self._writing is None:
            return
        (step, response), self._writing = self._writing, None
        with self._telling(step):
            response.result()
            if jax.process_index() == 0:
                folder = self._folder / str(step)
                for path in (*folder.rglob("*"), folder, self._folder):
                    flush(path)
        self._sound.add(step)

    @contextlib.contextmanager
    def _telling(self, step: int) -> Iterator[None]:
        """Tells in a sentence what goes wrong while a step is saved."""
        try:
            yield
        except Exception as error:
            # What Orbax raises depends on what it was writing.
            self._failed = True
            raise InputError(
                f"cannot save the checkpoint of step {step} in {self._folder}, where those before are kept: "
                f"{in_short(error)}"
            ) from None

    def restore(self, like: PyTree, warn: Callable[[str], None] = lambda sentence: None) -> tuple[int, PyTree] | None:
        """The newest sound checkpoint.

        Args:
          like: gives structure, shapes, types and placement.
          warn: is told of those that are damaged.

        Returns:
          Its step and the state; None if there is no checkpoint.

        Raises:
          InputError: there are checkpoints, but none of them is sound, or they may not be read.
          JaxRuntimeError, MemoryError: they do not fit into memory.
        """
        wanted = {"state": like, "sha256": _placed(np.zeros(32, np.uint8), like)}
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), wanted)
        found = self._checkpointer.checkpoints
        for checkpoint in reversed(found):
            try:
                loaded = self._checkpointer.load(checkpoint.step, abstract)
                sound = bool((_digest(loaded["state"]) == loaded["sha256"]).all())
                reason = "" if sound else "its arrays have another checksum"
            except Exception as error:
                # What Orbax raises on a damaged file depends on where the damage is, and hides the reason.
                reasons = list(_causes(error))
                sound, reason = False, in_short(reasons[-1])
                if any(isinstance(one, MemoryError) or "RESOURCE_EXHAUSTED" in str(one) for one in reasons):
                    raise
                if any(isinstance(one, PermissionError) or "PERMISSION_DENIED" in str(one) for one in reasons):
                    raise InputError(f"cannot read the checkpoint of step {checkpoint.step}: {reason}") from None
            if sound:
                self._sound.add(checkpoint.step)
                return checkpoint.step, loaded["state"]
            warn(
                f"warning: the checkpoint of step {checkpoint.step} in {self._folder} is damaged and passed over: "
                f"{reason}"
            )
        if found:
            raise InputError(f"no checkpoint in {self._folder} can be read; another --workdir begins anew")
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _context() -> ocp.Context:
    """Arrays are written by one process: several differ by what they round differently, which a checksum would tell."""
    context = ocp.Context()
    context.array.saving.use_replica_parallel = False
    return context


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Of what fails, Orbax's threads log every array, and leave exceptions that asyncio logs when collected."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        gc.collect()
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _placed(digest: np.ndarray, state: PyTree) -> jax.Array:
    """A digest where the state's arrays lie, which several processes may share."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
    if not leaves:
        return jnp.asarray(digest)
    return jax.make_array_from_callback(digest.shape, leaves[0].sharding, lambda index: digest[index])


def _digest(state: PyTree) -> np.ndarray:
    """SHA-256 of all arrays in turn, 32 uint8."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        digest.update(np.ascontiguousarray(data).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
