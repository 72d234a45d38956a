"""The benchmarks' form and what they must be able to tell; figures are for runs by hand."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import uniform
from experiments.benchmark import inference as inference_module
from experiments.benchmark import steps, timing
from experiments.benchmark.inference import InferenceConfig, inference
from experiments.benchmark.memory import MemoryConfig, memory
from experiments.benchmark.speed import SpeedConfig, speed
from experiments.benchmark.timing import ratio
from experiments.benchmark.training import TrainingConfig, training
from experiments.config import SearchConfig
from experiments.programs import Programs, predict


@pytest.fixture(autouse=True)
def little(monkeypatch, network_config):
    """A preset that compiles fast."""
    config = SearchConfig(batch=8, patch=64, network=dataclasses.replace(network_config, width=12, blocks=(1, 1)))
    monkeypatch.setattr(steps, "search_preset", lambda preset: config)


def test_memory_tells_mdarts_from_darts_and_states_the_bank(capsys, tmp_path):
    config = MemoryConfig(algorithms=("mdarts", "darts"), candidates=(2,), json=True, plot=tmp_path / "memory.svg")
    rows = memory(config)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    by_name = {(row["varied"], row["algorithm"], row["step"]): row for row in rows}
    assert {name[1:] for name in by_name if name[0] == "preset"} == {
        ("single", "weights"),
        *(("mdarts", step) for step in ("weights", "gates", "both")),
        *(("darts", step) for step in ("weights", "gates", "both")),
    }
    for (_, algorithm, _), row in by_name.items():
        assert row["benchmark"] == "memory"
        assert row["temp_bytes"] > 0
        assert row["ratio_to_single"] == pytest.approx(
            row["temp_bytes"] / by_name[row["varied"], "single", "weights"]["temp_bytes"]
        )
        if algorithm == "mdarts":
            assert row["ratio_to_single"] <= 1.05
            # One shared kernel: nothing but the alphas and their optimiser comes to what the single model holds.
            assert 0 <= row["bank_bytes"] < 2000
    assert by_name["preset", "darts", "weights"]["ratio_to_single"] > 1.5
    assert by_name["preset", "darts", "weights"]["bank_bytes"] > 10_000
    assert by_name["candidates", "darts", "weights"]["temp_bytes"] < by_name["preset", "darts", "weights"]["temp_bytes"]
    assert (tmp_path / "memory.svg").read_text().startswith("<svg")


def test_speed_runs_every_step_in_turn(capsys):
    rows = speed(SpeedConfig(algorithms=("random",), batches=(2,), rounds=6, json=True))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [(row["algorithm"], row["step"], row["batch"]) for row in rows] == [
        ("single", "weights", 8),
        ("random", "weights", 8),
        ("single", "weights", 2),
        ("random", "weights", 2),
    ]
    assert all(row["ratio_low"] <= row["ratio_to_single"] <= row["ratio_high"] for row in rows)
    assert rows[0]["ratio_to_single"] == 1.0


def test_steps_are_those_of_the_network_that_a_genotype_was_searched_with(tmp_path, network_config):
    network = dataclasses.replace(network_config, width=7, blocks=(1,))
    found = uniform(network, "conv3x3")
    path = tmp_path / "genotype.json"
    dataclasses.replace(found, origin={"network": dataclasses.asdict(network)}).save(path)
    (setting,) = steps.settings(MemoryConfig(genotype=path, dtype="bfloat16"))
    assert setting.config.network == dataclasses.replace(network, dtype="bfloat16")
    assert setting.value == "small, network of genotype.json"
    found.save(path)
    with pytest.raises(InputError, match=r"genotype\.json does not fit a network with blocks \(1, 1\)"):
        next(steps.settings(MemoryConfig(genotype=path)))


def test_ratio_is_the_median_over_rounds_with_its_interval():
    base = [1.0] * 25
    measured = [1.0 + i / 100 for i in range(25)]
    interval = ratio(measured, base)
    assert interval["median"] == pytest.approx(1.12)
    assert interval["low"] == pytest.approx(1.07)
    assert interval["high"] == pytest.approx(1.17)
    assert ratio(measured[:6], base[:6]) == pytest.approx({"median": 1.025, "low": 1.0, "high": 1.05})
    assert ratio(measured[:5], base[:5]) == {"median": 1.02, "low": None, "high": None}


def test_senseless_options_are_named(tmp_path):
    with pytest.raises(InputError, match="--candidates must be 2 to 10, not 11"):
        memory(MemoryConfig(candidates=(11,)))
    with pytest.raises(InputError, match="--algorithms names none"):
        memory(MemoryConfig(algorithms=()))
    with pytest.raises(InputError, match="--sizes names none"):
        inference(InferenceConfig(sizes=()))
    with pytest.raises(InputError, match="--presets are measured unless there is a --model"):
        inference(InferenceConfig(model=Path("fast"), presets=("tiny",)))
    with pytest.raises(InputError, match="--plot must end in"):
        memory(MemoryConfig(plot=tmp_path / "memory.png"))
    with pytest.raises(InputError, match="--plot: there is no folder"):
        memory(MemoryConfig(plot=tmp_path / "none" / "memory.svg"))
    with pytest.raises(InputError, match="--rounds must be positive"):
        speed(SpeedConfig(rounds=0))
    with pytest.raises(InputError, match="--rounds must be positive"):
        training(TrainingConfig(rounds=0))
    with pytest.raises(InputError, match="--batch must be positive"):
        training(TrainingConfig(batch=0))
    with pytest.raises(InputError, match="--batch 8 cannot be shared equally in 3 parts"):
        training(TrainingConfig(accumulate=3))


def test_actions_are_queued_on_an_accelerator_alone(monkeypatch):
    began = []
    timing.seconds_queued(lambda: began.append(0))
    assert len(began) == 1
    monkeypatch.setattr(timing, "on_accelerator", lambda: True)
    assert timing.seconds_queued(lambda: began.append(0)) > 0
    assert len(began) == 1 + timing.QUEUED


def test_training_tells_what_each_step_costs_and_traces_it(capsys, tmp_path, network_config):
    # Of a single level, which compiles faster than the preset's two.
    network = dataclasses.replace(network_config, width=12, blocks=(1,))
    genotype = dataclasses.replace(uniform(network, "conv3x3", "off"), origin={"network": dataclasses.asdict(network)})
    genotype.save(tmp_path / "plain.json")
    rows = training(
        TrainingConfig(
            preset="tiny",
            genotype=tmp_path / "plain.json",
            search=True,
            batch=4,
            patch=32,
            accumulate=2,
            dtype="bfloat16",
            rounds=2,
            trace=tmp_path / "trace",
            json=True,
        )
    )
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == rows
    by_step = {(row["network"], row["step"]): row for row in rows}
    assert set(by_step) == {("plain", "train"), ("mdarts", "weights"), ("mdarts", "gates")}
    for (network, step), row in by_step.items():
        assert (row["batch"], row["patch"], row["dtype"]) == (4, 32, "bfloat16")
        assert row["accumulate"] == 2
        assert row["patches_per_second"] == pytest.approx(4 * row["steps_per_second"])
        assert row["flops"] == pytest.approx(row["xla_flops"], rel=0.15)
        assert row["share_of_peak"] > 0
        assert row["predicted_bytes"] > 0
        assert row["allocator_peak_bytes"] is None
        folder = tmp_path / "trace" / f"{network}-{step}"
        assert f"trace: {folder}\n" in err
        assert {path.suffix for path in folder.rglob("*.*")} == {".pb", ".gz"}


def test_prediction_says_what_to_lower_when_it_will_not_fit(monkeypatch):
    x = jax.ShapeDtypeStruct((1000, 1000), "float32")
    programs = Programs()
    multiply = programs(lambda x, y: x * y, (0,))
    compiled = programs.ahead(multiply, x, x)
    # What is given, 8 MB, gives its memory to what is returned; what is not, 4 MB, is new.
    assert [run.extra for run in compiled] == [0]
    assert [run.extra for run in programs.ahead(programs(lambda x, y: x * y), x, x)] == [4_000_000]
    # What one program hands to the next is counted where it is taken.
    handing = programs.ahead(lambda x, y: multiply(programs(jnp.add)(x, y), y), x, x)
    assert [run.extra for run in handing] == [4_000_000, 4_000_000]
    monkeypatch.setattr("autoderain_jax.memory.of_device", lambda: 10_000_000)
    assert predict(compiled, 8_000_000) == "predicted peak memory: 8 MB of 10 MB"
    monkeypatch.setattr("autoderain_jax.memory.of_device", lambda: 1_000_000)
    assert "will not fit: lower --batch, --patch" in predict(compiled, 8_000_000)


def test_inference_tells_time_memory_and_the_share_of_the_peak(capsys, tmp_path):
    sizes = ("50x41", "100x82")
    rows = inference(InferenceConfig(presets=("tiny",), sizes=sizes, rounds=3, json=True, trace=tmp_path))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [(row["dtype"], row["height"]) for row in rows] == [
        (d, h) for d in ("float32", "bfloat16") for h in (41, 82)
    ]
    for row in rows:
        assert row["milliseconds"] > 0
        assert 0 < row["share_of_peak"] < 1
        assert row["peak_bytes"] is None or row["peak_bytes"] > 10**8
        folder = tmp_path / f"tiny-{row['dtype']}-{row['width']}x{row['height']}"
        assert {path.suffix for path in folder.rglob("*.*")} == {".pb", ".gz"}


def test_a_small_image_does_not_inherit_the_memory_of_a_large_one_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(inference_module, "on_accelerator", lambda: True)
    sizes = ("100x82", "50x41", "100x82")
    rows = inference(InferenceConfig(presets=("tiny",), sizes=sizes, dtypes=("float32",), rounds=1, json=True))
    large, small, again = (row["peak_bytes"] for row in rows)
    assert 0 < small < large / 2
    assert again == large


@pytest.mark.parametrize("size", ["50", "0x10", "ax3", "-3x4"])
def test_inference_refuses_senseless_sizes(size):
    with pytest.raises(InputError, match="--sizes needs WIDTHxHEIGHT"):
        inference(InferenceConfig(sizes=(size,)))
