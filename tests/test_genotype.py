import json
import os

import chex
import jax
import numpy as np
import pytest

from autoderain_jax.errors import InputError
from autoderain_jax.files import MOST_JSON
from autoderain_jax.genotype import Genotype, derive, one_hot_gates, search_space_size, uniform
from autoderain_jax.network import NetworkConfig, open_choices
from tests.samples import random_genotype


def test_file_round_trip(tmp_path, network_config):
    genotype = random_genotype(network_config)
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype


def test_derive_inverts_one_hot_gates(network_config):
    genotype, choices = random_genotype(network_config), open_choices(network_config)
    gates = one_hot_gates(choices, genotype)
    chex.assert_trees_all_equal(jax.tree.map(np.sum, gates), jax.tree.map(lambda _: np.float32(1), gates))
    assert derive(choices, gates).blocks == genotype.blocks


def test_search_space_size():
    assert search_space_size(NetworkConfig(blocks=(1, 1))) == (5 * 5 * 2) ** 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda g: g.update(version=2), "genotype version 2"),
        (lambda g: g.update(format="other"), "is not a genotype"),
        (lambda g: g["blocks"]["encoder0_block0"].update(conv_a="conv9x9"), "unknown candidate 'conv9x9'"),
        (lambda g: g["blocks"]["encoder0_block0"].update(se="maybe"), "unknown SE option 'maybe'"),
        (lambda g: g["blocks"]["encoder0_block0"].pop("conv_b"), "encoder0_block0.*needs exactly the choices"),
        (lambda g: g.update(blocks=[]), '"blocks" must map'),
        (lambda g: g.update(origin=1), '"origin" must be'),
        (lambda g: g["blocks"]["encoder0_block0"].update(conv_a=["conv3x3"]), "unknown candidate"),
    ],
)
def test_invalid_files_are_refused_in_one_sentence(tmp_path, network_config, change, sentence):
    content = json.loads(random_genotype(network_config).to_json())
    change(content)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence) as caught:
        Genotype.load(path)
    assert "edited.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_other_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read genotype"):
        Genotype.load(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        Genotype.load(tmp_path / "text.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[" * 10**5, "nested too deeply"),
        (b'{"version": NaN}', "it has no number NaN"),
        (b"\xff\xfe", "codec can't decode"),
        (b"1" * 5000, "is not JSON"),
        (b" " * (MOST_JSON + 1), "it has more than .* bytes"),
    ],
)
def test_what_json_parsers_stumble_over_is_refused(tmp_path, content, sentence):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        Genotype.load(path)
    assert str(path) in str(caught.value)


def test_what_has_no_end_is_refused(tmp_path):
    (tmp_path / "genotype.json").symlink_to(os.devnull)
    with pytest.raises(InputError, match="it is not a file"):
        Genotype.load(tmp_path / "genotype.json")


def test_names_are_cut_in_sentences(network_config):
    content = json.loads(random_genotype(network_config).to_json())
    content["blocks"]["x" * 10**5] = {}
    with pytest.raises(InputError, match=r"block 'xxx.*\.\.\..*xxx': needs") as caught:
        Genotype.from_json(json.dumps(content))
    assert len(str(caught.value)) < 300


def test_genotype_of_another_network_is_refused(network_config):
    with pytest.raises(InputError, match="does not fit a network"):
        random_genotype(network_config).check_fits(NetworkConfig(blocks=(1, 1, 2)))


def test_uniform_network_checks_its_candidate(network_config):
    assert uniform(network_config, "conv3x3", "off").blocks["encoder0_block0"]["se"] == "off"
    with pytest.raises(InputError, match="unknown candidate"):
        uniform(network_config, "conv7x7")
