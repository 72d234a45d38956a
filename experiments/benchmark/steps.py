"""The steps of every search, beside the training step of a single model: what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from autoderain_jax.candidates import CANDIDATES
from autoderain_jax.cost import macs
from autoderain_jax.errors import InputError
from autoderain_jax.genotype import Genotype, uniform
from autoderain_jax.network import DerainNet, NetworkConfig
from autoderain_jax.rivals import AlgorithmName, KernelKind
from data_pipelines.batches import as_floats
from experiments.config import Preset, RetrainConfig, SearchConfig, TrainingConfig, search_preset
from experiments.programs import Programs, Run, jit_once, tree_bytes
from experiments.retrain import clipped_adam, first_state, searched_with, train_step
from experiments.search import build

LARGEST = "conv5x5"
"""The candidate that contains all linear ones; the single model of it, with SE, is what ratios are to."""
LINEAR = tuple(name for name, candidate in CANDIDATES.items() if candidate.linear)


@dataclasses.dataclass(frozen=True)
class StepsConfig:
    """What is common to the benchmarks of memory and speed."""

    preset: Preset = "small"
    """Network, batch and patch that are measured first; the options below vary one of them at a time."""
    algorithms: tuple[AlgorithmName, ...] = ("mdarts", "darts")
    """Searches whose steps are measured."""
    kernels: KernelKind | None = None
    """Weights of linear candidates: shared or own. Default: as the algorithms have them."""
    genotype: Path | None = None
    """A network found, measured beside the single model of the largest candidate. The network that it was searched with
    is measured, instead of the preset's."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    batches: tuple[int, ...] = ()
    """Vary the patches per step."""
    patches: tuple[int, ...] = ()
    """Vary the side of the patches in pixels."""
    candidates: tuple[int, ...] = ()
    """Vary the number of candidates of every convolution, 2 to 10."""
    depths: tuple[int, ...] = ()
    """Vary the depth: RSEBs of every level, in multiples of the preset's."""
    json: bool = False
    """Print one JSON object a line instead of a table."""
    plot: Path | None = None
    """Draw the ratios to the single model as an SVG file."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        if not self.algorithms:
            raise InputError("--algorithms names none")
        for name in ("batches", "patches", "depths"):
            for value in getattr(self, name):
                if value < 1:
                    raise InputError(f"--{name} must be positive, not {value}")
        for count in self.candidates:
            if not 2 <= count <= len(LINEAR):
                raise InputError(f"--candidates must be 2 to {len(LINEAR)}, not {count}")
        if self.plot is not None and self.plot.suffix != ".svg":
            raise InputError(f"--plot must end in .svg, not {self.plot.name}")
        if self.plot is not None and not self.plot.parent.is_dir():
            raise InputError(f"--plot: there is no folder {self.plot.parent}")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point at which steps are measured.

    Attributes:
      varied: what distinguishes it: ``preset``, ``batch``, ``patch``, ``candidates`` or ``depth``.
      value: of what is varied.
      config: of the search; its algorithm is to be replaced.
    """

    varied: str
    value: Any
    config: SearchConfig

    def describe(self) -> dict[str, Any]:
        """The setting as JSON values."""
        network = self.config.network
        return {
            "varied": self.varied,
            "value": self.value,
            "batch": self.config.batch,
            "patch": self.config.patch,
            "candidates": len(network.candidates),
            "width": network.width,
            "blocks": list(network.blocks),
            "dtype": network.dtype,
            "kernels": self.config.kernels,
        }


def settings(config: StepsConfig) -> Iterator[Setting]:
    """The preset, and every variation of it."""
    base = dataclasses.replace(search_preset(config.preset), kernels=config.kernels)
    network = base.network if config.genotype is None else searched_network(config.genotype, base.network)
    base = dataclasses.replace(base, network=dataclasses.replace(network, dtype=config.dtype))
    name = config.preset if config.genotype is None else f"{config.preset}, network of {config.genotype.name}"
    yield Setting("preset", name, base)
    for batch in config.batches:
        yield Setting("batch", batch, dataclasses.replace(base, batch=batch))
    for patch in config.patches:
        yield Setting("patch", patch, dataclasses.replace(base, patch=patch))
    for count in config.candidates:
        # The largest is always among them, so that the single model stays what it is.
        names = (LARGEST, *(name for name in LINEAR if name != LARGEST))[:count]
        yield Setting("candidates", count, _with_network(base, candidates=names))
    for depth in config.depths:
        blocks = tuple(depth * count for count in base.network.blocks)
        yield Setting("depth", depth, _with_network(base, blocks=blocks))


def searched_network(genotype: Path, otherwise: NetworkConfig) -> NetworkConfig:
    """The network that a genotype was searched with, or another where its file does not tell, if that fits it."""
    found = Genotype.load(genotype)
    network = searched_with(found.origin, str(genotype)).get("network", otherwise)
    found.check_fits(network, str(genotype))
    return network


def _with_network(config: SearchConfig, **changes: Any) -> SearchConfig:
    return dataclasses.replace(config, network=dataclasses.replace(config.network, **changes))


