"""The commands, on small data: the real loops, their files, resuming, and what they say to bad input."""

import csv
import dataclasses
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from autoderain_jax import Genotype, Model, cost
from autoderain_jax.candidates import CANDIDATES
from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.metrics import PROTOCOLS, score
from data_pipelines import audit
from data_pipelines.images import read_rgb
from experiments import command, derain, evaluate, health, planted, retrain, search, workdir
from tests.running import final_state, interrupt_at, run
from tests.samples import random_genotype


def test_search_writes_its_results(search_config):
    genotype = search.search(search_config).genotype
    folder = search_config.workdir
    assert Genotype.load(folder / "genotype.json") == genotype
    genotype.check_fits(search_config.network)
    assert genotype.origin["seed"] == 3
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(record["train_loss"]) for record in records)
    assert {"held_out_loss", "cost"} <= records[0].keys()
    rows = [record["alphas"]["encoder0_block0"]["conv_a"] for record in records]
    assert all(sum(row) == pytest.approx(1.0, abs=1e-4) for row in rows)
    assert rows[5] != rows[2]
    report = (folder / "report.html").read_text()
    assert report.count("<svg") == 5
    assert "stagnation: the alphas have hardly moved" in report
    assert report.count("data:image/webp;base64,") == 1
    assert 'src="http' not in report
    assert list(folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("stop", [2, 5])
def test_stopped_and_resumed_search_equals_an_unbroken_one_bit_for_bit(search_config, monkeypatch, tmp_path, stop):
    search.search(search_config)
    broken = dataclasses.replace(search_config, workdir=tmp_path / "broken")
    with monkeypatch.context() as patch:
        interrupt_at(patch, search, stop)
        with pytest.raises(KeyboardInterrupt):
            search.search(broken)
    assert not (broken.workdir / "genotype.json").exists()
    search.search(broken)
    chex.assert_trees_all_equal(final_state(broken), final_state(search_config))
    for name in ("genotype.json", "metrics.jsonl"):
        assert (broken.workdir / name).read_text() == (search_config.workdir / name).read_text()


@pytest.mark.parametrize("algorithm", ["darts", "random"])
def test_other_algorithms_search_too(search_config, network_config, algorithm):
    network = dataclasses.replace(network_config, candidates=("conv5x5", "separable3x3"))
    search_config = dataclasses.replace(search_config, network=network)
    genotype = search.search(dataclasses.replace(search_config, algorithm=algorithm, random_paths=3)).genotype
    assert genotype.origin["algorithm"] == algorithm
    genotype.check_fits(search_config.network)
    records = [json.loads(line) for line in (search_config.workdir / "metrics.jsonl").read_text().splitlines()]
    for row in records[-1]["alphas"]["encoder0_block0"].values():
        assert sum(row) == pytest.approx(1.0, abs=1e-4)


def test_a_candidate_of_ones_own_goes_all_the_way(search_config, monkeypatch, capfd, tmp_path):
    (tmp_path / "own_candidates.py").write_text(
        "import flax.linen as nn\n"
        "from autoderain_jax import add_candidate\n\n"
        "@add_candidate\n"
        "def squares(features):\n"
        "    return nn.Sequential([nn.Conv(features, (1, 1)), lambda x: x * x])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data, folder = search_config.data, tmp_path / "search"
    options = ["--imports", "own_candidates", "--data", data, "--steps", 4, "--batch", 2, "--patch", 16]
    network = ["--network.width", 6, "--network.blocks", 1, "--network.candidates", "conv3x3", "squares"]
    try:
        assert run(monkeypatch, capfd, search, *options, *network, "--workdir", folder)[0] == 0
        genotype = folder / "genotype.json"
        content = json.loads(genotype.read_text())
        content["blocks"]["bottleneck_block0"] = {"conv_a": "conv3x3", "conv_b": "squares", "se": "on"}
        genotype.write_text(json.dumps(content))
        arguments = (*options, "--genotype", genotype, "--held-out", 0.2, "--workdir", tmp_path / "retrain")
        code, _, err = run(monkeypatch, capfd, retrain, *arguments)
        assert (code, err) == (0, "")
        model, photo = tmp_path / "retrain" / "model", next((tmp_path / "data" / "test").rglob("*.png"))
        arguments = (photo, "--model", model, "--output", tmp_path / "out")
        assert run(monkeypatch, capfd, derain, *arguments, "--imports", "own_candidates")[0] == 0
        del CANDIDATES["squares"]
        code, _, err = run(monkeypatch, capfd, derain, *arguments)
        assert code == 2
        assert "unknown candidate 'squares'" in err
        assert "--imports" in err
        code, _, err = run(monkeypatch, capfd, derain, *arguments, "--imports", "nowhere")
        assert (code, err) == (2, "error: --imports: there is no module 'nowhere' here or on the Python path\n")
    finally:
        CANDIDATES.pop("squares", None)


def test_search_by_latency_keeps_the_prices_it_measured(search_config, network_config, monkeypatch):
    network = dataclasses.replace(network_config, candidates=("conv5x5", "separable3x3"))
    config = dataclasses.replace(search_config, network=network, cost="latency", cost_weight=0.1)
    search.search(config)
    prices = json.loads((config.workdir / "prices.json").read_text())
    assert all(price > 0 for price in prices["encoder0_block0"]["conv_a"])
    monkeypatch.setitem(cost.PRICES, "latency", None)
    search.search(config)
    assert json.loads((config.workdir / "prices.json").read_text()) == prices


def test_search_stops_early_and_stays_stopped(search_config):
    config = dataclasses.replace(
        search_config, steps=40, relaxed=0.1, alphas_learning_rate=0.5, cost_weight=1e3, early_stop=8
    )
    search.search(config)
    metrics = (config.workdir / "metrics.jsonl").read_text()
    stopped = json.loads(metrics.splitlines()[-1])["step"]
    assert stopped < 40
    (config.workdir / "genotype.json").unlink()
    search.search(config)
    assert (config.workdir / "metrics.jsonl").read_text() == metrics
    assert (config.workdir / "genotype.json").exists()


def test_search_that_dies_between_checkpoints_repeats_what_was_not_saved(search_config, monkeypatch, tmp_path):
    search.search(search_config)
    broken = dataclasses.replace(search_config, workdir=tmp_path / "broken")
    save = Checkpoints.save
    with monkeypatch.context() as patch:
        # Saved after every step, but not after step 3; the power fails in step 6.
        patch.setattr(workdir, "SECONDS_PER_MINUTE", 0)
        patch.setattr(Checkpoints, "save", lambda self, step, state: step <= 3 and save(self, step, state))
        patch.setattr(health, "measures", fail_at(5, health.measures))
        with pytest.raises(RuntimeError, match="power failure"):
            search.search(broken)
    assert len((broken.workdir / "metrics.jsonl").read_text().splitlines()) == 5
    search.search(broken)
    chex.assert_trees_all_equal(final_state(broken), final_state(search_config))
    assert (broken.workdir / "metrics.jsonl").read_text() == (search_config.workdir / "metrics.jsonl").read_text()


def fail_at(call, function):
    """``function``, but raising after ``call`` calls."""
    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) > call:
            raise RuntimeError("power failure")
        return function(*args)

    return failing


def test_printed_command_trains_what_was_found(search_config, monkeypatch, capfd, tmp_path):
    search.search(search_config)
    line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("next: "))
    args = shlex.split(line)[4:]
    small = ("--steps", 1, "--patch", 16, "--batch", 1, "--held-out", 0.2, "--validations", 1)
    code, _, err = run(monkeypatch, capfd, retrain, *args, "--workdir", tmp_path / "next", *small)
    assert (code, err) == (0, "")
    model = Model.load(tmp_path / "next/model")
    assert model.config == search_config.network
    assert model.training["data"] == search_config.data


