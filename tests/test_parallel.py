"""Several devices and several processes: the same run as on one, up to round-off, and no process waits forever."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.errors import InputError
from autoderain_jax.model import Model
from autoderain_jax.parallel import data_parallel
from autoderain_jax.stages import mean_over_parts, traced
from experiments.processes import ENDED, Processes
from tests.running import joining
from tests.samples import random_genotype

SMALL = ("--patch", "16", "--network.width", "4", "--network.blocks", "1", "1", "--batch", "8")
STEPS = 20


def start(kind, workdir, data, *extra, devices=1, steps=STEPS):
    """A process of a small run, on virtual devices."""
    environment = dict(
        os.environ,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        JAX_COMPILATION_CACHE_DIR=str(workdir.parent / f"compiled{devices}"),
    )
    options = ["--workdir", str(workdir), "--data", str(data), "--steps", str(steps), *SMALL, *extra]
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{kind}", *options], env=environment, stdout=-1, stderr=-1, text=True
    )


def start_all(count, kind, workdir, data, *extra, **options):
    """The processes of one run."""
    return [start(kind, workdir, data, *extra, *joined, **options) for joined in joining(count)]


def end(*processes):
    """Exit codes, outputs and errors, once all have ended."""
    texts = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], *zip(*texts, strict=True)


def curves(workdir):
    """All figures of a run, (records, figures)."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    names = sorted(name for name, value in records[0].items() if isinstance(value, float) and "psnr" not in name)
    assert any("loss" in name for name in names)
    return np.array([[record[name] for name in names] for record in records])


@pytest.fixture
def genotype(tmp_path):
    from autoderain_jax.network import NetworkConfig

    path = tmp_path / "genotype.json"
    random_genotype(NetworkConfig(width=4, blocks=(1, 1))).save(path)
    return path


@pytest.mark.parametrize("stream", ["device", "tf"])
def test_search_on_eight_devices_is_that_on_one(tmp_path, data_folder, stream):
    alone = start("search", tmp_path / "alone", data_folder)
    eight = start("search", tmp_path / "eight", data_folder, "--stream", stream, devices=8)
    codes, _, errors = end(alone, eight)
    assert codes == [0, 0], errors
    chex.assert_trees_all_close(curves(tmp_path / "eight"), curves(tmp_path / "alone"), rtol=0, atol=1e-5)


def test_retraining_on_four_devices_in_parts_is_that_on_one(tmp_path, data_folder, genotype):
    given = ("--genotype", str(genotype))
    alone = start("retrain", tmp_path / "alone", data_folder, *given)
    both = start("retrain", tmp_path / "both", data_folder, *given, "--accumulate", "2", "--remat", devices=4)
    codes, outputs, errors = end(alone, both)
    assert codes == [0, 0], errors
    assert "on 4 devices" in outputs[1]
    chex.assert_trees_all_close(curves(tmp_path / "both"), curves(tmp_path / "alone"), rtol=0, atol=1e-5)


def test_retraining_in_four_processes_is_that_in_one(tmp_path, data_folder, genotype):
    given = ("--genotype", str(genotype))
    assert end(start("retrain", tmp_path / "alone", data_folder, *given))[0] == [0]
    four = start_all(4, "retrain", tmp_path / "four", data_folder, *given, "--stream", "tf")
    codes, outputs, errors = end(*four)
    assert codes == [0] * 4, errors
    assert "on 4 devices" in outputs[0]
    assert not any("step" in output for output in outputs[1:]), "only the first process prints"
    chex.assert_trees_all_close(curves(tmp_path / "four"), curves(tmp_path / "alone"), rtol=0, atol=1e-5)
    # Whole images were scored by all of them, each some.
    scores = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["held_out_psnr"]
        for name in ("alone", "four")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)
    models = [Model.load(tmp_path / name / "model") for name in ("alone", "four")]
    chex.assert_trees_all_close(models[0].params, models[1].params, rtol=0, atol=1e-3)


