"""What joins processes in JAX has no public name: it may go, but only runs of several processes would miss it."""

import socket
import subprocess
import sys

import jax
import pytest

from autoderain_jax.errors import InputError
from experiments.processes import Processes, join


@pytest.mark.parametrize("gone", ["_jax", "_jax.get_distributed_runtime_service"])
def test_a_jax_that_cannot_join_processes_is_told(monkeypatch, gone):
    monkeypatch.delattr(f"jax._src.lib.{gone}")
    monkeypatch.setattr(jax.distributed, "initialize", None)
    join(Processes(), pytest.fail)
    with pytest.raises(InputError, match=f"--processes.count: JAX {jax.__version__} is not known to run several"):
        join(Processes(2, 0, "localhost:1234"), pytest.fail)


def test_commands_do_not_need_it():
    code = """
import builtins
real = builtins.__import__
def refusing(name, names=None, *rest):
    assert not (name.startswith("jax._src") and names["__name__"].startswith("experiments"))
    return real(name, names, *rest)
builtins.__import__ = refusing
from experiments import command
assert command.processes.is_first()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_processes_meet_by_outlives_a_first_process_that_leaves():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
import os, time
from experiments.coordinator import Coordinator
coordinator = Coordinator({port}, 1, 5.0)
coordinator.leave()
time.sleep(1)
assert coordinator._process.poll() is None
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("", port))
