from data_pipelines.datasets.rain13k.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain13KTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "restormer": {
            "train": Dummy("train/Rain13K/input/{i}.jpg", "train/Rain13K/target/{i}.jpg"),
            "test100": Dummy("test/Test100/input/{i}.png", "test/Test100/target/{i}.png", scenes=(20, 21)),
            "rain100h": Dummy("test/Rain100H/input/{i}.png", "test/Rain100H/target/{i}.png", scenes=(23, 24)),
            "rain100l": Dummy("test/Rain100L/input/{i}.png", "test/Rain100L/target/{i}.png", scenes=(26, 27)),
            "test2800": Dummy("test/Test2800/input/{i}.jpg", "test/Test2800/target/{i}.jpg", scenes=(29, 30)),
            "test1200": Dummy("test/Test1200/input/{i}.jpg", "test/Test1200/target/{i}.jpg", scenes=(32, 33)),
        },
        "train only": {
            "train": Dummy("Rain13K/input/{i}.png", "Rain13K/target/{i}.png"),
        },
    }


del BuilderTestCase
