"""Runs of several processes, on one host or many: joining, agreeing, and noticing that one of them has ended."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from autoderain_jax.errors import InputError

LOST_SECONDS = 30.0
"""A process from which nothing is heard for so long has ended."""
BEAT_SECONDS = 2.0
"""Time between signs of life."""
RESTART = "start all processes again to go on from the last checkpoint"
ENDED = 3
"""Exit code of a process that ends because another has."""
_PARTED = threading.Event()
"""That the run has ended for all, so that none needs to be waited for."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """One run in several processes, each started by the same command but for --processes.index."""

    count: int = 1
    """Processes of the run, on one host or several; they share the devices of all. All need the same --workdir."""
    index: int = 0
    """Which of them this is, from 0."""
    coordinator: str | None = None
    """HOST:PORT of process 0, by which they find each other."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        if self.count < 1:
            raise InputError(f"--processes.count must be at least 1, not {self.count}")
        if not 0 <= self.index < self.count:
            raise InputError(f"--processes.index must be in 0 to {self.count - 1}, not {self.index}")
        host, _, port = (self.coordinator or "").rpartition(":")
        if self.count > 1 and not (host and port.isdigit()):
            raise InputError(f"--processes.coordinator must be HOST:PORT of process 0, not {self.coordinator}")


def join(processes: Processes, lost: Callable[[str], None]) -> None:
    """Joins the other processes, before anything is computed; returns when all are there.

    Args:
      processes: how many, and which this is.
      lost: told in a sentence that another has ended; this one then ends too.

    Raises:
      InputError: the options make no sense, or the others did not come.
    """
    processes.check()
    if processes.count == 1 or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            processes.coordinator, processes.count, processes.index, shutdown_timeout_seconds=int(LOST_SECONDS)
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--processes.coordinator {processes.coordinator}: cannot join: {reason}") from None
    threading.Thread(target=_watch, args=(processes, lost), daemon=True).start()


def _watch(processes: Processes, lost: Callable[[str], None]) -> None:
    """Gives signs of life, and ends this process when another gives none: collectives would wait for it forever."""
    from jax._src.distributed import global_state  # the key-value store has no public name

    heard: dict[str, tuple[str, float]] = {}
    for beat in range(1 << 62):
        client = global_state.client
        if client is None or _PARTED.is_set():
            return
        try:
            client.key_value_set(f"alive/{processes.index}", str(beat), allow_overwrite=True)
            signs = dict(client.key_value_dir_get("alive/"))
        except jax.errors.JaxRuntimeError:
            # What is asked is process 0. When all have parted it may be gone before this one has noted it.
            time.sleep(BEAT_SECONDS)
            _end(lost, "0")
            return
        now = time.monotonic()
        for key, sign in signs.items():
            if heard.get(key, ("", 0.0))[0] != sign:
                heard[key] = sign, now
            elif now - heard[key][1] > LOST_SECONDS:
                _end(lost, key.rpartition("/")[2])
        time.sleep(BEAT_SECONDS)


def _end(lost: Callable[[str], None], which: str) -> None:
    if _PARTED.is_set():
        return
    lost(f"error: process {which} of this run has ended: {RESTART}")
    os._exit(ENDED)


def part() -> None:
    """Ends the run of all processes, when it is done or they agreed to stop."""
    meet("part")
    _PARTED.set()


def leave(code: int) -> None:
    """Before a process exits: one that does so alone waits for no other, as the others would wait for it."""
    if jax.distributed.is_initialized() and not _PARTED.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def agree(*flags: bool, after: Any = ()) -> tuple[bool, ...]:
    """Whether any process says so, for each flag; all must ask at the same point.

    Args:
      flags: of this process.
      after: arrays that are waited for, so that no other communication is under way.
    """
    if jax.process_count() == 1:
        return flags
    jax.block_until_ready(after)
    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array(flags)).any(0))


def meet(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
