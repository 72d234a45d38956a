import contextlib
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import types

import chex
import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from autoderain_jax import Derainer, InputError, Model
from autoderain_jax.candidates import CANDIDATES, add_candidate
from autoderain_jax.checkpoints import Checkpoints
from autoderain_jax.genotype import Genotype, uniform
from autoderain_jax.network import DerainNet, NetworkConfig


def test_model_round_trip_restores_the_same_image(model, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (21, 18, 3), dtype=np.uint8)
    expected = Derainer(model)(image)
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert dataclasses.replace(loaded, params={}) == dataclasses.replace(model, params={})
    restored = Derainer.from_pretrained(tmp_path)(image)
    assert restored.dtype == np.uint8
    chex.assert_shape(restored, (21, 18, 3))
    np.testing.assert_array_equal(restored, expected)
    assert (restored != image).any()


def test_a_model_of_candidates_without_weights_round_trips(network_config, tmp_path):
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.avg_pool(x, (3, 3), padding="SAME")

    @add_candidate
    def pool3x3(features):
        return Pool()

    try:
        config = dataclasses.replace(network_config, candidates=("conv3x3", "pool3x3"))
        network = DerainNet(config, uniform(config, "pool3x3").choices)
        params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
        model = Model(config, uniform(config, "pool3x3"), params, 16)
        model.save(tmp_path)
        loaded = Model.load(tmp_path)
        assert loaded.id == model.id
        image = np.random.RandomState(0).randint(256, size=(21, 18, 3)).astype(np.uint8)
        np.testing.assert_array_equal(Derainer(loaded)(image), Derainer(model)(image))
        # One that uses none of it does not need it.
        network = DerainNet(config, uniform(config, "conv3x3").choices)
        params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
        Model(config, uniform(config, "conv3x3"), params, 16).save(tmp_path / "without")
    finally:
        del CANDIDATES["pool3x3"]
    assert Derainer.from_pretrained(tmp_path / "without")(image).shape == image.shape
    with pytest.raises(InputError, match=r"unknown candidate 'pool3x3'.*needs --imports"):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(version=0), "not a model of version 2"),
        (lambda c: c["network"].update(width=8), "does not fit its model.json at"),
        (lambda c: c["network"].update(depth=8), "just the fields of NetworkConfig"),
        (lambda c: c["network"].update(width="6"), "width must be a positive integer"),
        (lambda c: c["network"].update(blocks=[]), "blocks needs positive integers"),
        (lambda c: c.update(pool_window=0), "pool_window must be a positive integer"),
        (lambda c: c.update(image_pixels=0.5), "image_pixels must be a positive integer or null, not 0.5"),
        (lambda c: c.update(image_pixels=10**400), "image_pixels must be a positive integer or null, not 1000"),
        (lambda c: c.pop("genotype"), "is incomplete: it has no 'genotype'"),
        (lambda c: c["network"].update(width=10**9), "width must be at most"),
        (lambda c: c["network"].update(blocks=2), "blocks needs positive integers"),
        (lambda c: c["network"].update(blocks=[1] * 11), "has more than 10 levels"),
        (lambda c: c["network"].update(blocks=[10**18]), "or 1000 blocks"),
        (lambda c: c["network"].update(candidates=3), "candidates needs at least two"),
        (lambda c: c["network"].update(candidates=[["conv3x3"], []]), "unknown candidate"),
        (lambda c: c.update(pool_window=10**400), "pool_window must be at most"),
        (lambda c: c.update(training=[["seed", 0]]), "training must be an object"),
        (lambda c: c["genotype"]["blocks"]["encoder0_block0"].update(conv_a="conv9x9"), "unknown candidate"),
    ],
)
def test_damaged_model_is_refused(model, tmp_path, change, sentence):
    model.save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    change(content)
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        Model.load(tmp_path)


def test_missing_and_truncated_weights_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="cannot read model"):
        Model.load(tmp_path)
    model.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot read weights"):
        Model.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="cannot read weights"):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: w.update({"stem/bias": w["stem/bias"].astype(np.float64)}), "does not fit .* at 'stem/bias'"),
        (lambda w: w.update({"stem/bias/more": w["stem/bias"]}), "does not fit .* at 'stem/bias/more'"),
        (lambda w: w.pop("encoder0_block0/conv_a/bias"), "does not fit .* at 'encoder0_block0/conv_a/bias'"),
        (lambda w: w["stem/bias"].fill(np.nan), "not finite at stem/bias"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused(model, tmp_path, change, sentence):
    model.save(tmp_path)
    weights = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    change(weights)
    safetensors.numpy.save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=sentence):
        Model.load(tmp_path)


@pytest.mark.parametrize("header", [2**22 + 1, 2**63])
def test_headers_that_are_too_large_are_not_parsed(model, tmp_path, monkeypatch, header):
    model.save(tmp_path)
    with (tmp_path / "weights.safetensors").open("wb") as file:
        file.write(header.to_bytes(8, "little"))
        file.truncate(2**23)
    monkeypatch.setattr(safetensors, "safe_open", None)
    with pytest.raises(
        InputError, match=r"cannot read weights .*weights\.safetensors: its header has more than 4,194,304"
    ):
        Model.load(tmp_path)


def test_arrays_that_are_not_wanted_are_not_looked_at(model, tmp_path, monkeypatch):
    model.save(tmp_path)
    names = [*flax.traverse_util.flatten_dict(model.params, sep="/"), *map("extra/{}".format, range(10**5))]
    opened = contextlib.nullcontext(types.SimpleNamespace(keys=lambda: names))
    monkeypatch.setattr(safetensors, "safe_open", lambda *_: opened)
    with pytest.raises(InputError, match=r"does not fit its model\.json at 'extra/0'"):
        Model.load(tmp_path)


