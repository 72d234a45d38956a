"""A trained model on disk: ``weights.safetensors`` and ``model.json`` in one folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import DerainNet, NetworkConfig

FORMAT = "autoderain-model"
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Model:
    """A derived network with its weights.

    Attributes:
      config: shape of the network.
      genotype: its architecture.
      params: its weights, as nested dictionaries of float32 arrays.
      pool_window: side in pixels that squeeze-and-excitation pools over at inference; the training patch.
      training: how it was trained, for the reader.
    """

    config: NetworkConfig
    genotype: Genotype
    params: Mapping[str, Any]
    pool_window: int
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def network(self) -> DerainNet:
        """The network as used on whole images."""
        return DerainNet(self.config, self.genotype.choices, self.pool_window)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))

    @property
    def id(self) -> str:
        """16 hexadecimal digits that depend on shape, architecture and weights alone."""
        flat = flax.traverse_util.flatten_dict(self.params, sep="/")
        digest = hashlib.sha256(json.dumps([dataclasses.asdict(self.config), self.genotype.blocks]).encode())
        for name in sorted(flat):
            digest.update(name.encode() + np.asarray(flat[name]).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Writes the folder; ``model.json`` last, so that a folder with one is whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        flat = flax.traverse_util.flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        # Weights of one model beside the description of another must never look whole.
        (folder / "model.json").unlink(missing_ok=True)
        safetensors.numpy.save_file(flat, folder / "weights.safetensors")
        content = {
            "format": FORMAT,
            "version": VERSION,
            "parameters": self.parameters,
            "network": dataclasses.asdict(self.config),
            "pool_window": self.pool_window,
            "training": dict(self.training),
            "genotype": json.loads(self.genotype.to_json()),
        }
        partial = folder / "model.json.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(folder / "model.json")

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Reads a model folder; raises ``InputError`` naming what is missing or does not fit."""
        path = Path(folder) / "model.json"
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise InputError(f"cannot read model {path}: {error.strerror}") from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise InputError(f"{path} is not a model of version {VERSION}")
        try:
            config = NetworkConfig.from_json(content["network"], str(path))
            genotype = Genotype.from_json(json.dumps(content["genotype"]), f"{path}, genotype")
            pool_window, training = content["pool_window"], dict(content["training"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is incomplete: {error}") from None
        if type(pool_window) is not int or pool_window < 1:
            raise InputError(f"{path}: pool_window must be a positive integer, not {pool_window!r}")
        genotype.check_fits(config, f"{path}, genotype")
        model = cls(config, genotype, {}, pool_window, training)
        return dataclasses.replace(model, params=_read_weights(Path(folder) / "weights.safetensors", model.network()))


def _read_weights(path: Path, network: DerainNet) -> Mapping[str, Any]:
    try:
        flat = safetensors.numpy.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read weights {path}: {error}") from None
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
    size = 2 * network.config.stride
    expected = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    shapes, wanted = (flax.traverse_util.flatten_dict(jax.tree.map(jnp.shape, t), sep="/") for t in (params, expected))
    for name in sorted(wanted.keys() | shapes.keys()):
        if shapes.get(name) != wanted.get(name):
            raise InputError(f"{path} does not fit its model.json at {name}")
    return params
