"""What this machine offers, and what is wrong with it: ``python -m experiments.doctor``.

It begins with the standard library alone, so that it runs where an installation is broken, and exits with 1 if one is.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PROJECT = "autoderain-jax"
SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow", "numpy", "pillow")
"""Packages whose versions matter most."""
PLUGINS = {"cuda12": ("jax-cuda12-plugin", "jax-cuda12-pjrt"), "cuda13": ("jax-cuda13-plugin", "jax-cuda13-pjrt")}
"""What JAX needs for NVIDIA's GPUs, by our extra."""
CUDA13_DRIVER, CUDA13_CAPABILITY = 580, 7.5
"""The first driver and compute capability (Turing) that run CUDA 13, by NVIDIA's documentation."""
NOT_NEEDED = ("tensorflow", "tensorflow-datasets")
"""Data that fit into memory are read without."""
DOWNLOADS = {
    "data sets in": ("tensorflow_datasets.core.constants", "DATA_DIR"),
    "models in": ("huggingface_hub.constants", "HF_HUB_CACHE"),
}
"""Where TFDS and the Hugging Face Hub keep what they download, by their own word."""
LEAST_DISK = 2**30
"""Bytes that a run may need for checkpoints, pictures and events."""


class Gpu(NamedTuple):
    """An NVIDIA GPU, as its driver tells."""

    name: str
    memory: str
    driver: str
    capability: str

    @property
    def extra(self) -> str:
        """What to install for it."""
        try:
            new = int(self.driver.partition(".")[0]) >= CUDA13_DRIVER and float(self.capability) >= CUDA13_CAPABILITY
        except ValueError:
            new = False
        return "cuda13" if new else "cuda12"


class NoDeviceError(Exception):
    """There is nothing that JAX could compute on; the text says why, and what to do."""


class Findings:
    """What was found, printed as it is.

    Attributes:
      problems: sentences.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def tell(self, name: str, value: object) -> None:
        """A line of the table."""
        print(f"{name:<18} {value}", flush=True)

    def problem(self, sentence: str) -> None:
        """Something that is wrong, with what to do."""
        self.problems.append(sentence)


def version(package: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine, whether JAX can use them or not."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
        return [Gpu(*(part.strip() for part in line.split(","))) for line in told.splitlines()]
    except (OSError, subprocess.SubprocessError, TypeError):
        return []


def check_packages(found: Findings) -> None:
    """Versions, and whether they are those that are needed."""
    found.tell("python", f"{platform.python_version()}, {sys.executable}")
    found.tell("system", platform.platform())
    found.tell(PROJECT, version(PROJECT) or "not installed")
    for package in SHOWN:
        found.tell(package, version(package) or "not installed")
    if version(PROJECT) is None:
        found.problem("the project is not installed in this Python: pip install -e .")
        return
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        from pip._vendor.packaging.requirements import Requirement

    incomplete = {extra for extra, names in PLUGINS.items() if version(names[0]) is None}
    for text in importlib.metadata.requires(PROJECT) or []:
        needed = Requirement(text)
        installed = version(needed.name)
        if installed is not None and needed.specifier.contains(installed, prereleases=True):
            continue
        if installed is None and needed.name in NOT_NEEDED:
            continue
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found.problem(f"{needed.name}{needed.specifier} is needed, not {installed}: pip install -e .")
        else:
            incomplete |= {extra for extra in extras() if needed.marker.evaluate({"extra": extra})}
    found.tell("extras", ", ".join(extra for extra in extras() if extra not in incomplete) or "none")


def extras() -> list[str]:
    """Names of what can be installed besides."""
    return importlib.metadata.metadata(PROJECT).get_all("Provides-Extra") or []


def check_plugins(found: Findings) -> None:
    """Packages that get into each other's way."""
    present = {extra: version(names[0]) for extra, names in PLUGINS.items() if version(names[0])}
    for extra, number in present.items():
        found.tell(f"plugin {extra}", number)
        if _numbers(number) != _numbers(version("jaxlib")):
            found.problem(
                f"{PLUGINS[extra][0]} {number} does not go with jaxlib {version('jaxlib')}, and parts of it will not "
                f"be used: pip install -U 'jax[{extra}]'"
            )
    here = gpus()
    if len(present) > 1:
        other = "cuda12" if here and here[0].extra == "cuda13" else "cuda13"
        found.problem(
            f"JAX has plugins for CUDA 12 and 13, of which it can use one: pip uninstall {' '.join(PLUGINS[other])}"
        )
    elif "cuda13" in present and here and here[0].extra == "cuda12":
        found.problem(
            f"{here[0].name} with driver {here[0].driver} cannot run CUDA 13: pip uninstall "
            f"{' '.join(PLUGINS['cuda13'])}, then pip install -e '.[cuda12]'"
        )
    if version("tensorflow") and version("tensorflow-cpu"):
        found.problem(
            "tensorflow and tensorflow-cpu overwrite each other's files: pip uninstall tensorflow tensorflow-cpu, then "
            "pip install -e ."
        )


def _numbers(text: str | None) -> str:
    """A version without what is said of its build."""
    return re.match(r"[\d.]*\d|", text or "")[0]