def test_finished_search_runs_again_without_change(search_config):
    search.search(search_config)
    before = {name: (search_config.workdir / name).read_text() for name in ("genotype.json", "metrics.jsonl")}
    search.search(search_config)
    assert before == {name: (search_config.workdir / name).read_text() for name in before}


def test_eager_search_runs(search_config):
    search.search(dataclasses.replace(search_config, mode="eager"))


@pytest.fixture
def genotype(retrain_config):
    genotype = random_genotype(retrain_config.network)
    genotype.save(retrain_config.genotype)
    return genotype


def test_retrain_writes_a_model_and_resumes_exactly(retrain_config, genotype, monkeypatch, tmp_path):
    model = retrain.retrain(retrain_config)
    assert model.genotype == genotype
    folder = retrain_config.workdir
    chex.assert_trees_all_equal(Model.load(folder / "model").params, jax.tree.map(np.asarray, model.params))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "held_out_psnr" in record] == [3, 6]
    assert (folder / "report.html").read_text().count("<svg") == 3

    broken = dataclasses.replace(retrain_config, workdir=tmp_path / "broken")
    with monkeypatch.context() as patch:
        interrupt_at(patch, retrain, 4)
        with pytest.raises(KeyboardInterrupt):
            retrain.retrain(broken)
    chex.assert_trees_all_equal(retrain.retrain(broken).params, model.params)
    assert (broken.workdir / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_a_model_is_trained_further(retrain_config, genotype, monkeypatch, capfd, tmp_path):
    retrain.retrain(retrain_config)
    folder = retrain_config.workdir / "model"
    before = Model.load(folder)
    options = ("--initial-model", folder, "--data", retrain_config.data, "--workdir", tmp_path / "further")
    options += ("--patch", 16, "--steps", 1, "--validations", 1, "--held-out", 0.2)
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--learning-rate", 1e-9)
    assert code == 0, err
    after = Model.load(tmp_path / "further" / "model")
    assert after.genotype == genotype
    assert after.training["initial_model"] == before.training
    chex.assert_trees_all_close(after.params, before.params, atol=1e-8)

    code, _, err = run(monkeypatch, capfd, retrain, *options, "--network.width", 5)
    assert (code, "--network is not that of --initial-model" in err) == (2, True)
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--genotype", retrain_config.genotype)
    assert (code, "give either --genotype" in err) == (2, True)
    # The folder goes on only from the weights that it began with.
    shutil.copytree(tmp_path / "further" / "model", folder, dirs_exist_ok=True)
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--learning-rate", 1e-9)
    assert (code, "holds a run with initial_model" in err) == (2, True)


def test_a_gradient_that_is_too_long_is_shortened():
    gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}

    def first_moment(clip):
        optimiser = retrain.clipped_adam(1e-3, 10, clip)
        return optax.tree_utils.tree_get(optimiser.update(gradient, optimiser.init(gradient))[1], "mu")["a"]

    np.testing.assert_allclose(first_moment(0.01), [0.1 * 0.006, 0.1 * 0.008], rtol=1e-5)
    np.testing.assert_allclose(first_moment(0.0), [0.3, 0.4], rtol=1e-5)


