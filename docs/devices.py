"""Compares a search on several devices, and in several processes, with the same one on one: ``python docs/devices.py``.

Prints the largest differences of its losses over the steps, as docs/scaling.md has them. It runs on this machine's CPU,
whose virtual devices share its cores: some minutes.
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


def search(folder, devices, count=1):
    """The losses of a search, by name, in ``count`` processes of so many devices each."""
    line = [sys.executable, "-m", "experiments.search", "--workdir", str(folder)]
    line += [word for name, value in vars(options).items() for word in (f"--{name}", value)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    joined = ["--processes.count", str(count), "--processes.coordinator", f"127.0.0.1:{port}", "--processes.index"]
    environment = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    lines = [[*line, *joined, str(index)] for index in range(count)] if count > 1 else [line]
    processes = [subprocess.Popen(one, env=environment, stdout=subprocess.DEVNULL) for one in lines]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit("a search failed")
    records = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return {name: [record[name] for record in records] for name in ("train_loss", "held_out_loss")}


with tempfile.TemporaryDirectory() as work:
    alone = search(Path(work) / "alone", 1)
    for name, devices, count in (("8 virtual devices", 8, 1), ("4 processes, one device each", 1, 4)):
        several = search(Path(work) / f"{devices}-{count}", devices, count)
        differences = ", ".join(
            f"{loss} ({min(values):.3f} to {max(values):.3f}) by at most "
            f"{max(abs(a - b) for a, b in zip(values, several[loss], strict=True)):.1e}"
            for loss, values in alone.items()
        )
        print(f"{name}, {len(alone['train_loss'])} steps: {differences}", flush=True)
