"""Runs of several processes, on one host or many: joining, agreeing, and noticing that one of them has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.experimental import multihost_utils

from autoderain_jax.errors import InputError, in_short

LOST_SECONDS = 30.0
"""A process from which nothing is heard for so long has ended."""
BEAT_SECONDS = 2.0
"""Time between signs of life."""
JOIN_SECONDS = 300.0
"""All processes are started within so long."""
ENDED = 3
"""Exit code of a process that ends because another has."""
_TOLD = threading.Event()
"""That the user knows that another process has ended."""
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
        if self.count == 1 and self.coordinator is not None:
            raise InputError("--processes.coordinator needs --processes.count, how many there are")
        if self.count > 1 and not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(f"--processes.coordinator must be HOST:PORT of process 0, not {self.coordinator}")


def join(processes: Processes, lost: Callable[[str], None]) -> None:
    """Joins the other processes, before anything is computed; returns when all are there.

    Args:
      processes: how many, and which this is.
      lost: told in a sentence that another has ended; this one then ends too.

    Raises:
      InputError: the options make no sense, the others did not come, or JAX has no longer what this takes of it.
    """
    processes.check()
    if processes.count == 1 or jax.distributed.is_initialized():
        return
    services = _services()
    from experiments.coordinator import Coordinator  # which needs them too

    # Its service would keep SIGTERM to itself.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX would wait for longer, and then abort without a sentence.
    waiting = threading.Timer(JOIN_SECONDS, _tell_that_not_all_came, (processes, lost))
    waiting.daemon = True
    waiting.start()
    port = int(processes.coordinator.rpartition(":")[2])
    # The first process makes it.
    beside = mock.patch.object(
        services,
        "get_distributed_runtime_service",
        side_effect=lambda *_, **__: Coordinator(port, processes.count, LOST_SECONDS),
    )
    try:
        with beside:
            jax.distributed.initialize(
                processes.coordinator,
                processes.count,
                processes.index,
                # A cluster is not asked what it tells: Slurm would give a process one GPU, we take all that it sees.
                cluster_detection_method="deactivate",
                initialization_timeout=int(2 * JOIN_SECONDS),
                # Later than we notice, as JAX aborts without a sentence.
                heartbeat_timeout_seconds=int(3 * LOST_SECONDS),
                shutdown_timeout_seconds=int(LOST_SECONDS),
            )
    except InputError:
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--processes.coordinator {processes.coordinator}: cannot join: {in_short(error)}") from None
    finally:
        waiting.cancel()
    threading.Thread(target=_watch, args=(processes, lost), daemon=True).start()


def _services() -> Any:
    """The module of JAX that makes the service of processes; raises ``InputError`` where JAX has none."""
    try:
        from jax._src.lib import _jax  # it has no public name
    except ImportError:
        _jax = None
    if not hasattr(_jax, "get_distributed_runtime_service"):
        raise InputError(
            f"--processes.count: JAX {jax.__version__} is not known to run several processes: take another"
        )
    return _jax


def _tell_that_not_all_came(processes: Processes, tell: Callable[[str], None]) -> None:
    tell(
        f"error: --processes.coordinator {processes.coordinator}: not all of the {processes.count} processes came "
        f"within {JOIN_SECONDS:.0f} seconds"
    )
    os._exit(2)


def _watch(processes: Processes, lost: Callable[[str], None]) -> None:
    """Gives signs of life, and ends this process when another gives none: collectives would wait for it forever."""
    heard: dict[str, tuple[str, float]] = {}
    for beat in range(1 << 62):
        client = _joined().client
        if client is None or _PARTED.is_set():
            return
        try:
            client.key_value_set(f"alive/{processes.index}", str(beat), allow_overwrite=True)
            signs = dict(client.key_value_dir_get("alive/"))
            left = client.key_value_dir_get("left/")
        except jax.errors.JaxRuntimeError:
            # The coordinator is gone, and with it process 0; or all have parted, and this one has not noted it yet.
            time.sleep(BEAT_SECONDS)
            _end(lost, "0")
            return
        for key, _ in left:
            _end(lost, key.rpartition("/")[2])
        now = time.monotonic()
        for key, sign in signs.items():
            if heard.get(key, ("", 0.0))[0] != sign:
                heard[key] = sign, now
            elif now - heard[key][1] > LOST_SECONDS:
                _end(lost, key.rpartition("/")[2])
        time.sleep(BEAT_SECONDS)


def _end(lost: Callable[[str], None], which: str) -> None:
    if not _PARTED.is_set():
        tell_of_another(lost, f"process {which}")
        _exit(ENDED)


def tell_of_another(tell: Callable[[str], None], which: str = "another process") -> None:
    """Tells, once, that another process has ended, which this one will do too."""
    if not _TOLD.is_set():
        _TOLD.set()
        tell(f"error: {which} of this run has ended: start all processes again to go on from the last checkpoint")


def _exit(code: int) -> None:
    """Ends this process without waiting for others."""
    if is_first():
        # By the coordinator the others hear of it; where that is gone, JAX aborts them without a sentence.
        with contextlib.suppress(Exception):
            _joined().service.leave()
    os._exit(code)


def part() -> None:
    """Ends the run of all processes, when it is done or they agreed to stop."""
    meet("part")
    _PARTED.set()


def leave(code: int) -> None:
    """Before a process exits: one that does so alone tells the others, and waits for none, as they would for it."""
    if alone():
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        _PARTED.set()
        with contextlib.suppress(Exception):
            _joined().client.key_value_set(f"left/{_joined().process_id}", str(code))
        _exit(code)


def alone() -> bool:
    """Whether this process would end without the others that it has joined."""
    return jax.distributed.is_initialized() and not _PARTED.is_set()


def _joined() -> Any:
    """What ``join`` has made: ``client`` of the store of keys and values that all share, ``process_id``, ``service``.

    ``jax.process_index`` would start the device first, for which it waits for all processes.
    """
    from jax._src.distributed import global_state  # it has no public name

    return global_state


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return not jax.distributed.is_initialized() or _joined().process_id == 0


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


def total(value: float) -> float:
    """The sum of what all processes have, the same in all of them, in float32."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.process_allgather(np.float32(value)).sum())


def meet(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
