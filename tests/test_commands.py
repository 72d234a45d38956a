"""What all commands have in common: candidates of one's own, help, and what they say to bad input."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from autoderain_jax.candidates import CANDIDATES
from data_pipelines import audit
from experiments import command, derain, evaluate, retrain, search
from experiments.planted import __main__ as planted
from tests.running import run


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
        (("--learning-rate", "inf"), "--learning-rate must be positive, not inf"),
        (("--cost-weight", "inf"), "--cost-weight must not be negative, not inf"),
        (("--patch", 5000), "--patch must be at most 4096"),
        (("--data-root", "."), "--data-root is for data sets that are known by name"),
        (("--algorithm", "random", "--early-stop", 3), "--early-stop is no way of random"),
        (("--pull", 0.1), "--pull needs --mode eager"),
        (("--random-paths", 3), "--random-paths is a way of random, not of mdarts"),
        (("--synthetic-renderings", 2), "--synthetic-renderings needs --synthetic-rain"),
        (("--swap-rain", 1.5), "--swap-rain must be in [0, 1], not 1.5"),
        (("--imports=",), "--imports: '' is no name of a module"),
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


def test_a_run_older_than_an_option_goes_on_with_its_default(search_config):
    search.search(search_config)
    path = search_config.workdir / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "swap_rain"}))
    search.search(search_config)
    with pytest.raises(command.InputError, match=r"holds a run with swap_rain = 0.0, not 0.5"):
        search.search(dataclasses.replace(search_config, swap_rain=0.5))


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


def test_a_platform_that_is_not_there_is_told(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    command_line = [sys.executable, "-m", "experiments.derain", tmp_path / "photo.png", "--output", tmp_path / "out"]
    environment = dict(os.environ, JAX_PLATFORMS="none_such")
    ended = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "error: JAX_PLATFORMS=none_such, but JAX finds no such device here: unset it" in ended.stderr
    assert "Traceback" not in ended.stderr
