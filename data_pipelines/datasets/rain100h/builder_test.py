from data_pipelines.datasets.rain100h.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain100HTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "prenet": {
            "train": Dummy("train/RainTrainH/rain-{i}.png", "train/RainTrainH/norain-{i}.png", scenes=(1, 3, 1800)),
            "test": Dummy("test/Rain100H/rainy/rain-{i:03}.png", "test/Rain100H/norain-{i:03}.png"),
        },
        "jorder": {
            "train": Dummy(
                "rain_data_train_Heavy/rain/X2/norain-{i}x2.png", "rain_data_train_Heavy/norain/norain-{i}.png"
            ),
            "test": Dummy(
                "rain_data_test_Heavy/rain/X2/norain-{i}x2.png", "rain_data_test_Heavy/norain/norain-{i}.png"
            ),
        },
        "rcdnet": {
            "train": Dummy("train/small/rain/norain-{i}.png", "train/small/norain/norain-{i}.png"),
            "test": Dummy("test/small/rain/norain-{i}.png", "test/small/norain/norain-{i}.png"),
        },
        "restormer test": {
            "test": Dummy("test/Rain100H/input/{i}.png", "test/Rain100H/target/{i}.png"),
        },
    }


del BuilderTestCase
