"""The commands on data of other kinds and by other streams, and the pipeline's benchmark."""

import csv
import dataclasses
import json
import subprocess
import sys

import chex
import pytest
from PIL import Image

from data_pipelines import audit, open_pairs
from experiments import evaluate, retrain, search
from experiments.benchmark import __main__ as benchmark
from experiments.config import open_training
from tests.running import final_state, interrupt_at, run


def test_data_set_given_by_name_in_every_command(search_config, data_folder, tmp_path, monkeypatch, capfd):
    for part, home in (("train", "RainTrainL"), ("test", "test/Rain100L")):
        (tmp_path / "root" / home).mkdir(parents=True)
        for path in sorted((data_folder / part).rglob("*.png")):
            kind = {"rainy": "rain", "clean": "norain"}[path.parent.name]
            name = f"{kind}-{int(path.stem[1:]) + 1}.png"
            place = tmp_path / "root" / home / ("rainy" if (part, kind) == ("test", "rain") else "")
            place.mkdir(exist_ok=True)
            path.rename(place / name)
    config = dataclasses.replace(search_config, data="rain100l", data_root=tmp_path / "root", steps=2)
    search.search(config)
    monkeypatch.chdir(tmp_path)
    genotype = config.workdir / "genotype.json"
    code, out, _ = run(
        monkeypatch, capfd, retrain, "--genotype", genotype, "--workdir", "r", "--steps", 1, "--patch", 16,
        "--validations", 1,
    )  # fmt: skip
    assert code == 0
    assert "4 training pairs, 1 held out" in out
    scoring = ("--data", "rain100l", "--data-root", "root", "--model", "r/model", "--workdir", "s")
    assert run(monkeypatch, capfd, evaluate, *scoring)[0] == 0
    scores = json.loads((tmp_path / "s/scores.json").read_text())
    assert scores["images"] == 2
    code, out, _ = run(monkeypatch, capfd, audit, "rain100l", "--data-root", "root", "--json")
    assert code == 1
    report = json.loads(out)
    assert {finding["kind"] for finding in report["findings"]} <= {"count", "score", "mismatched", "duplicate", "leak"}
    for name in ("fingerprint", "clean_fingerprint"):
        assert scores[name] == report["parts"]["test"][name]
    for protocol, means in report["parts"]["test"]["input"].items():
        assert scores["input"][protocol] == pytest.approx(means)


def test_run_resumes_with_another_stream_bit_for_bit(search_config, monkeypatch, tmp_path):
    search.search(dataclasses.replace(search_config, stream="tf"))
    broken = dataclasses.replace(search_config, workdir=tmp_path / "broken", stream="device")
    with monkeypatch.context() as patch:
        interrupt_at(patch, search, 4)
        with pytest.raises(KeyboardInterrupt):
            search.search(broken)
    search.search(dataclasses.replace(broken, stream="tf"))
    chex.assert_trees_all_equal(final_state(broken), final_state(search_config))
    assert (broken.workdir / "metrics.jsonl").read_text() == (search_config.workdir / "metrics.jsonl").read_text()


def test_training_on_small_data_needs_no_tensorflow():
    code = """
import sys
import data_pipelines.audit, experiments.evaluate, experiments.retrain, experiments.search
from data_pipelines import open_pairs
from data_pipelines.batches import as_floats, batches
from data_pipelines.sampling import Sampling
as_floats(next(batches(open_pairs("synthetic", "test"), Sampling(16, 2, 0))))
sys.exit("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_synthetic_rain_is_added_to_training_and_held_out_images(search_config):
    plain = open_training(search_config)
    train, held_out = open_training(dataclasses.replace(search_config, synthetic_rain="light", synthetic_renderings=2))
    assert len(train) == 3 * len(plain[0])
    assert len(held_out) == 3 * len(plain[1])
    assert not {pair.background for pair in train} & {pair.background for pair in held_out}


def test_pipeline_benchmark_prints_a_json_line_for_each_stream(data_folder, monkeypatch, capfd):
    for pair in (data_folder / "train").rglob("*.png"):
        Image.open(pair).resize((70, 70)).save(pair)
    options = ("--presets", "tiny", "--data", data_folder, "--seconds", 0.01, "--rounds", 6, "--batches", 20, "--json")
    code, out, _ = run(monkeypatch, capfd, benchmark, "pipeline", *options)
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["benchmark"], row["stream"]) for row in rows] == [("pipeline", "device"), ("pipeline", "tf")]
    for row in rows:
        assert row["consumed_per_second"] == pytest.approx(4 / row["step_seconds"])
        assert row["patches_per_second"] > row["consumed_per_second"]
        assert abs(row["memory_growth_mb"]) < 64
        assert row["overhead"]["low"] <= row["overhead"]["median"] <= row["overhead"]["high"]


def test_benchmarks_are_listed_and_unknown_ones_refused(monkeypatch, capfd):
    code, out, _ = run(monkeypatch, capfd, benchmark, "--help")
    assert (code, "pipeline" in out) == (0, True)
    code, _, err = run(monkeypatch, capfd, benchmark, "speeed")
    listed = "memory, speed, training, inference, pipeline"
    assert (code, err) == (2, f"error: there is no benchmark 'speeed'; there are {listed}\n")


def test_held_out_images_are_scored_alone(data_folder, monkeypatch, capfd, tmp_path):
    names = [pair.name for pair in open_pairs(str(data_folder), "train").hold_out(0.4)[1]]
    scoring = ("--data", data_folder, "--model", "fast", "--workdir", tmp_path / "s", "--split", "train")
    assert run(monkeypatch, capfd, evaluate, *scoring, "--held-out", 0.4)[0] == 0
    with (tmp_path / "s/scores.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == names
    code, _, err = run(monkeypatch, capfd, evaluate, *scoring, "--held-out", 1)
    assert (code, err) == (2, "error: --held-out must be in [0, 1), not 1.0\n")
