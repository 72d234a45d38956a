"""Measures what docs/use.md says of large photographs: ``python docs/scales.py RAIN100L``, half an hour on two cores.

The clean images that training holds out of the training part are enlarged, and the same rain falls on them, enlarged
as well. ``--models``, ``--rain`` and ``--enlarged`` measure less.
"""

import argparse
import statistics

import numpy as np
from PIL import Image

from autoderain_jax import Derainer
from autoderain_jax.metrics import score
from data_pipelines import open_pairs
from data_pipelines.synthetic import PRESETS, add_rain

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--models", nargs="+", default=["fast", "photo"])
parser.add_argument("--rain", nargs="+", default=["light", "varied"])
parser.add_argument("--enlarged", nargs="+", type=int, default=[1, 2, 4])
parser.add_argument("--images", type=int, default=10)
args = parser.parse_args()

held_out = open_pairs(args.data, "train").hold_out(0.05)[1]
for model in args.models:
    derainers = {"as it is": Derainer.from_pretrained(model, scales=(1,)), "auto": Derainer.from_pretrained(model)}
    for preset in args.rain:
        for factor in args.enlarged:
            psnr = {"rainy": []} | {f"{of}{name}": [] for name in derainers for of in ("", "no rain, ")}
            for number in range(min(args.images, len(held_out))):
                small = Image.fromarray(held_out.rainy_clean(number)[1])
                clean = np.asarray(
                    small.resize((small.width * factor, small.height * factor), Image.Resampling.LANCZOS)
                )
                rng = np.random.default_rng(number)
                rainy = add_rain(clean, PRESETS[preset].sample(rng).scaled(factor), rng)
                images = {"rainy": rainy}
                for name, derainer in derainers.items():
                    images |= {name: derainer(rainy), f"no rain, {name}": derainer(clean)}
                for name, image in images.items():
                    psnr[name].append(score(image, clean, ("y-matlab",))["y-matlab"]["psnr"])
            means = ", ".join(f"{name} {statistics.mean(values):.2f} dB" for name, values in psnr.items())
            print(f"{model}, {preset}, enlarged {factor} times: {means}", flush=True)
