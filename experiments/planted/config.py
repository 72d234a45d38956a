"""The options of ``python -m experiments.planted``."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from autoderain_jax.errors import InputError
from autoderain_jax.rivals import AlgorithmName, KernelKind
from experiments.config import check_own


@dataclasses.dataclass(frozen=True)
class PlantedConfig:
    """Measure how often a search finds a planted architecture."""

    workdir: Path | None = None
    """Folder in which answers are kept teacher by teacher; the same folder again goes on where it was stopped. What was
    found there can be ranked later."""
    algorithms: tuple[AlgorithmName, ...] = ("mdarts",)
    """Searches to be measured, all on the same teachers."""
    kernels: KernelKind | None = None
    """Weights of linear candidates: shared (projections of one kernel) or own. Default: as the algorithm has them."""
    layers: int = 1
    """Layers of teacher and student. One: a convolution. More: residual layers, x + conv(relu(x)) / 2."""
    teachers: int = 40
    """Teachers, each with one search by each algorithm."""
    steps: int = 1200
    """Steps of each search."""
    relaxed: float | None = None
    """Of mdarts: share of the steps in which gates are the alphas themselves. Default: 0.9."""
    head_start: float | None = None
    """Of mdarts: how far alphas begin on the way from level to the first candidate everywhere. Default: 0.4."""
    cost_weight: float = 0.01
    """Price of computation, beside a loss that is 1 for a student that outputs nothing."""
    learning_rate: float = 1e-2
    """Of Adam on the weights."""
    alphas_learning_rate: float | None = None
    """Of the alphas. Default: the algorithm's."""
    random_paths: int = 30
    """Paths among which random search chooses in the end."""
    cut_gradients: bool = False
    """Remove the gradient of the loss from the gates: what is left must be chance."""
    rank: int = 0
    """Train so many architectures from scratch (all, if there are no more) and rank the ones found among them."""
    rank_steps: int = 1000
    """Steps of each of these trainings. After 300, architectures that train slowly rank too low."""
    rank_learning_rate: float = 3e-2
    """Of Adam on the weights in these trainings, at its peak."""
    rank_batch: int = 4
    """Images per step of these trainings."""
    channels: int = 8
    """Channels of teacher and student."""
    size: int = 12
    """Side of the random images in pixels."""
    batch: int = 8
    """Images per step."""
    seed: int = 0
    """Seed of teachers, students and images."""

    def check(self) -> None:
        """Raises ``InputError`` naming the first option whose value makes no sense."""
        ranking = ("rank_steps", "rank_learning_rate", "rank_batch")
        positive = ("layers", "teachers", "steps", "learning_rate", "random_paths", "channels", "size", "batch")
        for name in (*positive, *ranking):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        if not self.algorithms:
            raise InputError("--algorithms names none")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in [0, 2^32), not {self.seed}")
        for name in ("cost_weight", "alphas_learning_rate", "rank"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, not {getattr(self, name)}")
        for name in ranking:
            if not self.rank and getattr(self, name) != getattr(PlantedConfig, name):
                raise InputError(f"--{name.replace('_', '-')} needs --rank")
        if self.random_paths != PlantedConfig.random_paths and "random" not in self.algorithms:
            raise InputError(f"--random-paths is a way of random, not of {', '.join(self.algorithms)}")
        check_own(self, "mdarts" in self.algorithms, ", ".join(self.algorithms))
