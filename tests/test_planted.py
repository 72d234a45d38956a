"""The short form of the planted answers; ``python -m experiments.planted`` is the full one."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.errors import InputError
from autoderain_jax.rivals import ALGORITHMS
from autoderain_jax.search_space import Supernet
from experiments.planted import PlantedConfig, planted, stacked
from experiments.planted.ranking import Trainer
from experiments.planted.teachers import PlantedNet


def test_one_layer_is_recovered_by_the_gate_gradient():
    config = PlantedConfig(teachers=5, steps=600, head_start=0.0)
    assert planted(config)["mdarts"].recovered == 1.0
    assert planted(dataclasses.replace(config, cut_gradients=True))["mdarts"].recovered <= 0.4


def test_three_layers_are_recovered_by_relaxed_gates():
    config = PlantedConfig(layers=3, teachers=2, steps=1200)
    assert planted(config)["mdarts"].recovered == 1.0
    assert planted(dataclasses.replace(config, relaxed=0.0))["mdarts"].recovered <= 0.5


def test_every_algorithm_runs_and_is_ranked():
    config = PlantedConfig(
        algorithms=tuple(ALGORITHMS),
        layers=1,
        teachers=2,
        steps=4,
        rank=5,
        rank_steps=2,
        size=6,
        channels=4,
    )
    results = planted(config)
    assert set(results) == {*ALGORITHMS, "true"}
    for result in results.values():
        assert result.true.shape == result.found.shape == (2, 1)
        assert len(result.ranks) == 2
        assert all(0 <= rank <= 4 / 5 for rank in result.ranks)
        # A rank is that of the very architecture among all five: two architectures with one rank are one, but for ties.
    same = [results[name].ranks[0] for name in results if (results[name].found[0] == results["true"].found[0]).all()]
    assert set(same) == {results["true"].ranks[0]}


@pytest.mark.parametrize("layers", [1, 3])
def test_the_network_of_ranks_is_the_planted_one(layers):
    net = PlantedNet(layers, Supernet(shared=False))
    rng, weights_rng, gates_rng = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(rng, (2, 7, 9, 4))
    gates = jax.random.uniform(gates_rng, (layers, 5))
    rows = {f"layer{i}": {"conv": row} for i, row in enumerate(gates)}
    params = jax.jit(net.init)(weights_rng, images, rows)["params"]
    value, of_params = jax.jit(jax.value_and_grad(lambda p: jnp.square(net.apply({"params": p}, images, rows)).sum()))(
        params
    )
    fast, of_weights = jax.jit(jax.value_and_grad(lambda w: jnp.square(stacked.run(w, gates, images)).sum()))(
        stacked.stack(params)
    )
    np.testing.assert_allclose(fast, value, rtol=1e-5)
    chex.assert_trees_all_close(of_weights, stacked.stack(of_params), rtol=1e-4, atol=1e-3)


def test_a_folder_goes_on(tmp_path):
    config = PlantedConfig(
        layers=2, teachers=1, steps=4, rank=3, rank_steps=2, size=6, channels=4, workdir=tmp_path / "run"
    )
    planted(config)
    both = planted(dataclasses.replace(config, teachers=2))
    unbroken = planted(dataclasses.replace(config, teachers=2, workdir=None))
    for name, result in unbroken.items():
        np.testing.assert_array_equal(both[name].found, result.found)
        assert both[name].ranks == result.ranks
    with pytest.raises(InputError, match=r"found.json is not of these options"):
        planted(dataclasses.replace(config, steps=5))
    with pytest.raises(InputError, match=r"ranks.json is not of these options"):
        planted(dataclasses.replace(config, rank=4))


def test_what_was_found_is_ranked_later(tmp_path):
    plain = PlantedConfig(layers=2, teachers=2, steps=4, size=6, channels=4, workdir=tmp_path / "run")
    planted(plain)
    ranking = {"rank": 3, "rank_steps": 2}
    before = (plain.workdir / "found.json").read_bytes()
    later = planted(dataclasses.replace(plain, **ranking))
    assert (plain.workdir / "found.json").read_bytes() == before
    at_once = planted(dataclasses.replace(plain, **ranking, workdir=None))
    for name, result in at_once.items():
        np.testing.assert_array_equal(later[name].found, result.found)
        assert later[name].ranks == result.ranks


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("found.json", [5, [5], [{}], [{"mdarts": [9, 9]}], [{"mdarts": [0]}]]),
        ("ranks.json", [5, [5], [{}], [{"mdarts": 0.5}], [{"mdarts": 2.0, "true": 0.0}]]),
    ],
)
def test_damaged_answers_are_refused(tmp_path, name, damaged):
    config = PlantedConfig(
        layers=2, teachers=1, steps=1, rank=2, rank_steps=1, size=6, channels=4, workdir=tmp_path / "run"
    )
    planted(config)
    path = config.workdir / name
    whole = json.loads(path.read_text())
    for done in damaged:
        path.write_text(json.dumps({**whole, "done": done}))
        with pytest.raises(InputError, match=f"{name} is damaged"):
            planted(config)


def test_side_by_side_is_one_after_the_other(monkeypatch):
    config = PlantedConfig(layers=2, teachers=1, steps=1, rank=6, rank_steps=20, size=6, channels=4)
    one_by_one = planted(config)
    values = []
    train = Trainer.side_by_side

    def noted(*args):
        values.append(train(*args))
        return values[-1]

    monkeypatch.setattr(Trainer, "side_by_side", noted)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = planted(config)
    (errors,) = values
    assert len({round(float(error), 6) for error in errors}) > 3
    for name, result in one_by_one.items():
        assert together[name].ranks == result.ranks


def test_senseless_options_are_named():
    with pytest.raises(InputError, match="--relaxed must be in"):
        planted(PlantedConfig(relaxed=1.0))
    with pytest.raises(InputError, match="--relaxed is a way of mdarts, not of darts"):
        planted(PlantedConfig(relaxed=0.5, algorithms=("darts",)))
    with pytest.raises(InputError, match="--head-start must be in"):
        planted(PlantedConfig(head_start=-0.1))
    with pytest.raises(InputError, match="--rank-steps needs --rank"):
        planted(PlantedConfig(rank_steps=5))
    with pytest.raises(InputError, match="--random-paths is a way of random, not of mdarts"):
        planted(PlantedConfig(random_paths=5))
    with pytest.raises(InputError, match="--algorithms names none"):
        planted(PlantedConfig(algorithms=()))
    with pytest.raises(InputError, match="--teachers must be positive"):
        planted(PlantedConfig(teachers=0))
