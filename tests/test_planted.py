"""The short form of the planted answers; ``python -m experiments.planted`` is the full one."""

import pytest

from autoderain_jax.errors import InputError
from experiments.planted import PlantedConfig, planted


def test_one_layer_is_recovered_with_warmup_only_and_by_the_gate_gradient():
    config = PlantedConfig(teachers=10)
    recovered = planted(config).recovered
    assert recovered >= 0.9
    cold = planted(PlantedConfig(teachers=10, warmup=0.0)).recovered
    assert cold <= recovered - 0.2
    cut = planted(PlantedConfig(teachers=10, cut_gradients=True)).recovered
    assert cut <= 0.4


def test_several_layers_run():
    result = planted(PlantedConfig(layers=3, teachers=2, steps=6, warmup=0.5))
    assert result.true.shape == result.found.shape == (2, 3)
    assert result.recovered == (result.true == result.found).mean()


def test_senseless_options_are_named():
    with pytest.raises(InputError, match="--warmup must be in"):
        planted(PlantedConfig(warmup=1.0))
    with pytest.raises(InputError, match="--teachers must be positive"):
        planted(PlantedConfig(teachers=0))
