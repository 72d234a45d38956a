"""Typed configurations of the commands, and the presets by name.

The dataclasses are the command line: their fields are its options, their docstrings its help, and a preset is a set
of other defaults.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import one_hot_gates, uniform
from autoderain_jax.losses import parse_loss
from autoderain_jax.model import LARGEST_WINDOW, MOST_PIXELS
from autoderain_jax.network import NetworkConfig, open_choices
from autoderain_jax.rivals import ALGORITHMS, Algorithm, AlgorithmName, KernelKind
from autoderain_jax.search_space import Rows, leaning_alphas
from data_pipelines import BUILTIN, Pairs, open_pairs
from data_pipelines.batches import Stream
from data_pipelines.synthetic import with_synthetic
from experiments.processes import Processes

Preset = Literal["tiny", "small", "base"]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What search and retraining have in common."""

    workdir: Path | None = None
    """Folder for everything the run writes; the same folder again resumes. Without it, one is made in runs/."""
    preset: Preset = "tiny"
    """Set of defaults: tiny (a demonstration in minutes on a CPU), small (useful, on a CPU) or base (a GPU)."""
    data: str = BUILTIN
    """Folder with rainy/ and clean/ (or train/ and test/ with these inside; names that circulate will do); a list of
    pairs (.txt); a data set by name, such as rain100h, with --data-root; or synthetic[/PRESET][:FOLDER], rain rendered
    over a folder's photographs or those that scikit-image ships."""
    data_root: Path | None = None
    """Where a data set given by name was unpacked."""
    synthetic_rain: Literal["none", "mixed", "light", "heavy", "varied", "soft"] = "none"
    """Adds synthetic rain of this preset over the clean images, of those held out as well; soft also over parts
    of them, enlarged."""
    synthetic_renderings: int = 1
    """Rains added over each clean image by --synthetic-rain."""
    swap_rain: float = 0.0
    """Augmentation: the share of the training patches, in [0, 1], on which the rain of another falls instead of their
    own. For data whose rain is added to the scene, such as Rain100L's."""
    stream: Stream = "auto"
    """How patches are fed: device (pixels stay on the device), tf (tf.data), or auto, device where they fit. Both give
    the same patches."""
    seed: int = 0
    """Seed of everything random: weights, patches, paths, ties."""
    steps: int = 300
    """Training steps."""
    batch: int = 4
    """Patches per step."""
    patch: int = 64
    """Side of the square training patches in pixels."""
    learning_rate: float = 1e-3
    """Of Adam on the weights, at its peak; it falls to zero along a cosine."""
    loss: str = "charbonnier"
    """Training loss: charbonnier, l1, negative_ssim, negative_psnr (in dB), or a mix such as
    charbonnier+0.1*negative_ssim."""
    remat: bool = False
    """Compute the inside of every RSEB anew in the backward pass: less memory, a third more time."""
    accumulate: int = 1
    """Take a step's batch in so many parts, one after the other: the memory of one part, the gradient of the batch."""
    processes: Processes = dataclasses.field(default_factory=Processes)
    """Several processes that make up one run."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; one is also saved at the end and when the run is interrupted."""
    held_out: float = 0.05
    """Share of the training images held out, whole, for choices."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    network: NetworkConfig = dataclasses.field(default_factory=lambda: NetworkConfig(width=12, blocks=(1, 1)))
    """Shape of the network."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        for name in ("steps", "batch", "patch", "learning_rate", "checkpoint_minutes", "synthetic_renderings"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        if self.patch > LARGEST_WINDOW:
            raise InputError(f"--patch must be at most {LARGEST_WINDOW}, not {self.patch}")
        if self.accumulate < 1:
            raise InputError(f"--accumulate must be at least 1, not {self.accumulate}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in [0, 2^32), not {self.seed}")
        if "negative_ssim" in self.loss and self.patch < 11:
            raise InputError(f"--patch must be at least 11 for negative_ssim, not {self.patch}")
        parse_loss(self.loss)
        if self.synthetic_renderings != 1 and self.synthetic_rain == "none":
            raise InputError("--synthetic-renderings needs --synthetic-rain")
        if not 0 <= self.swap_rain <= 1:
            raise InputError(f"--swap-rain must be in [0, 1], not {self.swap_rain}")
        if not 0 < self.held_out < 1:
            raise InputError(f"--held-out must be between 0 and 1, not {self.held_out}")
        self.network.check("--network")
        self.processes.check()