class Step:
    """A step that is measured.

    Args:
      first_state: makes the state, jitted when it is needed.
      batch: what else it is given.
      advance: ``state -> (state, ...)``.
      runs: the programs that it runs, in turn; one that is run several times is compiled once.

    Attributes:
      seconds: of compiling.
      flops: operations as XLA counts them, or None where it does not.
      held: bytes of parameters and optimisers' states.
      temp: bytes at its peak besides state and batch: activations, gradients, and what one program hands to the next.
      total: bytes at its peak.
    """

    def __init__(
        self,
        first_state: Callable[[], Any],
        batch: Any,
        advance: Callable[[Any], tuple[Any, Any]],
        runs: Sequence[Run],
    ):
        self._first_state, self._advance, self._state = first_state, advance, None
        self.seconds = sum(program.seconds for program in {run.program for run in runs})
        flops = [run.program.flops for run in runs]
        self.flops = None if None in flops else sum(flops)
        self.held = tree_bytes(jax.eval_shape(first_state))
        self.temp = max(run.extra for run in runs)
        self.total = self.temp + self.held + tree_bytes(batch)

    def __call__(self) -> Any:
        """Runs the step on the state that it left."""
        if self._state is None:
            self._state = jit_once(self._first_state)()
        self._state, _ = self._advance(self._state)
        return self._state

    def release(self) -> None:
        """Forgets the state; the next run begins from a first one."""
        self._state = None


def single_step(config: SearchConfig, genotype: Genotype) -> Step:
    """The training step of a derived network, as retraining runs it, on a batch of floats as those of searches are."""
    network = DerainNet(config.network, genotype.choices)
    optimiser = clipped_adam(config.learning_rate, config.steps, RetrainConfig.gradient_clip)
    update = train_step(network, optimiser, config.loss)

    def step(state, batch):
        params, opt_state, loss = update(*state, batch)
        return (params, opt_state), loss

    def first():
        state = first_state(network, optimiser, config)
        return state.params, state.opt_state

    batch, programs = as_floats(random_batch(config)), Programs()
    step = programs(step, (0,))
    return Step(first, batch, lambda state: step(state, batch), programs.ahead(step, jax.eval_shape(first), batch))


def search_steps(config: SearchConfig, algorithm: AlgorithmName) -> Iterator[tuple[str, Step]]:
    """The steps of a search, compiled as a search compiles them: ``weights``, ``gates``, and ``both`` in turn.

    Algorithms without alphas have ``weights`` alone.
    """
    config = dataclasses.replace(config, algorithm=algorithm)
    built = build(config, macs(config.network, config.patch))
    key, parts = jax.random.key(0), config.accumulate
    part = as_floats(random_batch(dataclasses.replace(config, batch=config.batch // parts)))
    batch = [part] * parts if parts > 1 else part

    def first():
        return built.first_state(key)

    search, state = built.search, jax.eval_shape(first)

    def step_of(advance: Callable[..., Any], runs: Sequence[Run]) -> Step:
        return Step(first, batch, lambda state: advance(state, batch, key), runs)

    weights = built.programs.ahead(search.weights, state, batch, key)
    yield "weights", step_of(search.weights, weights)
    if algorithm != "random":
        gates = built.programs.ahead(search.gates, state, batch, key)
        yield "gates", step_of(search.gates, gates)
        yield "both", step_of(lambda state, batch, key: search.step(state, batch, batch, key), gates + weights)


def allocator_peak() -> int | None:
    """Most bytes in use by an accelerator's allocator since the process began; None where it does not count.

    The count only grows: what a step takes is told if no larger one ran before it.
    """
    device = jax.devices()[0]
    return None if device.platform == "cpu" else (device.memory_stats() or {}).get("peak_bytes_in_use")


def largest(network: NetworkConfig) -> Genotype:
    """The network of the largest candidate everywhere, with SE."""
    return uniform(network, LARGEST, "on")


def found(config: StepsConfig, setting: Setting) -> Genotype | None:
    """The network found that was given, where it fits the setting."""
    if config.genotype is None:
        return None
    genotype = Genotype.load(config.genotype)
    return genotype if set(genotype.blocks) == set(setting.config.network.block_names()) else None


def random_batch(config: TrainingConfig) -> dict[str, np.ndarray]:
    """Patches of noise, as streams give them."""
    draw = np.random.RandomState(0)
    shape = (config.batch, config.patch, config.patch, 3)
    return {name: draw.randint(256, size=shape).astype(np.uint8) for name in ("rainy", "clean")}


def measured_steps(
    config: StepsConfig, setting: Setting, progress: Callable[[str], None]
) -> dict[tuple[str, str], Step]:
    """All steps of a setting, compiled, by names of algorithm and step; ``("single", "weights")`` is the first."""
    steps: dict[tuple[str, str], Step] = {}
    progress(f"compiling {setting.varied} {setting.value}: single")
    steps["single", "weights"] = single_step(setting.config, largest(setting.config.network))
    genotype = found(config, setting)
    if genotype is not None:
        steps["found", "weights"] = single_step(setting.config, genotype)
    for algorithm in config.algorithms:
        progress(f"compiling {setting.varied} {setting.value}: {algorithm}")
        for name, step in search_steps(setting.config, algorithm):
            steps[algorithm, name] = step
    return steps
