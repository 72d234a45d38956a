"""Fixtures: small data on disk, small configurations."""

import dataclasses
import gc
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Small programs run once or twice: to compile them well takes longer than it saves.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax import Derainer, Model
from autoderain_jax.candidates import CANDIDATES, add_candidate
from autoderain_jax.network import DerainNet, NetworkConfig
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments import derain
from experiments.config import RetrainConfig, SearchConfig
from tests.running import run
from tests.samples import random_genotype, write_pairs


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compiles each program once for all tests, whichever worker runs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    # With a limit to its size JAX locks the folder, so that no worker reads a program while another writes it.
    jax.config.update("jax_compilation_cache_max_size", 2**33)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture
def collected():
    """What a test leaves behind is collected while its own filters of warnings hold."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def network_config():
    return NetworkConfig(width=6, blocks=(1, 1), reduction=2)


@pytest.fixture
def model(network_config):
    genotype = random_genotype(network_config)
    network = DerainNet(network_config, genotype.choices)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    params["head"]["kernel"] += 0.1 * jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    return Model(network_config, genotype, params, 16, {"seed": 0}, 400)


@pytest.fixture
def data_folder(tmp_path):
    folder = tmp_path / "data"
    write_pairs(folder / "train", [(40, 33), (33, 40), (36, 36), (32, 48), (48, 32)])
    write_pairs(folder / "test", [(35, 29), (31, 37)], seed=1)
    return folder


@pytest.fixture
def search_config(data_folder, tmp_path, network_config):
    return SearchConfig(
        workdir=tmp_path / "search",
        data=str(data_folder),
        steps=6,
        batch=2,
        patch=16,
        network=network_config,
        seed=3,
    )


@pytest.fixture
def retrain_config(search_config, tmp_path):
    shared = {
        field.name: getattr(search_config, field.name)
        for field in dataclasses.fields(RetrainConfig)
        if hasattr(search_config, field.name)
    }
    shared |= {"workdir": tmp_path / "retrain", "genotype": tmp_path / "genotype.json", "held_out": 0.2}
    return RetrainConfig(**shared, validations=2)


@pytest.fixture
def genotype(retrain_config):
    """Of the retraining, in its file."""
    genotype = random_genotype(retrain_config.network)
    genotype.save(retrain_config.genotype)
    return genotype


@pytest.fixture
def own_candidate():
    """A candidate that is not ours, for one test."""

    def own_candidate(features):
        return nn.Sequential([nn.Conv(features, (1, 1)), jnp.tanh])

    yield add_candidate(own_candidate)
    del CANDIDATES["own_candidate"]


@pytest.fixture(scope="module")
def rainy():
    return add_rain(photograph("chelsea")[:150, :200], Rain(density=0.0016), np.random.default_rng(0))


@pytest.fixture(scope="module")
def restored(rainy):
    return Derainer.from_pretrained()(rainy)


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Derains files of ``tmp_path`` into its folder ``out``."""

    def derained(*arguments):
        monkeypatch.chdir(tmp_path)
        return run(monkeypatch, capfd, derain, *arguments, "--output", "out")

    return derained