def test_what_cannot_be_written_is_named(model, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for save in (model.save, model.genotype.save):
        with pytest.raises(InputError, match=r"^cannot write .*file/folder.*: (Not a directory|File exists)"):
            save(tmp_path / "file/folder")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"^cannot write .*model/weights\.safetensors: No space left on device$"):
        model.save(tmp_path / "model")
    with pytest.raises(InputError, match=r"^cannot write .*genotype\.json: No space left on device$"):
        model.genotype.save(tmp_path / "genotype.json")


def test_a_model_that_cannot_be_replaced_stays(model, tmp_path, monkeypatch):
    model.save(tmp_path)
    other = dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf + np.float32(1), model.params))
    flushed = []

    def full_then(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_then)
        with pytest.raises(InputError, match=r"^cannot write .*model\.json: No space left on device$"):
            other.save(tmp_path)
    assert Model.load(tmp_path).id == model.id
    other.save(tmp_path)
    assert Model.load(tmp_path).id == other.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]


def test_no_network_is_traced_for_a_file_without_its_blocks(model, tmp_path, monkeypatch):
    model.save(tmp_path)
    config = NetworkConfig(width=4096, blocks=(100, 900))
    content = json.loads((tmp_path / "model.json").read_text())
    content["network"] = dataclasses.asdict(config)
    content["genotype"] = json.loads(uniform(config, "conv5x5").to_json())
    (tmp_path / "model.json").write_text(json.dumps(content))
    monkeypatch.setattr(jax, "eval_shape", None)
    with pytest.raises(InputError, match=r"does not fit its model\.json at 'bottleneck_block"):
        Model.load(tmp_path)


def test_checkpoints_keep_the_newest_and_restore_exactly(tmp_path):
    state = {"a": jnp.arange(4.0), "key": jax.random.key(3), "step": jnp.int32(7), "opt": (jnp.zeros(2), ())}
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.restore(state) is None
        for step in (1, 2, 3):
            checkpoints.save(step, state | {"step": jnp.int32(step)})
        checkpoints.save(3, state)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, state | {"key": jax.random.key(0)}))
    assert step == 3
    chex.assert_trees_all_equal(restored | {"key": 0}, state | {"key": 0, "step": jnp.int32(3)})
    assert jax.random.key_data(restored["key"]).tolist() == jax.random.key_data(state["key"]).tolist()
    assert len([p for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()]) == 2


def test_genotype_of_a_model_can_be_edited_by_hand(model, tmp_path):
    model.genotype.save(tmp_path / "genotype.json")
    text = (tmp_path / "genotype.json").read_text().replace('"se": "on"', '"se": "off"')
    (tmp_path / "genotype.json").write_text(text)
    assert all(row["se"] == "off" for row in Genotype.load(tmp_path / "genotype.json").blocks.values())


def test_models_go_to_the_hub_and_come_from_it(model, tmp_path, monkeypatch):
    hub = pytest.importorskip("autoderain_jax.hub")
    image = np.random.RandomState(0).randint(256, size=(20, 14, 3)).astype(np.uint8)
    expected = Derainer(model)(image)
    Derainer(model).save_pretrained(tmp_path / "plain")
    derainer = hub.HubDerainer.from_pretrained(tmp_path / "plain")
    derainer.save_pretrained(tmp_path / "repository")
    assert {"README.md", *hub.FILES} <= {path.name for path in (tmp_path / "repository").iterdir()}

    def download(name, allow_patterns, revision, **options):
        assert (name, tuple(allow_patterns), revision) == ("me/derainer", hub.FILES, "v1")
        return str(tmp_path / "repository")

    monkeypatch.setattr(hub, "snapshot_download", download)
    loaded = hub.HubDerainer.from_pretrained("me/derainer", revision="v1", ensemble=4)
    assert loaded.ensemble == 4
    assert loaded.model.id == model.id
    assert hub.HubDerainer.from_pretrained().model.id == Derainer.from_pretrained().model.id
    assert hub.HubDerainer.from_pretrained("best").model.id == Model.load("best").id
    np.testing.assert_array_equal(Derainer(loaded.model)(image), expected)


def test_a_model_is_pushed_to_the_hub_with_its_card(model, tmp_path, monkeypatch):
    hub = pytest.importorskip("autoderain_jax.hub")
    from huggingface_hub import HfApi

    def create(self, repo_id, **options):
        return types.SimpleNamespace(repo_id=repo_id)

    def upload(self, *, repo_id, folder_path, **options):
        shutil.copytree(folder_path, tmp_path / repo_id)

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    hub.HubDerainer(model).push_to_hub("me/derainer", token="none")
    sent = tmp_path / "me/derainer"
    assert {path.name for path in sent.iterdir()} == {"README.md", *hub.FILES}
    assert f"{model.parameters:,} weights" in (sent / "README.md").read_text()
    assert Model.load(sent).id == model.id


def test_models_of_the_package_have_names(tmp_path, monkeypatch):
    fast, best, photo = (Model.load(name) for name in ("fast", "best", "photo"))
    assert len({fast.id, best.id, photo.id}) == 3
    assert Model.load(None).id == photo.id
    assert Derainer.from_pretrained("best").model.id == best.id
    # A folder of that name comes first.
    monkeypatch.chdir(tmp_path)
    Model.load(None).save("best")
    assert Model.load("best").id != best.id
    with pytest.raises(InputError, match=r"bestest/model.json"):
        Model.load("bestest")


def test_a_description_is_read_before_processes_have_met():
    """Which they must before JAX knows its devices."""
    code = (
        "from autoderain_jax import Model\n"
        "from jax._src import xla_bridge\n"
        "assert Model.load(None, weights=False).config.blocks\n"
        "assert not xla_bridge._backends"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
