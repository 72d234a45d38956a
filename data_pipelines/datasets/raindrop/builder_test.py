from data_pipelines.datasets.raindrop.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class RainDropTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "authors": {
            "train": Dummy("train/data/{i}_rain.png", "train/gt/{i}_clean.png", scenes=(0, 2, 10)),
            "test_a": Dummy("test_a/data/{i}_rain.png", "test_a/gt/{i}_clean.png", scenes=(3, 4)),
            "test_b": Dummy("test_b/data/{i}_rain.jpg", "test_b/gt/{i}_clean.jpg", scenes=(5, 6)),
        },
        "weather diffusion": {
            "train": Dummy("raindrop/train/input/{i}_rain.png", "raindrop/train/gt/{i}_clean.png"),
            "test": Dummy("raindrop/test/input/{i}_rain.png", "raindrop/test/gt/{i}_rain.png"),
        },
    }


del BuilderTestCase