def test_processes_stop_together_and_one_alone_goes_on(tmp_path, data_folder):
    alone = start("search", tmp_path / "alone", data_folder, steps=200)
    assert end(alone)[0] == [0]
    together = start_all(2, "search", tmp_path / "together", data_folder, devices=2, steps=200)
    metrics = tmp_path / "together" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
        assert all(process.poll() is None for process in together), end(*together)
        time.sleep(0.05)
    together[1].send_signal(signal.SIGTERM)
    codes, outputs, _ = end(*together)
    assert codes == [130, 130]
    assert "stopped at step" in outputs[0]
    assert "step" not in outputs[1], "only the first process prints"
    codes, outputs, errors = end(start("search", tmp_path / "together", data_folder, steps=200))
    assert codes == [0], errors
    assert "resuming at step" in outputs[0]
    chex.assert_trees_all_close(curves(tmp_path / "together"), curves(tmp_path / "alone"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(tmp_path, data_folder, killed):
    processes = start_all(2, "search", tmp_path / "w", data_folder, steps=100_000)
    metrics = tmp_path / "w" / "metrics.jsonl"
    while not metrics.exists():
        assert all(process.poll() is None for process in processes), end(*processes)
        time.sleep(0.05)
    processes[killed].kill()
    began = time.monotonic()
    codes, _, errors = end(*processes)
    assert time.monotonic() - began < 60
    assert (codes[1 - killed], codes[killed]) == (ENDED, -signal.SIGKILL)
    assert re.fullmatch(r"error: .* of this run has ended: start all processes again .*\n", errors[1 - killed])


@pytest.mark.parametrize("given", [("1e-3", "2e-3"), ("2e-3", "1e-3")])
def test_a_process_that_cannot_go_on_says_why_and_the_other_that_it_ended(tmp_path, data_folder, given):
    options = ("search", tmp_path / "w", data_folder)
    assert end(start(*options, "--learning-rate", "1e-3", steps=1))[0] == [0]
    together = [
        start(*options, "--learning-rate", rate, *joined, steps=1)
        for joined, rate in zip(joining(2), given, strict=True)
    ]
    codes, _, errors = end(*together)
    wrong = given.index("2e-3")
    assert codes[wrong] == 2
    assert "holds a run with learning_rate = 0.001, not 0.002" in errors[wrong]
    assert codes[1 - wrong] == ENDED
    assert re.match(rf"error: (process {wrong}|another process) of this run has ended: start", errors[1 - wrong])
    assert "Traceback" not in "".join(errors)


def test_the_most_devices_that_share_a_batch_equally_are_used():
    assert data_parallel(4).mesh.size == 1, "the tests have one device"
    with pytest.raises(InputError, match="--batch 5 cannot be shared equally in 2 parts"):
        data_parallel(5, parts=2)


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        (Processes(count=0), "--processes.count must be at least 1"),
        (Processes(count=2, index=2), "--processes.index must be in 0 to 1"),
        (Processes(count=2), "--processes.coordinator must be HOST:PORT"),
        (Processes(coordinator="host:1234"), "--processes.coordinator needs --processes.count"),
        (Processes(count=2, coordinator="host"), "--processes.coordinator must be HOST:PORT"),
        (Processes(count=2, coordinator="host:99999"), "--processes.coordinator must be HOST:PORT"),
    ],
)
def test_senseless_processes_are_refused(processes, sentence):
    with pytest.raises(InputError, match=sentence):
        processes.check()


def test_the_mean_over_parts_is_that_over_the_batch():
    def gradient(w, x):
        return jax.value_and_grad(lambda w: jnp.square(x @ w).mean())(w)

    w, x = jnp.arange(3.0), jax.random.normal(jax.random.key(0), (8, 3))
    parts = mean_over_parts(gradient, 4, traced)(w, jnp.split(x, 4))
    chex.assert_trees_all_close(parts, gradient(w, x), rtol=1e-6)
