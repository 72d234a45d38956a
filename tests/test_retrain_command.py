"""Retraining: from a genotype or from a model, its files and resuming."""

import dataclasses
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autoderain_jax import Model
from data_pipelines import open_pairs
from experiments import retrain, workdir
from tests.running import interrupt_at, run


def test_retrain_writes_a_model_and_resumes_exactly(retrain_config, genotype, monkeypatch, tmp_path):
    retrain_config = dataclasses.replace(retrain_config, ema=0.9)
    model = retrain.retrain(retrain_config)
    assert model.genotype == genotype
    folder = retrain_config.workdir
    chex.assert_trees_all_equal(Model.load(folder / "model").params, jax.tree.map(np.asarray, model.params))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "held_out_psnr" in record] == [3, 6]
    assert (folder / "report.html").read_text().count("<svg") == 3

    broken = dataclasses.replace(retrain_config, workdir=tmp_path / "broken")
    with monkeypatch.context() as patch:
        interrupt_at(patch, retrain, 4)
        with pytest.raises(KeyboardInterrupt):
            retrain.retrain(broken)
    assert Model.load(broken.workdir / "model").genotype == genotype, "the best so far can be used"
    chex.assert_trees_all_equal(retrain.retrain(broken).params, model.params)
    assert (broken.workdir / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_a_model_is_trained_further(retrain_config, genotype, monkeypatch, capfd, tmp_path):
    retrain.retrain(retrain_config)
    folder = retrain_config.workdir / "model"
    before = Model.load(folder)
    options = ("--initial-model", folder, "--data", retrain_config.data, "--workdir", tmp_path / "further")
    options += ("--steps", 30, "--validations", 1, "--held-out", 0.2)
    code, _, err = run(monkeypatch, capfd, retrain, *options)
    assert code == 0, err
    after = Model.load(tmp_path / "further" / "model")
    assert after.genotype == genotype
    assert after.training["initial_model"] == {"id": before.id, **before.training}
    assert after.pool_window == before.pool_window == 16
    assert after.id != before.id
    assert 36 * 33 <= after.image_pixels <= 32 * 48, "of the data's images"

    # In another precision, too.
    half = ("--network.dtype", "bfloat16", "--workdir", tmp_path / "half")
    assert run(monkeypatch, capfd, retrain, *options, *half)[0] == 0
    assert Model.load(tmp_path / "half" / "model").config == dataclasses.replace(before.config, dtype="bfloat16")
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--network.width", 5)
    assert (code, "--network is not that of --initial-model" in err) == (2, True)
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--genotype", retrain_config.genotype)
    assert (code, "give either --genotype" in err) == (2, True)
    code, _, err = run(monkeypatch, capfd, retrain, "--initial-model", folder)
    assert (code, "--data is required with --initial-model" in err) == (2, True)
    # What is worse than the model that it began with is not kept.
    worse = ("--steps", 1, "--learning-rate", 9)
    code, out, _ = run(monkeypatch, capfd, retrain, *options, *worse, "--workdir", tmp_path / "worse")
    assert (code, "before: held-out PSNR" in out) == (0, True)
    assert Model.load(tmp_path / "worse" / "model").id == before.id
    # Not in another precision, nor at another window either.
    half = ("--network.dtype", "bfloat16", "--workdir", tmp_path / "worse half")
    assert run(monkeypatch, capfd, retrain, *options, *worse, *half)[0] == 0
    assert Model.load(tmp_path / "worse half" / "model").id == before.id
    wide = ("--patch", 24, "--workdir", tmp_path / "wide")
    assert run(monkeypatch, capfd, retrain, *options, *worse, *wide)[0] == 0
    assert Model.load(tmp_path / "wide" / "model").pool_window == 16
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--workdir", folder.parent)
    assert (code, "would overwrite --initial-model" in err) == (2, True)
    assert run(monkeypatch, capfd, retrain, "--initial-model", folder, "--help")[0] == 0
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--gradient-clip", "inf")
    assert (code, "--gradient-clip must not be negative, not inf" in err) == (2, True)
    code, _, err = run(monkeypatch, capfd, retrain, *options, "--ema", 1)
    assert (code, "--ema must be in [0, 1), not 1.0" in err) == (2, True)
    # The folder goes on only from the weights that it began with.
    dataclasses.replace(before, params=jax.tree.map(lambda leaf: leaf + np.float32(0.1), before.params)).save(folder)
    code, _, err = run(monkeypatch, capfd, retrain, *options)
    assert (code, "holds a run with initial_model" in err) == (2, True)


def test_an_image_restored_exactly_does_not_choose_alone(data_folder):
    pairs = open_pairs(str(data_folder), "train")
    clean = {pairs.rainy_clean(i)[0].tobytes(): pairs.rainy_clean(i)[1] for i in range(len(pairs))}
    (first, *_) = clean

    class Exact:
        """Restores one image to the last bit, and leaves the others as they are."""

        def expect(self, sizes):
            assert len(list(sizes)) == len(pairs)

        def __call__(self, rainy):
            return clean[first] if rainy.tobytes() == first else rainy

    psnr = retrain.held_out_psnr(Exact(), pairs)
    assert retrain.EXACT_PSNR / len(pairs) < psnr < retrain.EXACT_PSNR


def test_runs_of_one_second_have_folders_of_their_own(monkeypatch, tmp_path, retrain_config):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workdir.time, "strftime", lambda form: form.replace("%Y%m%d-%H%M%S", "now"))
    folders = [workdir.Workdir(None, retrain_config, "retrain").folder for _ in range(3)]
    assert [str(folder) for folder in folders] == [f"runs/retrain-now{ending}" for ending in ("", "-2", "-3")]


