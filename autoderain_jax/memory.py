"""How much memory there is."""

from __future__ import annotations

import os

import jax


def of_accelerator() -> int | None:
    """Bytes that a device of this process offers to arrays; None if it is a CPU, or does not tell."""
    device = jax.local_devices()[0]
    return (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None


def of_machine() -> int | None:
    """Bytes of the machine's memory, which is also that of its CPU as a device; None where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def of_device() -> int | None:
    """Bytes that a device of this process can use, whatever it is; None if unknown."""
    return of_machine() if jax.local_devices()[0].platform == "cpu" else of_accelerator()