def test_training_reduces_the_loss(retrain_config, genotype):
    config = dataclasses.replace(retrain_config, steps=60, batch=4, learning_rate=3e-3)
    retrain.retrain(config)
    lines = (config.workdir / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_evaluate_a_model_and_its_outputs_alike(retrain_config, genotype, data_folder, tmp_path, monkeypatch, capfd):
    retrain.retrain(retrain_config)
    model = retrain_config.workdir / "model"
    scores = tmp_path / "scores"
    code, out, err = run(monkeypatch, capfd, evaluate, "--model", model, "--data", data_folder, "--workdir", scores)
    assert (code, err) == (0, "")
    assert "2 images" in out
    result = json.loads((scores / "scores.json").read_text())
    assert result["images"] == 2
    pairs = [[read_rgb(data_folder / "test" / kind / f"a{i}.png") for kind in ("rainy", "clean")] for i in range(2)]
    expected = np.mean([score(*pair)["rgb"]["psnr"] for pair in pairs])
    assert result["input"]["rgb"]["psnr"] == pytest.approx(expected)
    rows = list(csv.DictReader((scores / "scores.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["a0", "a1"]
    assert len(result["model_id"]) == 16
    assert result["macs_per_pixel"] > 100
    assert result["seconds"] > 0
    for protocol in PROTOCOLS:
        for metric in ("psnr", "ssim"):
            mean = np.mean([float(row[f"{protocol}_{metric}"]) for row in rows])
            assert result["protocols"][protocol][metric] == pytest.approx(mean)

    rainy = data_folder / "test" / "rainy"
    assert run(monkeypatch, capfd, derain, rainy, "--model", model, "--output", tmp_path / "out")[0] == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a0.png", "a1.png"}
    code, _, _ = run(
        monkeypatch, capfd, evaluate, "--predictions", tmp_path / "out", "--targets", data_folder / "test/clean",
        "--workdir", tmp_path / "again",
    )  # fmt: skip
    assert code == 0
    again = json.loads((tmp_path / "again/scores.json").read_text())
    assert again["protocols"] == result["protocols"]
    assert {path.name for path in scores.iterdir()} == {
        "scores.csv",
        "scores.json",
        "scores.md",
        "scores.tex",
        "sheet.png",
    }


def test_evaluate_compares_two_methods_image_by_image(data_folder, tmp_path, monkeypatch, capfd):
    test = data_folder / "test"
    arguments = ["--predictions", test / "rainy", "--targets", test / "clean"]
    run(monkeypatch, capfd, evaluate, *arguments, "--workdir", tmp_path / "theirs", "--sheet", "0")
    assert not (tmp_path / "theirs/sheet.png").exists()
    better = tmp_path / "half the rain"
    better.mkdir()
    for name in ("a0", "a1"):
        pair = [read_rgb(test / kind / f"{name}.png").astype(float) for kind in ("rainy", "clean")]
        Image.fromarray(np.mean(pair, 0).round().astype(np.uint8)).save(better / f"{name}.png")
    arguments[1] = better
    against = ["--against", tmp_path / "theirs/scores.csv", "--workdir", tmp_path / "mine"]
    code, out, _ = run(monkeypatch, capfd, evaluate, *arguments, *against)
    assert code == 0
    assert "higher on 100% of the images" in out
    found = json.loads((tmp_path / "mine/scores.json").read_text())["against"]["protocols"]["rgb"]["psnr"]
    # Half the difference is a quarter of the mean square.
    assert found["difference"] == pytest.approx(10 * np.log10(4), abs=0.3)
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert "half the rain" in (tmp_path / "mine/scores.md").read_text()
    code, _, err = run(monkeypatch, capfd, evaluate, *arguments, *against[:1], tmp_path / "mine/scores.json",
                       "--workdir", tmp_path / "none")  # fmt: skip
    assert code == 2
    assert "is no scores.csv of this release" in err


def spoil_truncated(folder):
    for path in (folder / "train/rainy").iterdir():
        path.write_bytes(path.read_bytes()[:-200])


BAD_DATA = {
    "missing": (lambda d: d.rename(d.with_name("gone")), "does not exist"),
    "unpaired": (lambda d: (d / "train/rainy/a1.png").unlink(), "a1.png has no partner"),
    "unequal": (lambda d: Image.new("RGB", (50, 60)).save(d / "train/rainy/a1.png"), "is 50x60 but"),
    "truncated": (spoil_truncated, "cannot read image"),
    "text": (lambda d: (d / "train/rainy/a1.png").write_text("hello"), "a1.png is not an image that can be read"),
}


@pytest.mark.parametrize("fault", BAD_DATA)
def test_search_refuses_bad_data_in_one_sentence(search_config, data_folder, monkeypatch, capfd, fault):
    spoil, sentence = BAD_DATA[fault]
    spoil(data_folder)
    code, _, err = run(
        monkeypatch, capfd, search, "--data", data_folder, "--workdir", search_config.workdir,
        "--patch", 16, "--steps", 2, "--network.width", 4,
    )  # fmt: skip
    assert code == 2
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--patch", 64), "smaller than --patch 64"),
        (("--steps", 0), "--steps must be positive"),
        (("--seed", -1), "--seed must be in"),
        (("--relaxed", 1.5), "--relaxed must be in [0, 1)"),
        (("--loss", "l7"), "unknown loss 'l7'"),
        (("--network.candidates", "conv3x3", "conv4x4"), "unknown candidate 'conv4x4'"),
        (("--network.dtype", "int8"), "--network.dtype must be"),
    ],
)
def test_search_refuses_bad_options_in_one_sentence(data_folder, tmp_path, monkeypatch, capfd, options, sentence):
    args = ("--data", data_folder, "--workdir", tmp_path / "w", *options)
    code, _, err = run(monkeypatch, capfd, search, *args)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_workdir_of_another_configuration_is_refused_and_kept(search_config, genotype, retrain_config):
    search.search(search_config)
    before = (search_config.workdir / "metrics.jsonl").read_text()
    for other, act in (
        (dataclasses.replace(search_config, seed=4), search.search),
        (dataclasses.replace(retrain_config, workdir=search_config.workdir), retrain.retrain),
    ):
        with pytest.raises(command.InputError, match=r"holds a run (with|of another kind)"):
            act(other)
    assert (search_config.workdir / "metrics.jsonl").read_text() == before


def test_retrain_refuses_bad_genotypes(genotype, retrain_config, data_folder, tmp_path, monkeypatch, capfd):
    text = retrain_config.genotype.read_text()
    faults = {
        text.replace('"version": 1', '"version": 9'): "genotype version 9",
        text.replace(genotype.blocks["encoder0_block0"]["conv_a"], "conv8x8"): "unknown candidate 'conv8x8'",
        text.replace("encoder0_block0", "encoder5_block0"): "does not fit a network",
    }
    for content, sentence in faults.items():
        retrain_config.genotype.write_text(content)
        args = ("--genotype", retrain_config.genotype, "--data", data_folder, "--workdir", tmp_path / "w")
        code, _, err = run(monkeypatch, capfd, retrain, *args, "--patch", 16)
        assert code == 2
        assert sentence in err
        assert err.count("\n") == 1
    code, _, err = run(monkeypatch, capfd, retrain, "--workdir", tmp_path / "w")
    assert (code, "give either --genotype" in err) == (2, True)


@pytest.mark.parametrize(
    ("module", "args", "sentence"),
    [
        (evaluate, ("--workdir", "w"), "give either --model, or --predictions"),
        (evaluate, ("--workdir", "w", "--predictions", "p"), "--predictions and --targets belong together"),
        (evaluate, ("--workdir", "w", "--model", "none"), "cannot read model none/model.json"),
        (evaluate, ("--workdir", "w", "--predictions", "p", "--targets", "t"), "p is not a folder"),
        (derain, ("photo.jpg", "--output", "out"), "input photo.jpg does not exist"),
    ],
)
def test_missing_inputs_are_named(tmp_path, monkeypatch, capfd, module, args, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capfd, module, *args)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("module", [search, retrain, evaluate, derain, planted, audit])
def test_help_explains_every_option_with_its_default(monkeypatch, capfd, module):
    code, out, _ = run(monkeypatch, capfd, module, "--help")
    assert code == 0
    config = next(
        c
        for name, c in inspect.getmembers(module, inspect.isclass)
        if c.__module__.startswith(("experiments", "data_pipelines"))
        and name.endswith("Config")
        and name.lower().startswith(module.__name__.split(".")[1][:6])
    )
    positional = ("data",) if module is audit else ()
    options = [field.name for field in dataclasses.fields(config) if field.name not in ("inputs", *positional)]
    assert len(options) >= 2
    for name in options:
        # A dot is followed by the options of a part.
        assert re.search(rf"--{name.replace('_', '-')}[ .]", out)
    assert out.count("(default:") + out.count("(required)") >= len(options)


def test_library_needs_no_tensorflow_and_prints_nothing():
    code = "import sys, autoderain_jax; sys.exit('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
