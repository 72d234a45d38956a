"""Runs commands in this process, stops them, and reads what they saved."""

import signal
import socket

import jax
import pytest

from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.cost import macs
from experiments import command, search


def run(monkeypatch, capfd, module, *args):
    """Runs a command in this process: its exit code, standard output and standard error."""
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        command.run(module.main, getattr(module, "LOWER", ""))
    captured = capfd.readouterr()
    return stop.value.code, captured.out, captured.err


def joining(count):
    """Options of each of so many processes that meet on a free port; none for a single one."""
    if count == 1:
        return [[]]
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    shared = ["--processes.count", str(count), "--processes.coordinator", coordinator, "--processes.index"]
    return [[*shared, str(index)] for index in range(count)]


def interrupt_at(monkeypatch, module, batch, number=signal.SIGTERM):
    """Has the next run of ``module`` receive a signal while it reads its ``batch``-th training batch."""
    real = module.batches

    def interrupted(*args, **options):
        for i, content in enumerate(real(*args, **options), 1):
            if i == batch:
                signal.raise_signal(number)
            yield content

    monkeypatch.setattr(module, "batches", interrupted)


def final_state(config):
    built = search.build(config, macs(config.network, config.patch))
    state = jax.jit(built.first_state)(jax.random.key(config.seed))
    with Checkpoints(config.workdir / "checkpoints") as checkpoints:
        step, state = checkpoints.restore(state)
        assert step == config.steps
        return state
