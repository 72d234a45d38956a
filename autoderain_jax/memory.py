"""How much memory there is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax

CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What limits a container's memory, by the second and the first version of control groups; "max" where nothing does."""


def of_accelerator() -> int | None:
    """Bytes that a device of this process offers to arrays; None if it is a CPU, or does not tell."""
    device = jax.local_devices()[0]
    return (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None


def of_machine() -> int | None:
    """Bytes of the machine's memory, or of the container's that this runs in; None where the system does not tell."""
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for limit in CONTAINER:
        with contextlib.suppress(OSError, ValueError):
            known.append(int(limit.read_text()))
    return min(known, default=None)


def of_device() -> int | None:
    """Bytes that a device of this process can use, whatever it is; None if unknown."""
    if jax.local_devices()[0].platform != "cpu":
        return of_accelerator()
    machine = of_machine()
    # Which virtual devices share.
    return machine and machine // jax.local_device_count()
