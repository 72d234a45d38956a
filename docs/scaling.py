"""The table of docs/scaling.md: what a training step takes on one device and on eight. ``python docs/scaling.py``

Compiled for eight virtual CPU devices: operations, memory of each device by XLA's analysis, and the bytes that devices
sum over all of them. Nothing is run.
"""

import dataclasses
import math
import os
import re

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax

from autoderain_jax.cost import network_macs
from autoderain_jax.genotype import uniform
from autoderain_jax.network import DerainNet
from autoderain_jax.parallel import Layout
from experiments.config import RetrainConfig, retrain_preset
from experiments.programs import Programs, tree_bytes
from experiments.retrain import clipped_adam, first_state, train_step

BYTES = {"f32": 4, "bf16": 2, "s32": 4, "pred": 1}


def summed_bytes(text):
    """Bytes of all arrays that a compiled program sums over devices."""
    total = 0
    for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text):
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            total += BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
    return total


def row(config, devices):
    """One line of the table."""
    genotype = uniform(config.network, "conv3x3")
    network = DerainNet(config.network, genotype.choices)
    optimiser = clipped_adam(1e-3, 1000, RetrainConfig.gradient_clip)
    layout = Layout(jax.sharding.Mesh(jax.devices()[:devices], ("data",)))
    state = jax.eval_shape(lambda: first_state(network, optimiser, config))
    image = jax.ShapeDtypeStruct((config.batch, config.patch, config.patch, 3), "float32", sharding=layout.shared)
    programs = Programs(layout)
    update = programs(train_step(network, optimiser, config.loss), (0, 1))
    whole = layout.shapes((state.params, state.opt_state))
    (run,) = programs.ahead(update, *whole, (image, image))
    macs = network_macs(config.network, genotype.choices)
    print(
        f"| {config.preset}, {config.batch} x {config.patch}x{config.patch} | {devices} "
        f"| {tree_bytes(state.params) // 4:,} | {macs:,.0f} | {run.program.flops / 1e9:,.0f} "
        f"| {(run.extra + tree_bytes(whole)) / 1e6:,.0f} MB "
        f"| {summed_bytes(run.program.run.as_text()) / 1e6:,.1f} MB |",
        flush=True,
    )


print("| step | devices | parameters | MACs/pixel | GFLOP of each device | memory of each | summed |")
print("|---|---|---|---|---|---|---|")
for preset in ("small", "base"):
    config = retrain_preset(preset)
    for devices, batch in ((1, config.batch), (8, config.batch), (8, 8 * config.batch)):
        row(dataclasses.replace(config, batch=batch), devices)