def check_own(config: Any, is_mdarts: bool, others: str) -> None:
    """Raises ``InputError`` unless the options of mdarts alone make sense, and are given to it alone."""
    for name in ("relaxed", "head_start"):
        value, option = getattr(config, name), "--" + name.replace("_", "-")
        if value is not None and not 0 <= value < 1:
            raise InputError(f"{option} must be in [0, 1), not {value}")
        if value is not None and not is_mdarts:
            raise InputError(f"{option} is a way of mdarts, not of {others}")


@dataclasses.dataclass(frozen=True)
class SearchConfig(TrainingConfig):
    """Search an architecture, by MDARTS or a rival: writes genotype.json and report.html."""

    algorithm: AlgorithmName = "mdarts"
    """How to search: mdarts; darts (first order, a softmax mixture of all candidates); folded (such a mixture, folded
    into one convolution); nasp (every candidate in the gate step); proxyless (two sampled paths); random (best of many
    paths)."""
    kernels: KernelKind | None = None
    """Weights of linear candidates: shared (projections of one kernel) or own. Default: as the algorithm has them."""
    relaxed: float | None = None
    """Of mdarts: share of the steps in which gates are the alphas themselves; in the others they are binary, and the
    alphas stay. With 0, gates are binary from the start, and alphas do move. Default: 0.9."""
    head_start: float | None = None
    """Of mdarts: how far alphas begin on the way from level to the network made by hand, the first candidate everywhere
    with SE, which is kept where data do not speak against it. Default: 0.4."""
    alphas_learning_rate: float | None = None
    """Of the architecture parameters. Default: the algorithm's, 6e-3 for mdarts, whose alphas lie in [0, 1]."""
    mode: Literal["lazy", "eager"] = "lazy"
    """Proximal gradient: lazy (alphas projected on the simplex) or eager (also pulled toward one-hot, ever more
    strongly)."""
    pull: float = 0.05
    """Strength of the eager pull at last; it grows linearly from zero for as long as alphas move."""
    cost: Literal["macs", "params", "latency"] = "macs"
    """What is paid for: multiply-accumulates, weights, or milliseconds measured on this device."""
    cost_weight: float = 2e-4
    """The price: this times (cost / cost of the dearest architecture) is added to the held-out loss."""
    random_paths: int = 30
    """Paths among which --algorithm random chooses in the end, by held-out loss and price."""
    early_stop: int = 0
    """Stop when for so many steps no choice has changed and alphas have not become more decided; 0: never. If that is
    before gates are binary, what mdarts found has not been trained alone: retraining does that."""
    held_out: float = 0.2
    """Share of the training images held out, whole, for the alphas."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        super().check()
        check_own(self, self.algorithm == "mdarts", self.algorithm)
        if self.random_paths < 1:
            raise InputError(f"--random-paths must be at least 1, not {self.random_paths}")
        if self.mode != "lazy" and self.algorithm != "mdarts":
            raise InputError(f"--mode {self.mode} is a way of mdarts, not of {self.algorithm}")
        if self.pull != SearchConfig.pull and self.mode != "eager":
            raise InputError("--pull needs --mode eager")
        if self.random_paths != SearchConfig.random_paths and self.algorithm != "random":
            raise InputError(f"--random-paths is a way of random, not of {self.algorithm}")
        if self.accumulate != 1 and not self.built_algorithm.in_stages:
            raise InputError("--accumulate is a way of mdarts with shared kernels, in a search")
        for name in ("early_stop", "alphas_learning_rate"):
            if getattr(self, name) and self.algorithm == "random":
                raise InputError(f"--{name.replace('_', '-')} is no way of random, whose alphas do not move")
        for name in ("alphas_learning_rate", "pull", "cost_weight", "early_stop"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, not {getattr(self, name)}")

    @property
    def built_algorithm(self) -> Algorithm:
        """The algorithm with the kind of kernels asked for."""
        return ALGORITHMS[self.algorithm].with_kernels(self.kernels)

    @property
    def start(self) -> Rows:
        """The first alphas of mdarts."""
        hand_made = uniform(self.network, self.network.candidates[0])
        head_start = self.built_algorithm.head_start_of(self.head_start)
        return leaning_alphas(one_hot_gates(open_choices(self.network), hand_made), head_start)

    @property
    def relaxed_steps(self) -> int:
        """In how many steps gates are relaxed; 0 for algorithms that do not know this."""
        return self.built_algorithm.relaxed_steps(self.relaxed, self.steps)


@dataclasses.dataclass(frozen=True)
class SearchesConfig(SearchConfig):
    """Search an architecture, by MDARTS or a rival: writes genotype.json and report.html.

    Several seeds or prices make several searches, each in a folder of its own, and a report on all of them.
    """

    seeds: int = 1
    """Searches that differ in nothing but their seed: --seed, the next, and so on. How far they agree is reported."""
    cost_weights: tuple[float, ...] = ()
    """Searches at several prices of computation, instead of --cost-weight: a front of sizes."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        super().check()
        if self.seeds < 1:
            raise InputError(f"--seeds must be at least 1, not {self.seeds}")
        for weight in self.cost_weights:
            if not 0 <= weight < math.inf:
                raise InputError(f"--cost-weights must not be negative, not {weight}")
        # Their folders' names have as many digits.
        if len({f"{weight:g}" for weight in self.cost_weights}) < len(self.cost_weights):
            raise InputError("--cost-weights names one twice, to six digits")
        if self.cost_weights and self.cost_weight != SearchConfig.cost_weight:
            raise InputError("give either --cost-weight or --cost-weights")
        if self.seed + self.seeds > 2**32:
            raise InputError(f"--seed {self.seed} and the {self.seeds} --seeds must all be in [0, 2^32)")


