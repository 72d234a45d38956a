"""What joins processes in JAX has no public name: it may go, but only runs of several processes would miss it."""

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
