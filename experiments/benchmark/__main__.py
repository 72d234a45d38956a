"""The command: which benchmark, and its options."""

from __future__ import annotations

import sys

from autoderain_jax.errors import InputError
from experiments import command
from experiments.benchmark.inference import InferenceConfig, inference
from experiments.benchmark.memory import MemoryConfig, memory
from experiments.benchmark.pipeline import PipelineConfig, pipeline
from experiments.benchmark.speed import SpeedConfig, speed
from experiments.benchmark.training import TrainingConfig, training

BENCHMARKS = {
    "memory": (MemoryConfig, memory),
    "speed": (SpeedConfig, speed),
    "training": (TrainingConfig, training),
    "inference": (InferenceConfig, inference),
    "pipeline": (PipelineConfig, pipeline),
}


def main() -> None:
    """Runs the benchmark that the first word names."""
    name, *args = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(
            "usage: python -m experiments.benchmark NAME [OPTIONS]\n\nMeasure; with --json, one JSON object a line.\n"
        )
        for name, (config, _) in BENCHMARKS.items():
            print(f"  {name:10} {config.__doc__.splitlines()[0]}")
        print("\nThe options of each: python -m experiments.benchmark NAME --help")
        return
    if name not in BENCHMARKS:
        raise InputError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    config, benchmark = BENCHMARKS[name]
    benchmark(command.parse(config, args, prog=f"python -m experiments.benchmark {name}"))


if __name__ == "__main__":
    command.run(main)
