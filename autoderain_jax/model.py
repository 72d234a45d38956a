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

from autoderain_jax.errors import InputError, in_short, shown
from autoderain_jax.files import read_json, replace_files, writing
from autoderain_jax.genotype import Genotype
from autoderain_jax.network import DerainNet, NetworkConfig

FORMAT = "autoderain-model"
VERSION = 2
PACKAGED = {name: Path(__file__).parent / "pretrained" / name for name in ("photo", "fast", "best")}
"""The models that come with the package, by name; the first is used where none is named."""
LARGEST_WINDOW = 4096
"""Pixels: tiles are at least half as large, whatever memory there is."""
MOST_PIXELS = 10**12
"""Of an image, more than any has."""
MOST_HEADER = 2**22
"""Bytes of the header of weights, a hundred for each array: more than a thousand blocks have. Parsed, it may take
twenty times as much memory."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A derived network with its weights.

    Attributes:
      config: shape of the network.
      genotype: its architecture.
      params: its weights, as nested dictionaries of float32 arrays.
      pool_window: side in pixels that squeeze-and-excitation pools over at inference; the training patch.
      training: how it was trained, for the reader.
      image_pixels: of the images that it was trained on, width times height; None, not known.
    """

    config: NetworkConfig
    genotype: Genotype
    params: Mapping[str, Any]
    pool_window: int
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_pixels: int | None = None

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
        """Writes the folder, in which a model may be; where there is a ``model.json``, it is whole.

        Raises:
          InputError: a file cannot be written; it is named.
        """
        folder = Path(folder)
        flat = flax.traverse_util.flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "parameters": self.parameters,
            "network": dataclasses.asdict(self.config),
            "pool_window": self.pool_window,
            "image_pixels": self.image_pixels,
            "training": dict(self.training),
            "genotype": json.loads(self.genotype.to_json()),
        }
        # Written by ourselves, weights can be read by whom files of the user can.
        weights, description = safetensors.numpy.save(flat), json.dumps(content, indent=2) + "\n"
        replace_files({folder / "weights.safetensors": weights, folder / "model.json": description.encode()})

    @classmethod
    def load(cls, folder: str | Path | None, weights: bool = True) -> Model:
        """Reads a model folder, all of it or, without starting JAX, its ``model.json`` alone.

        Args:
          folder: as ``folder_of`` takes it.
          weights: whether to read them.

        Raises:
          InputError: something is missing or does not fit; it is named.
        """
        folder = folder_of(folder)
        path = folder / "model.json"
        content = read_json(path, "model")
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise InputError(f"{path} is not a model of version {VERSION}")
        lacking = [name for name in ("network", "genotype", "pool_window", "training") if name not in content]
        if lacking:
            raise InputError(f"{path} is incomplete: it has no {lacking[0]!r}")
        config = NetworkConfig.from_json(content["network"], str(path), decided=True)
        genotype = Genotype.from_content(content["genotype"], f"{path}, genotype")
        pool_window, training, pixels = content["pool_window"], content["training"], content.get("image_pixels")
        if type(pool_window) is not int or pool_window < 1:
            raise InputError(f"{path}: pool_window must be a positive integer, not {shown(pool_window)}")
        if pool_window > LARGEST_WINDOW:
            raise InputError(f"{path}: pool_window must be at most {LARGEST_WINDOW}, not {shown(pool_window)}")
        if pixels is not None and (type(pixels) is not int or not 0 < pixels <= MOST_PIXELS):
            raise InputError(f"{path}: image_pixels must be a positive integer or null, not {shown(pixels)}")
        if not isinstance(training, dict):
            raise InputError(f"{path}: training must be an object")
        genotype.check_fits(config, f"{path}, genotype")
        model = cls(config, genotype, {}, pool_window, training, pixels)
        if not weights:
            return model
        return dataclasses.replace(model, params=_read_weights(folder / "weights.safetensors", model.network()))


def folder_of(model: str | Path | None) -> Path:
    """Where a model is: the folder itself, or, unless a folder has this name, one in ``PACKAGED``; None: ``photo``."""
    if model is None:
        return next(iter(PACKAGED.values()))
    folder = Path(model)
    return folder if folder.is_dir() else PACKAGED.get(str(model), folder)


def _read_weights(path: Path, network: DerainNet) -> Mapping[str, Any]:
    """The weights, none of which is read before its name, type and shape are found to be the network's."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read weights {path}: it is not a file")
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MOST_HEADER:
            raise InputError(f"cannot read weights {path}: its header has more than {MOST_HEADER:,} bytes")
        with safetensors.safe_open(path, "numpy") as file:
            names = set(file.keys())
            shapes = _shapes(network, names, path)
            # A candidate without weights is an empty node, of which the file has nothing.
            wanted = {name: shape for name, shape in shapes.items() if shape is not flax.traverse_util.empty_node}
            different = sorted(wanted.keys() ^ names) or [
                name
                for name in sorted(wanted)
                if (part := file.get_slice(name)).get_dtype() != "F32" or tuple(part.get_shape()) != wanted[name]
            ]
            if different:
                raise InputError(f"{path} does not fit its model.json at {shown(different[0])}")
            flat = {name: file.get_tensor(name) for name in wanted}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read weights {path}: {getattr(error, 'strerror', None) or in_short(error)}") from None
    for name, values in flat.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path} has weights that are not finite at {name}")
    return flax.traverse_util.unflatten_dict(shapes | flat, sep="/")


def _shapes(network: DerainNet, names: set[str], path: Path) -> dict[str, Any]:
    """The shapes of all weights by name, and the nodes that are empty."""
    # Tracing a network takes seconds where it is deep, which a file without its blocks is not worth.
    missing = sorted(network.choices.keys() - {name.partition("/")[0] for name in names})
    if missing:
        raise InputError(f"{path} does not fit its model.json at {missing[0]!r}")
    size = 2 * network.config.stride
    rainy = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    expected = jax.eval_shape(network.init, jax.random.key(0), rainy)["params"]
    return flax.traverse_util.flatten_dict(jax.tree.map(jnp.shape, expected), keep_empty_nodes=True, sep="/")
