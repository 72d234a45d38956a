"""Compares runs on several devices, and in several processes, with the same ones on one: ``python docs/devices.py``.

A search, and the retraining of what it finds on one device. Prints the largest differences of their losses over the
steps, as docs/scaling.md has them. They run on this machine's CPU, whose virtual devices share its cores: some minutes.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--preset", default="tiny", help="default: tiny")
parser.add_argument("--data", default="synthetic", help="default: synthetic")
parser.add_argument("--steps", default="100", help="default: 100")
parser.add_argument("--batch", default="8", help="of which all devices must have the same share (default: 8)")
options = parser.parse_args()

LOSSES = {"search": ("train_loss", "held_out_loss"), "retrain": ("train_loss",)}


def losses(kind, folder, devices, count, *extra):
    """The losses of a run, by name, in ``count`` processes of so many devices each."""
    line = [sys.executable, "-m", f"experiments.{kind}", "--workdir", str(folder), *extra]
    line += [word for name, value in vars(options).items() for word in (f"--{name}", value)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    joined = ["--processes.count", str(count), "--processes.coordinator", f"127.0.0.1:{port}", "--processes.index"]
    environment = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    lines = [[*line, *joined, str(index)] for index in range(count)] if count > 1 else [line]
    processes = [subprocess.Popen(one, env=environment, stdout=subprocess.DEVNULL) for one in lines]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"{kind} failed")
    records = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return {name: [record[name] for record in records] for name in LOSSES[kind]}


with tempfile.TemporaryDirectory() as work:
    for kind in LOSSES:
        extra = () if kind == "search" else ("--genotype", f"{work}/search-1-1/genotype.json", "--validations", "1")
        alone = losses(kind, Path(work) / f"{kind}-1-1", 1, 1, *extra)
        for name, devices, count in (("8 virtual devices", 8, 1), ("4 processes, one device each", 1, 4)):
            several = losses(kind, Path(work) / f"{kind}-{devices}-{count}", devices, count, *extra)
            differences = ", ".join(
                f"{loss} ({min(values):.3f} to {max(values):.3f}) by at most "
                f"{max(abs(a - b) for a, b in zip(values, several[loss], strict=True)):.1e}"
                for loss, values in alone.items()
            )
            print(f"{kind}, {name}, {len(alone['train_loss'])} steps: {differences}", flush=True)
