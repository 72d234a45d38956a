"""The search as a command: its files, resuming bit for bit, and what it goes on to."""

import dataclasses
import json
import shlex
import signal

import chex
import numpy as np
import pytest

from autoderain_jax import Genotype, InputError, Model, cost, proximal
from autoderain_jax.checkpoints import Checkpoints
from experiments import health, retrain, search, workdir
from tests.running import final_state, interrupt_at, run


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


@pytest.mark.parametrize(("stop", "number"), [(2, signal.SIGINT), (5, signal.SIGTERM)])
def test_stopped_and_resumed_search_equals_an_unbroken_one_bit_for_bit(
    search_config, monkeypatch, tmp_path, stop, number
):
    search.search(search_config)
    broken = dataclasses.replace(search_config, workdir=tmp_path / "broken")
    with monkeypatch.context() as patch:
        interrupt_at(patch, search, stop, number)
        with pytest.raises(KeyboardInterrupt):
            search.search(broken)
    assert not (broken.workdir / "genotype.json").exists()
    search.search(broken)
    chex.assert_trees_all_equal(final_state(broken), final_state(search_config))
    for name in ("genotype.json", "metrics.jsonl"):
        assert (broken.workdir / name).read_text() == (search_config.workdir / name).read_text()


def test_search_in_parts_is_that_on_whole_batches(search_config, tmp_path):
    search.search(search_config)
    in_parts = dataclasses.replace(search_config, workdir=tmp_path / "parts", accumulate=2)
    search.search(in_parts)
    whole, parts = (final_state(config) for config in (search_config, in_parts))
    chex.assert_trees_all_close(parts.alphas, whole.alphas, rtol=0, atol=1e-5)
    chex.assert_trees_all_close(parts.params, whole.params, rtol=0, atol=1e-3)


def test_only_a_search_in_stages_takes_parts(search_config):
    for own in ({"algorithm": "darts"}, {"kernels": "own"}):
        with pytest.raises(InputError, match="--accumulate is a way of mdarts with shared kernels"):
            dataclasses.replace(search_config, accumulate=2, **own).check()
    with pytest.raises(InputError, match="--accumulate must be at least 1"):
        dataclasses.replace(search_config, accumulate=0).check()


@pytest.mark.parametrize("algorithm", ["darts", "folded", "nasp", "proxyless", "random"])
def test_other_algorithms_search_too(search_config, network_config, algorithm):
    network = dataclasses.replace(network_config, candidates=("conv5x5", "separable3x3"))
    search_config = dataclasses.replace(search_config, network=network)
    own = {"random_paths": 3} if algorithm == "random" else {}
    genotype = search.search(dataclasses.replace(search_config, algorithm=algorithm, **own)).genotype
    assert genotype.origin["algorithm"] == algorithm
    genotype.check_fits(search_config.network)
    records = [json.loads(line) for line in (search_config.workdir / "metrics.jsonl").read_text().splitlines()]
    report = (search_config.workdir / "report.html").read_text()
    if algorithm == "random":
        # Which has none.
        assert records[-1].keys() == {"step", "train_loss"}
        assert ("Health" in report, report.count("<svg")) == (False, 2)
        return
    assert ("Health" in report, report.count("<svg")) == (True, 5)
    for row in records[-1]["alphas"]["encoder0_block0"].values():
        assert sum(row) == pytest.approx(1.0, abs=1e-4)


def test_search_by_latency_keeps_the_prices_it_measured(search_config, network_config, monkeypatch):
    network = dataclasses.replace(network_config, candidates=("conv5x5", "separable3x3"))
    config = dataclasses.replace(search_config, network=network, cost="latency", cost_weight=0.1)
    search.search(config)
    prices = json.loads((config.workdir / "prices.json").read_text())
    assert all(price > 0 for price in prices["encoder0_block0"]["conv_a"])
    monkeypatch.setitem(cost.PRICES, "latency", None)
    search.search(config)
    assert json.loads((config.workdir / "prices.json").read_text()) == prices


def test_the_eager_pull_is_strongest_when_alphas_move_for_the_last_time(search_config, monkeypatch):
    made = []

    def proximal_gradient(rate, mode, pull):
        made.append(pull)
        return proximal.proximal_gradient(rate, mode, pull)

    monkeypatch.setattr(search, "proximal_gradient", proximal_gradient)
    config = dataclasses.replace(search_config, mode="eager", pull=0.5, relaxed=0.5)
    search.search(config)
    assert [float(made[0](step)) for step in (0, config.relaxed_steps)] == [0.0, 0.5]
    # None of many steps is one rather than another way of searching.
    assert dataclasses.replace(search_config, relaxed=0.001).relaxed_steps == 1
    assert dataclasses.replace(search_config, relaxed=0.0).relaxed_steps == 0


def test_search_stops_early_and_stays_stopped(search_config, capfd):
    config = dataclasses.replace(
        search_config, steps=40, relaxed=0.1, alphas_learning_rate=0.5, cost_weight=1e3, early_stop=8
    )
    search.search(config)
    metrics = (config.workdir / "metrics.jsonl").read_text()
    stopped = json.loads(metrics.splitlines()[-1])["step"]
    assert stopped < 40
    assert f"finished early, at step {stopped} of 40" in capfd.readouterr().out
    assert Genotype.load(config.workdir / "genotype.json").origin["steps"] == stopped
    report = (config.workdir / "report.html").read_text()
    assert f"seed 3, {stopped} of 40 steps." in report
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
    code, _, err = run(monkeypatch, capfd, retrain, *args, *small)
    assert (code, err) == (0, "")
    model = Model.load(search_config.workdir / "retrain/model")
    assert model.config == search_config.network
    assert model.training["data"] == search_config.data


def test_finished_search_runs_again_without_change(search_config):
    search.search(search_config)
    before = {name: (search_config.workdir / name).read_text() for name in ("genotype.json", "metrics.jsonl")}
    search.search(search_config)
    assert before == {name: (search_config.workdir / name).read_text() for name in before}


def test_eager_search_runs(search_config):
    search.search(dataclasses.replace(search_config, mode="eager"))
