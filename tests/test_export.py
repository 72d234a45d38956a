"""Models as files for elsewhere restore what the model restores."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer, Model
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import DerainNet, NetworkConfig
from experiments import export
from tests.running import run

ROWS = [
    {"conv_a": "conv3x3", "conv_b": "separable_dilated3x3", "se": "on"},
    {"conv_a": "conv5x1", "conv_b": "dilated3x3", "se": "off"},
    {"conv_a": "separable5x5", "conv_b": "conv1x1", "se": "on"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with candidates of every kind and weights that are not zero."""
    config = NetworkConfig(width=4, blocks=(1, 1, 1), reduction=2)
    genotype = Genotype({name: ROWS[i % 3] for i, name in enumerate(config.block_names())})
    network = DerainNet(config, genotype.choices)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    path = tmp_path_factory.mktemp("exported") / "model"
    Model(config, genotype, treedef.unflatten(noisy), 20).save(path)
    return path


def image(height, width):
    return np.random.RandomState(0).randint(256, size=(height, width, 3)).astype(np.uint8)


def snippet(form):
    """The lines of the documentation that run what was exported."""
    page = (Path(__file__).parent.parent / "docs/use.md").read_text()
    (code,) = re.findall(rf"```python\n(# --format {form}.*?)```", page, re.DOTALL)
    return code


@pytest.mark.parametrize(
    ("form", "shapes"),
    [
        ("onnx", [(41, 30), (19, 53), (64, 1)]),
        ("stablehlo", [(41, 30), (19, 53), (64, 1)]),
        ("savedmodel", [(41, 30)]),
    ],
)
def test_exported_files_restore_the_same_without_this_package(form, shapes, folder, tmp_path, monkeypatch, capfd):
    target = tmp_path / f"derain.{form}"
    exit_code, out, _ = run(monkeypatch, capfd, export, "--format", form, "--output", target, "--model", folder)
    assert exit_code == 0
    assert "largest difference to the model, 3 images: " in out
    assert int(out.rsplit("images: ")[1].split()[0]) <= 1
    derainer = Derainer.from_pretrained(folder)
    for shape in shapes:
        Image.fromarray(image(*shape)).save(tmp_path / "rainy.jpg")
        subprocess.run([sys.executable, "-c", snippet(form)], check=True, cwd=tmp_path, capture_output=True)
        rainy, restored = np.array(Image.open(tmp_path / "rainy.jpg")), np.array(Image.open(tmp_path / "restored.png"))
        expected = derainer(rainy)
        assert restored.shape == expected.shape
        assert (expected != rainy).any()
        assert np.abs(restored.astype(int) - expected).max() <= 1


def test_what_cannot_be_exported_is_refused(folder, tmp_path, monkeypatch, capfd):
    code, _, err = run(monkeypatch, capfd, export, "--output", folder)
    assert (code, "exists already" in err) == (2, True)
    model = Model.load(folder)
    block = next(iter(model.genotype.blocks))
    genotype = Genotype(
        {**model.genotype.blocks, block: {"conv_a": "conv_relu_conv", "conv_b": "conv3x3", "se": "off"}}
    )
    network = DerainNet(model.config, genotype.choices)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    Model(model.config, genotype, params, 20).save(tmp_path / "nonlinear")
    arguments = ("--model", tmp_path / "nonlinear", "--output", tmp_path / "a.onnx")
    code, _, err = run(monkeypatch, capfd, export, *arguments)
    assert (code, "only convolutions can be exported, and 'conv_relu_conv'" in err) == (2, True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "autoderain_jax.onnx_graph", raising=False)
    code, _, err = run(monkeypatch, capfd, export, "--output", tmp_path / "a.onnx")
    assert (code, "pip install 'autoderain-jax[export]'" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["nonlinear"]
