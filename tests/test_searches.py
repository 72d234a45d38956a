"""Several searches from one command, and how far they agree."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from autoderain_jax import Genotype
from autoderain_jax.cost import PRICES
from autoderain_jax.genotype import uniform
from autoderain_jax.network import open_choices
from experiments import agreement, search
from experiments.config import SearchesConfig
from tests.running import run


def test_agreement_is_the_share_of_pairs_with_the_same_option(network_config):
    three, five = (uniform(network_config, conv, "on") for conv in ("conv3x3", "conv5x5"))
    assert agreement.mean_agreement([three, three]) == 1.0
    # Of the three pairs one agrees on convolutions, and all on SE.
    shares = agreement.agreement([three, five, three])["encoder0_block0"]
    assert shares == pytest.approx({"conv_a": 1 / 3, "conv_b": 1 / 3, "se": 1.0})
    assert agreement.mean_agreement([three, five, three]) == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert agreement.chance(network_config) == pytest.approx((0.2 + 0.2 + 0.5) / 3)


@pytest.fixture
def searches_config(search_config, network_config):
    network = dataclasses.replace(network_config, candidates=("conv5x5", "separable3x3"))
    values = {field.name: getattr(search_config, field.name) for field in dataclasses.fields(search_config)}
    return SearchesConfig(**{**values, "network": network, "steps": 3})


def test_seeds_make_searches_whose_agreement_is_reported(searches_config):
    config = dataclasses.replace(searches_config, seeds=2)
    search.searches(config)
    rows = json.loads((config.workdir / "searches.json").read_text())
    assert [row["seed"] for row in rows] == [3, 4]
    assert all(0 < row["cost"] <= 1 and row["macs_per_pixel"] > 0 and row["held_out_psnr"] > 5 for row in rows)
    genotypes = [Genotype.load(row["genotype"]) for row in rows]
    assert genotypes[0].origin["seed"] == 3
    best = max(rows, key=lambda row: row["held_out_psnr"])
    assert Genotype.load(config.workdir / "genotype.json") == Genotype.load(best["genotype"])
    report = (config.workdir / "report.html").read_text()
    assert f"Agreement at cost weight 0.0002: {agreement.mean_agreement(genotypes):.2f}" in report
    assert report.count("<svg") == 1
    assert len(list(config.workdir.glob("events.out.tfevents.*"))) == 1
    # Again, with one seed more: what is done is done, and the report is new.
    search.searches(dataclasses.replace(config, seeds=3))
    assert len(json.loads((config.workdir / "searches.json").read_text())) == 3
    assert (config.workdir / "cost-0.0002-seed-3" / "metrics.jsonl").read_text().count("\n") == 3
    assert len(list(config.workdir.glob("events.out.tfevents.*"))) == 1


def test_latency_is_measured_once_for_all_searches(searches_config, monkeypatch):
    measured = []

    def latency(network, patch):
        del patch
        measured.append(network)
        return jax.tree.map(lambda options: np.arange(1.0, 1.0 + len(options)), open_choices(network), is_leaf=is_row)

    monkeypatch.setitem(PRICES, "latency", latency)
    search.searches(dataclasses.replace(searches_config, seeds=2, cost="latency"))
    assert len(measured) == 1
    kept = {path.read_text() for path in searches_config.workdir.rglob("prices.json")}
    assert len(kept) == 1


def is_row(node):
    return isinstance(node, tuple)


def test_cost_weights_make_a_front_of_sizes(searches_config, monkeypatch, capfd):
    options = ("--preset", "tiny", "--data", searches_config.data, "--workdir", searches_config.workdir)
    options += ("--steps", 30, "--batch", 2, "--patch", 16, "--network.width", 6, "--alphas-learning-rate", 0.1)
    options += ("--network.candidates", "conv5x5", "separable3x3", "--cost-weights", 0, 1e3)
    options += ("--cost", "params")
    code, out, _ = run(monkeypatch, capfd, search, *options)
    assert code == 0
    report = (searches_config.workdir / "report.html").read_text()
    assert "<tr><td>cost_weights</td><td>[0.0, 1000.0]</td></tr>" in report
    assert "<td>cost_weight</td>" not in report
    rows = json.loads((searches_config.workdir / "searches.json").read_text())
    assert [row["cost_weight"] for row in rows] == [0.0, 1000.0]
    assert rows[1]["macs_per_pixel"] < rows[0]["macs_per_pixel"]
    assert rows[1]["parameters"] < rows[0]["parameters"]
    for row in rows:
        own = Path(row["genotype"]).parent / "report.html"
        assert f"its choices cost {row['cost']:.0%} of the dearest ones' (params)" in own.read_text()
    assert "MACs/pixel" in out
    assert not (searches_config.workdir / "genotype.json").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--seeds", 0), "--seeds must be at least 1"),
        (("--cost-weights", -1.0), "--cost-weights must not be negative"),
        (("--cost-weights", 1.0, 1.0000001), "--cost-weights names one twice"),
        (("--cost-weight", 5e-3, "--cost-weights", 1.0), "give either --cost-weight or --cost-weights"),
        (("--seed", 2**32 - 1, "--seeds", 2), "--seed 4294967295 and the 2 --seeds must all be in"),
    ],
)
def test_senseless_options_are_named(monkeypatch, capfd, options, sentence):
    code, _, err = run(monkeypatch, capfd, search, *options)
    assert code == 2
    assert err.startswith(f"error: {sentence}")


def test_the_next_command_has_what_the_genotype_does_not_tell(search_config):
    usual = dataclasses.replace(search_config, patch=64)
    plain = search._next(usual, "a b")
    assert plain == "next: python -m experiments.retrain --genotype 'a b/genotype.json' --workdir 'a b/retrain'"
    assert search._next(dataclasses.replace(search_config, loss="l1"), "w").endswith(" --patch 16 --loss l1")
    config = dataclasses.replace(usual, imports=("my_candidates",), synthetic_rain="light", swap_rain=0.5)
    ending = "w/retrain --synthetic-rain light --swap-rain 0.5 --imports my_candidates"
    assert search._next(config, "w").endswith(ending)
