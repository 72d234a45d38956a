"""Kills a search and a retraining at random moments, and compares what comes out with unbroken runs.

    python -m tests.kills --kills 25
    python -m tests.kills --kills 5 --processes 2

Every life of a run ends by SIGKILL, after a random time from its first progress on, also within a checkpoint, as one is
written after every step. Weights, genotype and metrics must be those of the unbroken run, bit for bit. Of several
processes one is killed, any of them, and the others must end within a minute.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence, Set
from pathlib import Path

from experiments.processes import ENDED
from tests.running import joining
from tests.samples import write_pairs

SMALL = ("--preset", "tiny", "--patch", "32", "--batch", "2", "--network.width", "4", "--checkpoint-minutes", "1e-9")
LONGEST = 3.0
"""Seconds of a life, from the first progress on, at most."""
TOGETHER = 60.0
"""Seconds within which the other processes of a run end."""


def arguments(kind: str, folder: Path, data: Path, steps: int, genotype: Path) -> list[str]:
    """The command line of a small run."""
    extra = ["--genotype", str(genotype)] if kind == "retrain" else []
    options = ["--workdir", str(folder), "--data", str(data), "--steps", str(steps), *extra]
    return [sys.executable, "-m", f"experiments.{kind}", *options, *SMALL]


def start(command: list[str], environment: dict[str, str], count: int) -> list[subprocess.Popen]:
    """The processes of a run."""
    return [
        subprocess.Popen([*command, *joined], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for joined in joining(count)
    ]


def ended(processes: Sequence[subprocess.Popen], codes: Set[int]) -> None:
    """Waits for processes; raises ``RuntimeError`` where one ends with another code than these."""
    for process in processes:
        error = process.communicate()[1].decode()
        if process.returncode not in codes:
            raise RuntimeError(f"exit code {process.returncode}: {error}")


def killed(
    command: list[str], environment: dict[str, str], count: int, folder: Path, kills: int, draw: random.Random
) -> int:
    """Runs and kills so many times, or until the run ends by itself, then runs to the end; returns the kills."""
    done = 0
    while done < kills:
        before = progress(folder)
        processes = start(command, environment, count)
        while all(process.poll() is None for process in processes) and progress(folder) == before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, LONGEST))
        if any(process.poll() is not None for process in processes):
            ended(processes, {0})
            break
        victim = processes.pop(draw.randrange(count))
        victim.kill()
        began = time.monotonic()
        ended(processes, {ENDED})
        assert time.monotonic() - began < TOGETHER, f"the others took {time.monotonic() - began:.0f} s to end"
        ended([victim], {-signal.SIGKILL})
        done += 1
    ended(start(command, environment, count), {0})
    return done


def progress(folder: Path) -> set[str]:
    """What has been begun of checkpoints."""
    return {path.name for path in folder.glob("checkpoints/*")}


def outcome(folder: Path) -> dict[str, bytes]:
    """What a run leaves that is not a picture or a time."""
    names = ("genotype.json", "metrics.jsonl", "model/weights.safetensors", "model/model.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def survives(kind: str, kills: int, steps: int, seed: int, work: Path, count: int = 1) -> int:
    """Compares a killed run with an unbroken one; returns the kills, raises ``AssertionError`` if they differ."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_COMPILATION_CACHE_DIR=str(work / "compiled"))
    if not (work / "data").exists():
        write_pairs(work / "data/train", [(40, 33), (33, 40), (36, 36), (48, 32)])
    whole, broken = work / f"{kind}-whole", work / f"{kind}-broken"
    genotype = work / "search-whole/genotype.json"
    ended(start(arguments(kind, whole, work / "data", steps, genotype), environment, count), {0})
    command = arguments(kind, broken, work / "data", steps, genotype)
    done = killed(command, environment, count, broken, kills, random.Random(seed))
    assert outcome(whole).keys() & {"genotype.json", "model/weights.safetensors"}
    assert outcome(broken) == outcome(whole), f"{kind} differs after {done} kills"
    return done


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of each run (default: 25)")
    parser.add_argument("--steps", type=int, default=600, help="of each run, which may end before all kills (600)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--processes", type=int, default=1, help="that each run is made of, 1 or 2 (default: 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for kind in ("search", "retrain"):
            done = survives(kind, options.kills, options.steps, options.seed, Path(work), options.processes)
            print(f"{kind}: {done} kills, and everything as in an unbroken run, bit for bit", flush=True)
            if done < options.kills:
                sys.exit(f"{kind} ended before all of its {options.kills} kills: give more --steps")


if __name__ == "__main__":
    main()
