"""The comparison at its smallest: the form of its results, equal cost, and resuming."""

import dataclasses
import json

import pytest

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import uniform
from autoderain_jax.network import NetworkConfig
from experiments import compare as module
from experiments.compare import NETWORK_COSTS, CompareConfig, compare, width_for
from tests.samples import write_pairs


def test_scores_that_are_infinite_have_no_spread():
    assert module._spread([30.0, 31.0], "dB") == "30.50 ± 0.71 dB"
    assert module._spread([30.0, float("inf")], "dB") == "inf dB"


@pytest.mark.parametrize("kind", list(NETWORK_COSTS))
def test_width_gives_every_network_the_cost_of_the_reference(kind):
    config = NetworkConfig(width=24, blocks=(1, 1))
    cost = NETWORK_COSTS[kind]
    target = cost(config, uniform(config, "conv3x3").choices)
    assert width_for(kind, config, uniform(config, "conv3x3"), target) == 24
    for name in ("conv5x5", "separable3x3"):
        genotype = uniform(config, name)
        width = width_for(kind, config, genotype, target)
        assert (width < 24) == (name == "conv5x5")
        costs = [cost(dataclasses.replace(config, width=w), genotype.choices) for w in (width - 1, width, width + 1)]
        assert abs(costs[1] - target) <= min(abs(costs[0] - target), abs(costs[2] - target))


def test_comparison_scores_every_contender_with_every_seed_and_resumes(
    search_config, retrain_config, monkeypatch, tmp_path
):
    network = dataclasses.replace(search_config.network, candidates=("conv3x3", "conv5x5"), blocks=(1,))
    monkeypatch.setattr(module, "search_preset", lambda preset: dataclasses.replace(search_config, network=network))
    monkeypatch.setattr(module, "retrain_preset", lambda preset: dataclasses.replace(retrain_config, network=network))
    config = CompareConfig(
        workdir=tmp_path / "comparison",
        contenders=("mdarts", "conv3x3"),
        seeds=2,
        data=search_config.data,
        cost="params",
        search_steps=4,
        retrain_steps=2,
    )
    rows = compare(config)
    assert [(row["contender"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in config.contenders
    ]
    assert json.loads((config.workdir / "results.json").read_text()) == rows
    by_name = {row["contender"]: row for row in rows}
    assert by_name["conv3x3"]["width"] == network.width
    reference = uniform(network, "conv3x3").choices
    assert by_name["conv3x3"]["parameters"] == NETWORK_COSTS["params"](network, reference)
    assert by_name["conv3x3"]["macs_per_pixel"] == NETWORK_COSTS["macs"](network, reference)
    assert '"cost": "params"' in (config.workdir / "mdarts-0" / "search" / "config.json").read_text()
    assert all(row["psnr"] > 10 for row in rows)
    told = {name: by_name["mdarts"][name] for name in ("cost", "search_steps", "retrain_steps", "split")}
    assert told == {"cost": "params", "search_steps": 4, "retrain_steps": 2, "split": "test"}
    assert by_name["conv3x3"]["search_steps"] is None
    assert compare(config) == rows
    # What is not reached again stays.
    assert compare(dataclasses.replace(config, contenders=("conv3x3",), seeds=1)) == [by_seed(rows, "conv3x3", 0)]
    assert json.loads((config.workdir / "results.json").read_text()) == rows


def by_seed(rows, contender, seed):
    return next(row for row in rows if (row["contender"], row["seed"]) == (contender, seed))


def test_senseless_options_are_named(tmp_path):
    with pytest.raises(InputError, match="--seeds must be at least 1, not 0"):
        compare(CompareConfig(workdir=tmp_path, seeds=0))
    with pytest.raises(InputError, match="--cost-weight must not be negative, not nan"):
        compare(CompareConfig(workdir=tmp_path, cost_weight=float("nan")))
    with pytest.raises(InputError, match="--contenders names one twice"):
        compare(CompareConfig(workdir=tmp_path, contenders=("mdarts", "mdarts")))
    with pytest.raises(InputError, match="data synthetic has no part 'val'; it has train, test"):
        compare(CompareConfig(workdir=tmp_path, split="val"))
    write_pairs(tmp_path / "pairs", [(20, 16), (16, 24)])
    with pytest.raises(InputError, match=r"--split test of --data .*pairs is what networks are trained on"):
        compare(CompareConfig(workdir=tmp_path, data=str(tmp_path / "pairs")))
