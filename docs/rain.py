"""Makes the picture of synthetic rain: each preset, three times, on a photograph of scikit-image."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.synthetic import PRESETS, photograph

TIMES = 3

clean = np.asarray(Image.fromarray(photograph("coffee")[:, 80:520]).resize((330, 300), Image.Resampling.LANCZOS))
rows = []
for preset, ranges in PRESETS.items():
    generators = [np.random.default_rng(seed) for seed in range(TIMES)]
    rows.append(np.concatenate([ranges.falls_on(clean, rng)[0] for rng in generators], axis=1))
    print(f"{preset}: row {len(rows)}")
Image.fromarray(np.concatenate(rows)).save(Path(__file__).with_name("synthetic-rain.webp"), quality=85)