def check_devices(found: Findings) -> None:
    """What JAX computes on, and whether it does."""
    here = gpus()
    for gpu in here:
        found.tell("nvidia", f"{gpu.name}, {gpu.memory}, driver {gpu.driver}")
    import jax
    import jax.numpy as jnp

    try:
        devices = jax.devices()
    except AssertionError:
        # JAX's, without a word, where it is told to use CUDA alone and sees no GPU.
        sentence = f"JAX_PLATFORMS is {jax.config.jax_platforms!r}, and JAX finds no such device: unset it"
        raise NoDeviceError(sentence) from None
    found.tell("devices", f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    if here and devices[0].platform == "cpu":
        found.problem(f"there is a GPU, but JAX uses the CPU: {_why_no_gpu(here[0])}")
    from autoderain_jax import memory

    available = memory.of_device()
    stats = devices[0].memory_stats() or {}
    free = stats["bytes_limit"] - stats["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= set(stats) else None
    found.tell("memory", _gigabytes(available) + ("" if free is None else f", {_gigabytes(free)} free"))
    if devices[0].platform == "gpu" and os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true") == "true":
        found.tell(
            "",
            "by default three quarters of a GPU's, at once: XLA_PYTHON_CLIENT_PREALLOCATE=false takes what is needed",
        )
    found.tell("machine's memory", _gigabytes(memory.of_machine()))

    def loss(kernel):
        image = jnp.ones((1, 32, 32, 3))
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jnp.square(
            jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
        ).sum()

    began = time.perf_counter()
    gradient = jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((3, 3, 3, 8))))
    if not bool(jnp.isfinite(gradient).all()):
        found.problem(f"a convolution's gradient on {devices[0].device_kind} is not finite")
    found.tell("a convolution", f"compiled and run in {time.perf_counter() - began:.1f} s")


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def _why_no_gpu(gpu: Gpu) -> str:
    if sys.platform != "linux":
        return "JAX has no CUDA for this system; on Windows, it runs in WSL2"
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        if os.environ.get(name):
            return f"{name} is {os.environ[name]!r}: unset it"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides it: unset it"
    if not any(version(names[0]) for names in PLUGINS.values()):
        return f"pip install -e '.[{gpu.extra}]'"
    if "cuda" in os.environ.get("LD_LIBRARY_PATH", "").lower():
        return "LD_LIBRARY_PATH puts another CUDA before the one that JAX brings: unset it"
    return "the warning that JAX prints when it starts says why"


def check_tensorflow(found: Findings) -> None:
    """Whether the data pipeline can be imported, and leaves GPUs to JAX."""
    if importlib.util.find_spec("tensorflow") is None:
        found.tell("tensorflow", "not there: data that fit into memory are read nevertheless (--stream device)")
        return
    from data_pipelines.quiet_tf import tf

    taken = tf.config.get_visible_devices("GPU")
    if taken:
        found.problem(f"TensorFlow takes {len(taken)} GPUs from JAX: import data_pipelines.quiet_tf before it is used")
    found.tell("data pipeline", "works")


def check_folders(found: Findings) -> None:
    """Where programs and runs are kept."""
    import jax

    from experiments import command

    command.keep_programs()
    cache = Path(jax.config.jax_compilation_cache_dir)
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else 0
    found.tell("programs kept in", f"{cache}, {size / 1e6:,.0f} MB")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        found.problem(f"{cache} cannot be written ({error.strerror}): set JAX_COMPILATION_CACHE_DIR to another folder")
    for name, (module, constant) in DOWNLOADS.items():
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            found.tell(name, getattr(importlib.import_module(module), constant))
    free = shutil.disk_usage(".").free
    found.tell("disk", f"{free / 1e9:,.1f} GB free in {Path.cwd()}")
    if free < LEAST_DISK:
        found.problem(f"{Path.cwd()} has {free / 1e9:.1f} GB of disk left: runs need more, give --workdir elsewhere")


def check_model(found: Findings) -> None:
    """Whether the packaged model restores an image."""
    import numpy as np

    from autoderain_jax import Derainer

    derainer = Derainer.from_pretrained()
    image = np.full((96, 128, 3), 128, np.uint8)
    derainer(image)
    began = time.perf_counter()
    difference = int(np.abs(derainer(image).astype(int) - image).max())
    found.tell(
        "packaged model", f"{derainer.model.parameters:,} parameters; 128x96 in {time.perf_counter() - began:.3f} s"
    )
    if difference > 8:
        found.problem(f"the packaged model changes an even grey by {difference} of 255: this device computes wrongly")


CHECKS: tuple[Callable[[Findings], None], ...] = (
    check_packages,
    check_plugins,
    check_devices,
    check_tensorflow,
    check_folders,
    check_model,
)


def main() -> int:
    """The command: 0 if nothing is wrong."""
    if len(sys.argv) > 1:
        print(f"usage: python -m experiments.doctor\n\n{__doc__}")
        return 0 if {"-h", "--help"} & set(sys.argv) else 2
    found = Findings()
    for check in CHECKS:
        try:
            check(found)
        except NoDeviceError as error:
            found.problem(str(error))
            break
        except Exception as error:
            # What fails, and how, depends on what is broken.
            what = check.__name__.removeprefix("check_")
            found.problem(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            if check is check_devices:
                # All else rests on it.
                break
    print()
    for sentence in found.problems:
        print(f"problem: {sentence}")
    print("nothing is wrong" if not found.problems else f"{len(found.problems)} to mend")
    return int(bool(found.problems))


if __name__ == "__main__":
    sys.exit(main())
