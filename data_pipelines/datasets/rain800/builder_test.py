from data_pipelines.datasets.rain800.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain800Test(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "id cgan": {
            "train": Dummy("rain/training/{i}.jpg", rainy_side="right", others=("rain/test_nature/1.jpg",)),
            "test": Dummy("rain/test_syn/{i}.jpg", rainy_side="right"),
        },
        "rescan": {
            "train": Dummy("train/{i}.jpg", rainy_side="right"),
            "test": Dummy("test/{i}.jpg", rainy_side="right"),
        },
        "two folders": {
            "train": Dummy("Rain800/train/rain/rain-{i:03}.png", "Rain800/train/norain/norain-{i:03}.png"),
            "test": Dummy("Rain800/test/rain/rain-{i:03}.png", "Rain800/test/norain/norain-{i:03}.png"),
        },
        "mprnet test": {
            "test": Dummy("test/Test100/input/{i}.png", "test/Test100/target/{i}.png"),
        },
    }


del BuilderTestCase