def test_a_run_that_was_stopped_says_how_to_go_on(monkeypatch, tmp_path, retrain_config, genotype, capfd):
    monkeypatch.chdir(tmp_path)
    for folder, how in ((None, r"with --workdir runs/retrain-\S+ to"), (tmp_path / "given", "to")):
        with monkeypatch.context() as patch:
            interrupt_at(patch, retrain, 4)
            with pytest.raises(KeyboardInterrupt):
                retrain.retrain(dataclasses.replace(retrain_config, workdir=folder))
        assert re.search(rf"stopped at step \d; run the same command again {how} go on", capfd.readouterr().out)


def test_a_gradient_that_is_too_long_is_shortened():
    gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}

    def first_moment(clip):
        optimiser = retrain.clipped_adam(1e-3, 10, clip)
        return optax.tree_utils.tree_get(optimiser.update(gradient, optimiser.init(gradient))[1], "mu")

    np.testing.assert_allclose(first_moment(0.01), [0.1 * 0.006, 0.1 * 0.008, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(first_moment(0.0), [0.3, 0.4, 0, 0], rtol=1e-5)


def test_what_is_kept_is_the_running_mean_of_the_weights():
    params = {"a": jnp.array([3.0, 4.0]), "b": jnp.ones((2, 1))}
    optimiser = retrain.clipped_adam(0.1, 30, 0.0, ema=0.5)
    state = optimiser.init(params)
    mean = params
    for t in range(12):
        gradient = jax.tree.map(lambda leaf, t=t: leaf - t, params)
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        decay = min(0.5, (1 + t) / (10 + t))
        mean = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, mean, params)
    chex.assert_trees_all_close(retrain.averaged(params, state), mean, rtol=1e-6)
    assert abs(float(mean["a"][0] - params["a"][0])) > 0.05, "they differ"
    without = retrain.clipped_adam(0.1, 30, 0.0)
    chex.assert_trees_all_equal(retrain.averaged(params, without.init(params)), params)


def test_training_reduces_the_loss(retrain_config, genotype):
    config = dataclasses.replace(retrain_config, steps=60, batch=4, learning_rate=3e-3)
    retrain.retrain(config)
    lines = (config.workdir / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_retrain_refuses_bad_genotypes(genotype, retrain_config, data_folder, tmp_path, monkeypatch, capfd):
    text = retrain_config.genotype.read_text()
    faults = {
        text.replace('"version": 1', '"version": 9'): "genotype version 9",
        text.replace(genotype.blocks["encoder0_block0"]["conv_a"], "conv8x8"): "unknown candidate 'conv8x8'",
        text.replace("encoder0_block0", "encoder5_block0"): "does not fit a network",
        text.replace('"origin": {', '"origin": {"preset": "smal"'): "made with preset 'smal', which is not known",
    }
    for content, sentence in faults.items():
        retrain_config.genotype.write_text(content)
        args = ("--genotype", retrain_config.genotype, "--data", data_folder, "--workdir", tmp_path / "w")
        code, _, err = run(monkeypatch, capfd, retrain, *args, "--patch", 16)
        assert code == 2
        assert sentence in err
        assert err.count("\n") == 1
    code, _, err = run(monkeypatch, capfd, retrain, "--workdir", tmp_path / "w")
    assert (code, "give either --genotype" in err) == (2, True)
