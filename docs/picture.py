"""Makes the README's picture: synthetic rain on a photograph of scikit-image, restored by ``fast``.

That model was trained on other rain.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from autoderain_jax import Derainer
from autoderain_jax.metrics import score
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments.figures import mosaic

clean = photograph("coffee")[:, 80:520]
rain = Rain(angle=-8.0, length=26.0, width=0.7, density=0.0016, intensity=0.5, depth=2)
rainy = add_rain(clean, rain, np.random.default_rng(0))
restored = Derainer.from_pretrained("fast")(rainy)
Image.fromarray(mosaic([rainy, restored, clean])).save(
    Path(__file__).with_name("rainy-restored-original.webp"), quality=88
)
for name, image in (("rainy", rainy), ("restored", restored)):
    print(f"{name}: {score(image, clean)['y-matlab']['psnr']:.2f} dB (y-matlab)")
