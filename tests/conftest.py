"""Fixtures: small data on disk, small configurations."""

import dataclasses
import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest
from PIL import Image

from autoderain_jax.network import NetworkConfig
from experiments.config import RetrainConfig, SearchConfig


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compiles each program once for all tests."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def network_config():
    return NetworkConfig(width=6, blocks=(1, 1), reduction=2)


def write_pairs(folder, sizes, seed=0):
    """Random smooth pairs of (height, width) ``sizes``, named a0.png, a1.png, ..."""
    rng = np.random.default_rng(seed)
    for kind in ("rainy", "clean"):
        (folder / kind).mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        small = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        clean = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        rainy = np.clip(np.array(clean).astype(int) + rng.integers(0, 60, (height, width, 1)), 0, 255)
        clean.save(folder / "clean" / f"a{i}.png")
        Image.fromarray(rainy.astype(np.uint8)).save(folder / "rainy" / f"a{i}.png")


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
