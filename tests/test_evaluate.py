"""Evaluation: scores of a model, of any method, and of one against another."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from autoderain_jax.metrics import PROTOCOLS, score
from data_pipelines.images import read_rgb
from experiments import derain, evaluate, retrain
from tests.running import run


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
