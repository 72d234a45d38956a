"""What happens to runs when something goes wrong around them: nothing is lost, and one sentence tells."""

import contextlib
import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.errors import InputError
from data_pipelines import open_pairs
from data_pipelines.batches import batches
from data_pipelines.sampling import Sampling, sample_patches
from experiments import retrain, search, workdir
from tests.kills import SMALL, survives
from tests.running import final_state, interrupt_at, run

# Of a load that fails, Orbax leaves behind what Python complains of when it is collected.
orbax_leaves_exceptions = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@orbax_leaves_exceptions
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "gone"])
def test_a_damaged_checkpoint_is_passed_over(search_config, monkeypatch, capfd, tmp_path, damage):
    search.search(search_config)
    broken = dataclasses.replace(search_config, workdir=tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(workdir, "SECONDS_PER_MINUTE", 0)
        interrupt_at(patch, search, 5)
        with pytest.raises(KeyboardInterrupt):
            search.search(broken)
    steps = sorted(int(path.name) for path in (broken.workdir / "checkpoints").iterdir())
    assert len(steps) == 3
    for file in (broken.workdir / f"checkpoints/{steps[-1]}/state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flipped bit" else content[:-20])
    capfd.readouterr()
    search.search(broken)
    out = capfd.readouterr().out
    assert f"warning: the checkpoint of step {steps[-1]}" in out
    assert f"resuming at step {steps[-2]} of 6" in out
    assert (broken.workdir / "metrics.jsonl").read_text() == (search_config.workdir / "metrics.jsonl").read_text()
    chex.assert_trees_all_equal(final_state(broken), final_state(search_config))


@orbax_leaves_exceptions
@pytest.mark.usefixtures("collected")
def test_a_run_without_a_sound_checkpoint_says_so(tmp_path):
    state = {"a": jax.numpy.arange(4.0)}
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(3, state)
    for file in (tmp_path / "c/3/state").rglob("d/*"):
        file.write_bytes(b"")
    warnings = []
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(InputError, match="no checkpoint in"):
        checkpoints.restore(state, warnings.append)
    assert len(warnings) == 1
    assert "step 3" in warnings[0]


@pytest.mark.parametrize(
    ("cause", "raised", "sentence"),
    [
        (PermissionError("denied"), InputError, "cannot read the checkpoint of step 3: denied"),
        (ValueError("RESOURCE_EXHAUSTED: no memory"), RuntimeError, "handlers"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch, cause, raised, sentence):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, {"a": jax.numpy.arange(4.0)})

    def load(self, step, like):
        raise RuntimeError("no handlers") from cause

    monkeypatch.setattr("orbax.checkpoint.experimental.v1.training.Checkpointer.load", load)
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(raised, match=sentence):
        checkpoints.restore({"a": jax.numpy.arange(4.0)})


def test_a_second_process_is_refused(search_config):
    workdir.Workdir(search_config.workdir, search_config, "search")
    code = (
        "import sys, dataclasses, pathlib; from experiments import command, workdir\n"
        "config = dataclasses.make_dataclass('C', [])()\n"
        "command.run(lambda: workdir.Workdir(pathlib.Path(sys.argv[1]), config, 'search'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(search_config.workdir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"error: workdir {search_config.workdir} is in use by another process\n"


@pytest.fixture
def disk(tmp_path):
    """A small disk, the same one as it looks when it is read-only, and what gives it another size."""
    path, locked = tmp_path / "disk", tmp_path / "locked"
    mounts = {path: ("-t", "tmpfs", "-o", "size=32m", "tmpfs"), locked: ("--bind", "-o", "ro", path)}
    with contextlib.ExitStack() as mounted:
        for place, words in mounts.items():
            place.mkdir()
            if shutil.which("mount") is None or subprocess.run(["mount", *words, place], check=False).returncode != 0:
                pytest.skip("no disk can be mounted here")
            mounted.callback(subprocess.run, ["umount", "--lazy", place], check=True)
        yield path, locked, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)


def content(folder):
    """Of all files below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@orbax_leaves_exceptions
@pytest.mark.usefixtures("collected")
def test_disks_that_are_full_or_read_only_keep_what_was_saved(disk, search_config, monkeypatch, capfd):
    path, locked, resize = disk
    search.search(search_config)
    folder = path / "w"
    data = ("--workdir", folder, "--data", search_config.data, "--steps", 6, "--patch", 16, "--batch", 2, "--seed", 3)
    line = (search, *data, "--network.width", 6, "--network.blocks", 1, 1, "--network.reduction", 2)
    monkeypatch.setattr(workdir, "SECONDS_PER_MINUTE", 0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, search, 2)
        assert run(monkeypatch, capfd, *line)[0] == 130
    saved = content(folder / "checkpoints")
    assert saved

    resize(shutil.disk_usage(path).used + 2**13)
    code, _, error = run(monkeypatch, capfd, *line)
    assert code == 2
    assert re.fullmatch(r"error: cannot (save the checkpoint|write to workdir) .*\n", error), error
    assert saved.items() <= content(folder / "checkpoints").items()

    code, _, error = run(monkeypatch, capfd, *line, "--workdir", locked / "w")
    assert (code, error) == (2, f"error: cannot use workdir {locked / 'w'}: Read-only file system\n")
    assert saved.items() <= content(folder / "checkpoints").items()

    resize("32m")
    code, out, _ = run(monkeypatch, capfd, *line)
    assert code == 0
    assert "resuming at step" in out
    assert (folder / "metrics.jsonl").read_text() == (search_config.workdir / "metrics.jsonl").read_text()
    chex.assert_trees_all_equal(
        final_state(dataclasses.replace(search_config, workdir=folder)), final_state(search_config)
    )


@pytest.mark.usefixtures("genotype")
@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_too_little_memory_is_told_with_what_to_lower(kind, search_config, retrain_config, monkeypatch, capfd):
    def starved(*args):
        if kind == "retrain":
            raise MemoryError
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.")

    data = ("--workdir", search_config.workdir, "--data", search_config.data, *SMALL)
    if kind == "search":
        monkeypatch.setattr(search._Run, "advance", starved)
        code, _, err = run(monkeypatch, capfd, search, *data)
    else:
        monkeypatch.setattr(retrain, "take", starved)
        code, _, err = run(monkeypatch, capfd, retrain, "--genotype", retrain_config.genotype, *data)
    assert code == 2
    assert re.fullmatch(
        r"error: the device has not enough memory \(predicted peak memory: \d+ MB of [\d,]+ MB\): "
        r"lower --batch, --patch, --network.width or --network.blocks, or give --accumulate or --remat\n",
        err,
    )


def test_what_is_not_finite_is_never_saved(search_config, tmp_path):
    folder = workdir.Workdir(tmp_path / "w", search_config, "search")

    def advance(state, step):
        # The gradient is not finite, though the loss is: it was that of the weights before.
        return {"weights": state["weights"] + np.float32(np.inf if step == 3 else 1.0)}, {"train_loss": np.float32(1)}

    start = {"weights": jax.numpy.zeros(2), "best": jax.numpy.float32(-np.inf)}
    with pytest.raises(InputError, match=r"what was learned is not finite at step 4, patches of step 3; the last"):
        folder.train(start, 4, advance, lambda start: None, batch_of=lambda s: f"patches of step {s}")
    done = folder.train(start, 2, advance, lambda start: None)
    assert done["weights"].tolist() == [2.0, 2.0]


def test_a_loss_that_is_not_finite_is_told_with_its_step_and_images(search_config, tmp_path):
    folder = workdir.Workdir(tmp_path / "w", search_config, "search")

    def advance(state, step):
        return state + 1, {"train_loss": np.float32(np.nan if step == 3 else 1.0)}

    with pytest.raises(InputError, match=r"train_loss is nan at step 4, patches of step 3; the last checkpoint"):
        folder.train(jax.numpy.int32(0), 1000, advance, lambda start: None, batch_of=lambda s: f"patches of step {s}")
    assert folder.records() == []
    with pytest.raises(InputError, match=r"is (nan|inf) at step \d, patches of a\d, a\d and patches of a\d; the last"):
        search.search(dataclasses.replace(search_config, workdir=tmp_path / "x", learning_rate=1e38))


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_an_image_that_is_damaged_costs_nothing_that_was_learned(search_config, monkeypatch, capfd, tmp_path, damage):
    search.search(search_config)
    train, _ = open_pairs(search_config.data, "train").hold_out(search_config.held_out)
    visited = [sample_patches(train.sizes, Sampling(16, 2, search_config.seed), step).image for step in (0, 1)]
    later = next(train[int(index)].name for index in visited[1] if index not in visited[0])
    path = Path(search_config.data) / "train/rainy" / f"{later}.png"
    sound, real = path.read_bytes(), search.batches

    def damaging(*args, **options):
        path.write_bytes(sound[:-200]) if damage == "cut short" else path.unlink(missing_ok=True)
        return real(*args, **options)

    config = dataclasses.replace(search_config, workdir=tmp_path / "broken", stream="tf")
    with monkeypatch.context() as patch:
        # Once the run has begun.
        patch.setattr(search, "batches", damaging)
        with pytest.raises(InputError, match=rf"cannot read image .*{later}\.png"):
            search.search(config)
    path.write_bytes(sound)
    capfd.readouterr()
    search.search(config)
    assert "resuming at step 1 of 6" in capfd.readouterr().out
    chex.assert_trees_all_equal(final_state(config), final_state(search_config))


def test_metrics_that_cannot_be_written_are_told_in_a_sentence(search_config, monkeypatch, capfd):
    def in_the_way(*args, **options):
        for i, content in enumerate(batches(*args, **options)):
            if i == 2:
                search_config.workdir.joinpath("metrics.jsonl").unlink()
                search_config.workdir.joinpath("metrics.jsonl").mkdir()
            yield content

    monkeypatch.setattr(search, "batches", in_the_way)
    data = ("--data", search_config.data, "--steps", 6, *SMALL)
    code, _, err = run(monkeypatch, capfd, search, "--workdir", search_config.workdir, *data)
    assert code == 2
    assert err == f"error: {search_config.workdir / 'metrics.jsonl'}: Is a directory\n"


def test_killed_runs_end_as_unbroken_ones(tmp_path):
    for kind in ("search", "retrain"):
        assert survives(kind, kills=1, steps=20, seed=1, work=tmp_path) == 1
