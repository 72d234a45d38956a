import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.cost import macs
from autoderain_jax.network import NetworkConfig, open_choices
from autoderain_jax.search_space import initial_alphas
from experiments import health

CONFIG = NetworkConfig(width=8, blocks=(1, 1))
START = initial_alphas(open_choices(CONFIG))


def record(step, choices="1 2", **changes):
    shares = {f"share/{name}": 0.2 for name in CONFIG.candidates} | {"share/se_on": 0.5}
    return {"step": step, "held_out_loss": 0.1, "choices": choices, "entropy": 0.5, "flips": 0.0, **shares, **changes}


def test_measures_of_choices():
    rows = initial_alphas(open_choices(CONFIG))
    level = health.measures(rows, rows, CONFIG)
    assert level["entropy"] == pytest.approx(1.0)
    decided = {
        block: {name: np.eye(len(row), dtype=np.float32)[-1] for name, row in names.items()}
        for block, names in rows.items()
    }
    sure = health.measures(decided, decided, CONFIG)
    assert sure["entropy"] == pytest.approx(0.0, abs=1e-6)
    assert sure["share/separable_dilated3x3"] == 1.0
    assert sure["share/conv3x3"] == 0.0
    assert sure["share/se_on"] == 1.0
    assert health.choices_of(decided).split() == ["4", "4", "1"] * 3


def test_a_search_is_settled_when_no_choice_has_changed_for_so_many_steps():
    assert not health.settled([], 1)
    records = [record(30), record(40, "1 3"), record(50, "1 3"), record(60, "1 3")]
    assert health.settled(records, 20)
    assert not health.settled(records, 21)


def test_a_search_is_not_settled_while_its_alphas_are_on_the_way():
    moving = [record(step, entropy=1.0 - step / 1000) for step in range(0, 200, 10)]
    assert not health.settled(moving, 50)
    assert health.settled([*moving, *(record(step, entropy=0.8) for step in range(200, 260, 10))], 50)


def test_warnings_name_what_is_wrong_and_what_helps():
    prices = macs(CONFIG)
    assert health.warnings([record(1)], CONFIG, prices, START) == []
    cheap = health.warnings([record(1, **{"share/separable3x3": 0.95})], CONFIG, prices, START)
    assert len(cheap) == 1
    assert "95% of the convolutions are separable3x3, the cheapest: lower --cost-weight" in cheap[0]
    dear = health.warnings([record(1, **{"share/conv5x5": 1.0})], CONFIG, prices, START)
    assert "the dearest: raise --cost-weight" in dear[0]
    ahead = jax.tree.map(lambda row: jnp.zeros_like(row).at[0].set(1.0), START)
    assert "stagnation" in health.warnings([record(1, entropy=0.001)], CONFIG, prices, ahead)[0]
    assert "stagnation" in health.warnings([record(1, entropy=0.999)], CONFIG, prices, START)[0]
    assert health.warnings([record(1, entropy=0.999)], CONFIG, prices, ahead) == []
    assert "restless: 30% of the choices" in health.warnings([record(1, flips=0.3)], CONFIG, prices, START)[0]
    stayed = [record(9, flips=0.3), record(10, flips=0.2), record(900, flips=0.001)]
    assert "restless: 20% of the choices" in health.warnings(stayed, CONFIG, prices, START, relaxed_steps=10)[0]
    assert health.warnings(stayed, CONFIG, prices, START) == []
