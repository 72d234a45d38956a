"""What restoring an image takes: milliseconds, memory, and how near to the machine's peak its arithmetic comes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from autoderain_jax.cost import network_macs
from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.genotype import HAND_MADE, uniform
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet
from autoderain_jax.scales import AS_IT_IS
from experiments import command
from experiments.benchmark.timing import in_turn, on_accelerator, product_flops, write_trace
from experiments.config import Preset, search_preset
from experiments.programs import Program, jit_once, tree_bytes

SIZES = ("481x321", "1920x1080", "3840x2160")


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """Time and memory of restoring images of several sizes, warm, and the share of the machine's peak arithmetic.

    The peak is that of a large matrix product in the same precision, measured in the same run. Memory is the most that
    the whole process had meanwhile, on a CPU under Linux; on an accelerator, what the largest program of an image takes
    by XLA's analysis, with weights and pixels.
    """

    presets: tuple[Preset, ...] = ("small", "base")
    """Networks, of 3x3 convolutions with SE everywhere and random weights."""
    model: Path | None = None
    """A model folder, photo, fast or best to measure instead."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    sizes: tuple[str, ...] = SIZES
    """Widths and heights in pixels."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Precisions of the computation."""
    rounds: int = 5
    """Times that each image is restored; the median counts."""
    trace: Path | None = None
    """Write a profiler's trace of three restorations of each to this folder, for TensorBoard's profile plugin or
    ui.perfetto.dev."""
    json: bool = False
    """Print one JSON object a line instead of a table."""

    def check(self) -> list[tuple[int, int]]:
        """(height, width) of every size; raises ``InputError`` naming the first option whose value makes no sense."""
        if self.rounds < 1:
            raise InputError(f"--rounds must be positive, not {self.rounds}")
        if self.model is not None and self.presets != InferenceConfig.presets:
            raise InputError("--presets are measured unless there is a --model: leave one out")
        for name in ("presets", "sizes", "dtypes"):
            if not getattr(self, name):
                raise InputError(f"--{name} names none")
        found = []
        for size in self.sizes:
            match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
            if not match:
                raise InputError(f"--sizes needs WIDTHxHEIGHT, not {size!r}")
            found.append((int(match[2]), int(match[1])))
        return found


def inference(config: InferenceConfig) -> list[dict[str, Any]]:
    """Runs, prints and returns what ``--json`` prints; see ``InferenceConfig``.

    Raises:
      InputError: something is wrong with the options or the model.
    """
    sizes = config.check()
    console = command.console(stderr=config.json)
    rows: list[dict[str, Any]] = []
    for dtype in config.dtypes:
        peak = product_flops(dtype)
        for name, model in _models(config):
            model = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype=dtype))
            for height, width in sizes:
                console.print(f"running {name}, {dtype}, {width}x{height}")
                image = np.random.RandomState(0).randint(256, size=(height, width, 3)).astype(np.uint8)
                # Each with a program made to measure.
                derainer = Derainer(model, scales=AS_IT_IS)
                taken, memory = _measure(derainer, image, config.rounds)
                flops = 2 * network_macs(model.config, model.genotype.choices) * height * width / taken
                row = {
                    "benchmark": "inference",
                    "model": name,
                    "dtype": dtype,
                    "width": width,
                    "height": height,
                    "milliseconds": 1e3 * taken,
                    "peak_bytes": memory,
                    "flops_per_second": flops,
                    "share_of_peak": flops / peak,
                    "rounds": config.rounds,
                }
                rows.append(row)
                if config.trace is not None:
                    folder = config.trace / f"{name}-{dtype}-{width}x{height}"
                    console.print(f"trace: {write_trace(functools.partial(derainer, image), folder)}")
                if config.json:
                    print(json.dumps(row), flush=True)
    if not config.json:
        console.print(_table(rows))
    return rows


def _models(config: InferenceConfig) -> list[tuple[str, Model]]:
    if config.model is not None:
        return [(config.model.name, Model.load(config.model))]
    return [(preset, _random(preset)) for preset in config.presets]


def _random(preset: Preset) -> Model:
    training = search_preset(preset)
    genotype = uniform(training.network, HAND_MADE)
    network = DerainNet(training.network, genotype.choices)
    side = 2 * training.network.stride
    params = jit_once(network.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))["params"]
    return Model(training.network, genotype, params, training.patch)


def _measure(derainer: Derainer, image: np.ndarray, rounds: int) -> tuple[float, int | None]:
    """Median seconds to restore an image, compiled before, and the most bytes in use meanwhile, if known."""
    derainer(image)
    with contextlib.suppress(OSError):
        # Linux forgets the process's peak.
        Path("/proc/self/clear_refs").write_text("5")
    taken = in_turn({"image": lambda: derainer(image)}, rounds)["image"]
    return statistics.median(taken), _analysed(derainer) if on_accelerator() else _peak()


def _analysed(derainer: Derainer) -> int:
    """Bytes of the largest program that the derainer ran: an allocator's count only grows, over all rows of a run."""

    def total(height: int, width: int) -> int:
        image, side = jax.ShapeDtypeStruct((height, width, 3), np.uint8), jax.ShapeDtypeStruct((), np.int32)
        args = derainer._variables, image, side, side
        return Program(derainer._restore, *args).extra + tree_bytes(args)

    return max(total(*size) for size in derainer.programs)


def _peak() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
    return None


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("model", "precision", "image", "ms", "peak MB", "GFLOP/s", "of peak")
    for row in rows:
        table.add_row(
            row["model"],
            row["dtype"],
            f"{row['width']}x{row['height']}",
            f"{row['milliseconds']:,.0f}",
            "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}",
            f"{row['flops_per_second'] / 1e9:,.0f}",
            f"{row['share_of_peak']:.0%}",
        )
    return table
