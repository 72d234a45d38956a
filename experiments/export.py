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

from autoderain_jax.derainer import PRETRAINED, Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.model import Model
from experiments import command

PLATFORMS = ("cpu", "cuda")
"""That a StableHLO file runs on."""
ODD_SIZES = ((97, 130), (161, 75), (33, 255))
"""Heights and widths at which what was exported is compared with what it was exported from."""

Images = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write a model as a file that needs nothing of this package, and compare what both restore.

    What is written takes a uint8 RGB image (height, width, 3) and gives one. ONNX files take images of any size, the
    others such with sides that are multiples of the network's stride.
    """

    output: Path
    """What to write: a file, or a folder for savedmodel. It must not exist."""
    format: Literal["stablehlo", "onnx", "savedmodel"] = "onnx"
    """stablehlo: by jax.export, for CPU and CUDA. onnx: for onnxruntime and others. savedmodel: for TensorFlow."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it; without it, the model that comes with the package."""


def export(config: ExportConfig) -> int:
    """Writes the file, and reads it to see that it restores images.

    Returns:
      The largest difference between what it and the model restore, in grey levels.

    Raises:
      InputError: the output exists or cannot be written, a package is missing, or the model has no such form.
    """
    if config.output.exists():
        raise InputError(f"--output {config.output} exists already")
    model = Model.load(PRETRAINED if config.model is None else config.model)
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
    derainer, stride = Derainer(model), model.config.stride
    draw, largest = np.random.RandomState(0), 0
    for height, width in ODD_SIZES:
        # Smooth, as photographs are.
        small = draw.randint(256, size=(height // 8 + 1, width // 8 + 1, 3))
        image = np.kron(small, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
        padded = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), "reflect")
        restored = exported(padded)[:height, :width]
        largest = max(largest, int(np.abs(restored.astype(int) - derainer(image)).max()))
    return largest


def restorer(model: Model) -> Callable[[jax.Array], jax.Array]:
    """The network from uint8 (h, w, 3), with sides that are multiples of its stride, to the same, with its weights."""
    network, variables = model.network(), {"params": jax.tree.map(np.asarray, model.params)}

    def restore(image: jax.Array) -> jax.Array:
        restored = network.apply(variables, image[None].astype(jnp.float32) / 255.0)[0]
        return jnp.round(jnp.clip(restored, 0.0, 1.0) * 255.0).astype(jnp.uint8)

    return restore


def sizes(model: Model) -> str:
    """Of the image that ``restorer`` takes, as ``jax.export`` writes sizes that are not known."""
    stride = model.config.stride
    return f"{stride} * h, {stride} * w, 3"


def _write_stablehlo(model: Model, path: Path) -> None:
    image = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes(model)), jnp.uint8)
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
    from jax.experimental import jax2tf

    from data_pipelines.quiet_tf import tf

    converted = jax2tf.convert(
        restorer(model),
        polymorphic_shapes=[sizes(model)],
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
