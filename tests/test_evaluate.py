"""Evaluation: scores of a model, of any method, and of one against another."""

import csv
import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import PROTOCOLS, score
from data_pipelines.images import read_rgb
from experiments import derain, evaluate, retrain
from experiments.evaluate import EvaluateConfig
from experiments.figures import contact_sheet
from tests.running import run
from tests.samples import write_pairs


@pytest.fixture
def two_methods(tmp_path):
    """Folders of scores: of rainy images, which data sets call rain-1, and of the clean ones, called norain-1."""
    write_pairs(tmp_path / "pairs", [(20, 16), (16, 24)])
    for kind, decoration in (("rainy", "rain-"), ("clean", "norain-")):
        for file in sorted((tmp_path / "pairs" / kind).iterdir()):
            file.rename(file.with_name(decoration + file.name))
        predicted, targets = tmp_path / "pairs" / kind, tmp_path / "pairs/clean"
        evaluate.evaluate(EvaluateConfig(tmp_path / kind, predictions=predicted, targets=targets, sheet=0))
    return tmp_path / "rainy", tmp_path / "clean"


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
    assert result["device"] == "cpu"
    said = f"{result['parameters']:,} parameters, {result['macs_per_pixel']:,.0f} MACs a pixel, "
    assert f"{said}{result['seconds']:.3g} s an image (median) on cpu\n" in out
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


def test_scores_are_compared_without_images(two_methods, tmp_path, monkeypatch, capfd):
    rainy, clean = (folder / "scores.csv" for folder in two_methods)
    arguments = ("--scores", rainy, "--against", clean, "--workdir", tmp_path / "out")
    code, out, err = run(monkeypatch, capfd, evaluate, *arguments)
    assert (code, err) == (0, "")
    assert "2 images" in out
    assert f"against {clean}, y-matlab: infinite, higher on 0% of the images" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(evaluate.FILES)
    result, written = (json.loads((folder / "scores.json").read_text()) for folder in (tmp_path / "out", rainy.parent))
    assert result["scores"] == str(rainy)
    assert [result[key] for key in ("images", "protocols", "interval")] == [
        written[key] for key in ("images", "protocols", "interval")
    ]
    assert result["against"]["file"] == str(clean)
    assert (tmp_path / "out/scores.csv").read_bytes() == rainy.read_bytes()
    assert "| rainy |" in (tmp_path / "out/scores.md").read_text()
    # Without --against they are summed up.
    assert "against" not in evaluate.evaluate(EvaluateConfig(tmp_path / "alone", scores=rainy))


def test_a_workdir_that_cannot_be_written_is_refused_before_anything_is_scored(tmp_path, two_methods, monkeypatch):
    monkeypatch.setattr(evaluate, "_measure", None)
    (tmp_path / "file").touch()
    pairs = {"predictions": tmp_path / "pairs/rainy", "targets": tmp_path / "pairs/clean"}
    with pytest.raises(InputError, match=f"cannot write {tmp_path}/file/out: Not a directory"):
        evaluate.evaluate(EvaluateConfig(tmp_path / "file/out", **pairs))


def test_scores_on_a_full_disk_leave_those_of_before(tmp_path, two_methods, monkeypatch):
    rainy, clean = (folder / "scores.csv" for folder in two_methods)
    config = EvaluateConfig(tmp_path / "out", scores=rainy)
    evaluate.evaluate(config)
    before = {path: path.read_bytes() for path in config.workdir.iterdir()}
    write = Path.write_bytes

    def full(path, content):
        if path.name.startswith("scores.tex"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*scores\.tex.*: No space left on device"):
        evaluate.evaluate(dataclasses.replace(config, scores=clean))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("kind", ["predictions", "targets"])
def test_a_sheet_is_not_put_among_images(tmp_path, two_methods, kind):
    pairs = {"predictions": tmp_path / "pairs/rainy", "targets": tmp_path / "pairs/clean"}
    before = sorted(pairs[kind].iterdir())
    with pytest.raises(InputError, match=r"holds images, to which sheet\.png would be added: give another folder"):
        evaluate.evaluate(EvaluateConfig(pairs[kind], **pairs))
    assert sorted(pairs[kind].iterdir()) == before
    evaluate.evaluate(EvaluateConfig(pairs[kind], **pairs, sheet=0))
    # That of an earlier start is replaced, or gone.
    for _ in range(2):
        evaluate.evaluate(EvaluateConfig(tmp_path / "scores", **pairs))
    assert (tmp_path / "scores/sheet.png").exists()
    evaluate.evaluate(EvaluateConfig(tmp_path / "scores", **pairs, sheet=0))
    assert not (tmp_path / "scores/sheet.png").exists()


def test_a_sheet_shows_images_of_any_form():
    flat = np.zeros((11, 20_000, 3), np.uint8)
    assert contact_sheet([("flat", [flat] * 3)], 1200).size == (1200, 21)


@pytest.mark.parametrize("held", [0, 1])
def test_scores_that_are_read_are_not_overwritten(two_methods, held):
    rainy, clean = (folder / "scores.csv" for folder in two_methods)
    before = [path.read_bytes() for path in (rainy, clean)]
    with pytest.raises(InputError, match=f"would overwrite --{('scores', 'against')[held]} .*scores.csv: give another"):
        evaluate.evaluate(EvaluateConfig(two_methods[held], scores=rainy, against=clean))
    assert [path.read_bytes() for path in (rainy, clean)] == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "d"}, "--data belongs to --model, not to --scores"),
        ({"pool_window": 8}, "--pool-window belongs to --model, not to --scores"),
        ({"scales": "auto"}, "--scales belongs to --model, not to --scores"),
        ({"targets": "t"}, "--targets belongs to --predictions, not to --scores"),
        ({"sheet": 1}, "--sheet belongs to --model or --predictions, not to --scores"),
        ({"model": "m"}, "give either --model, or --predictions with --targets, or --scores"),
        ({"scores": None, "predictions": "p", "targets": "t", "ensemble": 4}, "--ensemble belongs to --model, not"),
        ({"dtype": "bfloat16"}, "--dtype belongs to --model, not to --scores"),
        ({"scores": None, "model": "m", "targets": "t"}, "--targets belongs to --predictions, not to --model"),
        ({}, r"cannot read --scores s\.csv: No such file"),
    ],
)
def test_options_belong_to_what_is_scored(tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate.evaluate(EvaluateConfig(**{"workdir": tmp_path / "out", "scores": Path("s.csv"), **options}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["{}_out", "rain-{}_derained", "{}-Restored", "{} output", "{}_fake_B", "{}_rain_pred"]
)
def test_outputs_have_suffixes_of_their_methods(two_methods, tmp_path, name):
    rainy = tmp_path / "pairs/rainy"
    for i in range(2):
        (rainy / f"rain-a{i}.png").rename(rainy / f"{name.format(f'a{i}')}.png")
    result = evaluate.evaluate(
        EvaluateConfig(
            tmp_path / "out",
            predictions=rainy,
            targets=tmp_path / "pairs/clean",
            against=two_methods[0] / "scores.csv",
            sheet=0,
        )
    )
    assert result["against"]["protocols"]["rgb"]["psnr"]["difference"] == 0.0