@dataclasses.dataclass(frozen=True)
class RetrainConfig(TrainingConfig):
    """Train a searched network from scratch, or a trained one further: writes model/ and report.html."""

    genotype: Path = Path("genotype.json")
    """Required, or --initial-model: the genotype file that a search wrote. The data of that search are the default of
    --data, and without --preset so are its preset and network."""
    initial_model: Path | None = None
    """Fine-tuning: the model, a folder or photo, fast or best, whose weights are trained further on --data, without
    --genotype.
    Genotype and network are the model's, but for --network.dtype, and so are the defaults of --preset and --patch. If
    nothing scores better on the images held out, the result is that model."""
    gradient_clip: float = 0.01
    """Norm to which longer gradients are shortened, as a single one can undo a training; 0: never."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then what is scored and kept, such as 0.999; 0:
    the weights themselves."""
    held_out: float = 0.05
    """Share of the training images held out, whole, to choose the best weights; a part of the search's."""
    validations: int = 10
    """How many times, evenly spread, the held-out images are scored."""
    image_pixels: int | None = None
    """Width times height of the pictures whose rain the training images show: at that size derain begins to look for
    rain in larger ones. Default: the training images' median; give it where they are cut out of larger pictures."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        super().check()
        if self.validations < 1:
            raise InputError(f"--validations must be at least 1, not {self.validations}")
        if not 0 <= self.gradient_clip < math.inf:
            raise InputError(f"--gradient-clip must not be negative, not {self.gradient_clip}")
        if self.image_pixels is not None and not 0 < self.image_pixels <= MOST_PIXELS:
            raise InputError(f"--image-pixels must be in 1 to {MOST_PIXELS}, not {self.image_pixels}")
        if not 0 <= self.ema < 1:
            raise InputError(f"--ema must be in [0, 1), not {self.ema}")


def open_training(config: TrainingConfig) -> tuple[Pairs, Pairs]:
    """The training pairs and those held out whole; on both falls synthetic rain as well, if the configuration says so.

    What is chosen by the held-out images is so chosen by the rain that is to be removed.

    Raises:
      InputError: something is wrong with the data.
    """
    train, held_out = open_pairs(config.data, "train", config.data_root).hold_out(config.held_out)
    if config.synthetic_rain != "none":
        rain = config.synthetic_rain, config.synthetic_renderings
        train, held_out = with_synthetic(train, *rain), with_synthetic(held_out, *rain)
    return train, held_out


SHAPES: dict[Preset, dict[str, Any]] = {
    "tiny": {},
    "small": {"network": NetworkConfig(width=24, blocks=(1, 1, 2)), "batch": 8},
    "base": {"network": NetworkConfig(width=48, blocks=(3, 4, 6)), "batch": 16, "patch": 128},
}
SEARCH_STEPS = {"tiny": 300, "small": 600, "base": 20_000}
RETRAIN_STEPS = {"tiny": 1_000, "small": 6_500, "base": 200_000}


def search_preset(preset: str, kind: type[SearchConfig] = SearchConfig) -> SearchConfig:
    """The defaults of a search; those of ``tiny`` for an unknown name, which the command line then refuses."""
    preset = preset if preset in tuple(SHAPES) else "tiny"
    return kind(preset=preset, steps=SEARCH_STEPS[preset], **SHAPES[preset])


def retrain_preset(preset: str) -> RetrainConfig:
    """The defaults of a retraining; an unknown name as for ``search_preset``."""
    preset = preset if preset in tuple(SHAPES) else "tiny"
    return RetrainConfig(preset=preset, steps=RETRAIN_STEPS[preset], **SHAPES[preset])
