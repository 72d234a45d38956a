"""A model as a file that runs elsewhere: ``python -m experiments.export --format onnx --output derain.onnx``."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from autoderain_jax.blocks import Extent, clear
from autoderain_jax.candidates import candidate
from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.model import Model
from autoderain_jax.scales import AS_IT_IS
from autoderain_jax.tiles import grid
from experiments import command

PLATFORMS = ("cpu", "cuda")
"""That a StableHLO file runs on."""
ODD_SIZES = ((97, 130), (161, 75), (33, 255))
"""Heights and widths at which what was exported is compared with what it was exported from."""

Images = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write a model as a file that needs nothing of this package, and compare what both restore.

    What is written takes a uint8 RGB image (height, width, 3) of any size and gives one.
    """

    output: Path
    """What to write: a file, or a folder for savedmodel. It must not exist."""
    format: Literal["stablehlo", "onnx", "savedmodel"] = "onnx"
    """stablehlo: by jax.export, for CPU and CUDA. onnx: for onnxruntime and others. savedmodel: for TensorFlow."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it, or one of those that come with the package: photo, which is the default,
    fast or best."""


def export(config: ExportConfig) -> int:
    """Writes the file, and reads it to see that it restores images.

    Returns:
      The largest difference between what it and the model restore, in grey levels.

    Raises:
      InputError: the output exists or cannot be written, a package is missing, or the model has no such form.
    """
    if config.output.exists():
        raise InputError(f"--output {config.output} exists already")
    model = Model.load(config.model)
    writer, reader = FORMATS[config.format]
    parent = config.output.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".export-") as folder:
            writer(model, Path(folder) / "model")
            largest = _largest_difference(model, reader(Path(folder) / "model"))
            (Path(folder) / "model").rename(config.output)
    except OSError as error:
        raise InputError(f"cannot write --output {config.output}: {error.strerror or error}") from None
    except ImportError as error:
        raise InputError(f"--format {config.format} needs {error.name}: pip install 'autoderain-jax[export]'") from None
    return largest


def _largest_difference(model: Model, exported: Images) -> int:
    derainer, draw, largest = Derainer(model, scales=AS_IT_IS), np.random.RandomState(0), 0
    for height, width in ODD_SIZES:
        # Smooth, as photographs are.
        small = draw.randint(256, size=(height // 8 + 1, width // 8 + 1, 3))
        image = np.kron(small, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
        largest = max(largest, int(np.abs(exported(image).astype(int) - derainer(image)).max()))
    return largest


def restorer(model: Model) -> Callable[[jax.Array], jax.Array]:
    """The network with its weights: uint8 (h, w, 3), of a size that may be unknown when it is traced, to the same.

    Raises:
      InputError: the architecture has a candidate that is not linear.
    """
    network, variables = model.network(), {"params": jax.tree.map(np.asarray, model.params)}
    stride, step = model.config.stride, grid(model.config, model.pool_window)
    for row in model.genotype.blocks.values():
        for name in (row["conv_a"], row["conv_b"]):
            if not candidate(name).linear:
                raise InputError(f"only convolutions can be exported, and {name!r} is another candidate")

    def restore(image: jax.Array) -> jax.Array:
        height, width = image.shape[:2]
        # Sizes that are not known must be multiples of what the network divides them by: what is too much is cleared.
        sides = [-(-length // stride) * stride for length in (height, width)]
        extent = Extent(*(jnp.asarray(side, jnp.int32) for side in sides))
        x = image
        for axis, length in enumerate((height, width)):
            period = jnp.maximum(2 * length - 2, 1)
            there = jnp.arange(-(-length // step) * step) % period
            x = jnp.take(x, jnp.minimum(there, period - there), axis)
        x = clear(x[None].astype(jnp.float32) / 255.0, extent)
        restored = network.apply(variables, x, extent=extent)[0, :height, :width]
        return jnp.round(jnp.clip(restored, 0.0, 1.0) * 255.0).astype(jnp.uint8)

    return restore


def _write_stablehlo(model: Model, path: Path) -> None:
    image = jax.ShapeDtypeStruct(jax.export.symbolic_shape("height, width, 3"), jnp.uint8)
    exported = jax.export.export(jax.jit(restorer(model)), platforms=PLATFORMS)(image)
    path.write_bytes(exported.serialize())


def _read_stablehlo(path: Path) -> Images:
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda image: np.asarray(exported.call(image))


def _write_onnx(model: Model, path: Path) -> None:
    from autoderain_jax.onnx_graph import onnx_model

    path.write_bytes(onnx_model(model).SerializeToString())


def _read_onnx(path: Path) -> Images:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def _write_savedmodel(model: Model, path: Path) -> None:
    from data_pipelines.quiet_tf import tf  # before JAX imports it with its log

    from jax.experimental import jax2tf  # isort: skip

    converted = jax2tf.convert(
        restorer(model),
        polymorphic_shapes=["height, width, 3"],
        native_serialization_platforms=PLATFORMS,
        with_gradient=False,
    )
    image = tf.TensorSpec((None, None, 3), tf.uint8, "image")
    module = tf.Module()
    module.restore = tf.function(converted, input_signature=[image], autograph=False)
    tf.saved_model.save(module, str(path))


def _read_savedmodel(path: Path) -> Images:
    from data_pipelines.quiet_tf import tf

    module = tf.saved_model.load(str(path))
    return lambda image: module.restore(image).numpy()


FORMATS: dict[str, tuple[Callable[[Model, Path], None], Callable[[Path], Images]]] = {
    "stablehlo": (_write_stablehlo, _read_stablehlo),
    "onnx": (_write_onnx, _read_onnx),
    "savedmodel": (_write_savedmodel, _read_savedmodel),
}
"""How each is written, and how it is read."""


def main() -> None:
    """The command."""
    config = command.parse(ExportConfig, sys.argv[1:], prog="python -m experiments.export")
    largest = export(config)
    console = command.console()
    console.print(f"written: {config.output}")
    console.print(f"largest difference to the model, {len(ODD_SIZES)} images: {largest} of 255 grey levels")


if __name__ == "__main__":
    command.run(main)
