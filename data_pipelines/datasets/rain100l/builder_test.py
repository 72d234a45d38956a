from data_pipelines.datasets.rain100l.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain100LTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "jorder": {
            "train": Dummy(
                "rain_data_train_Light/rain/norain-{i}x2.png", "rain_data_train_Light/norain/norain-{i}.png"
            ),
            "test": Dummy(
                "rain_data_test_Light/rain/X2/norain-{i}x2.png", "rain_data_test_Light/norain/norain-{i}.png"
            ),
        },
        "prenet": {
            "train": Dummy(
                "train/RainTrainL/rain-{i}.png",
                "train/RainTrainL/norain-{i}.png",
                others=("train/RainTrainL/rainstreak-1.png", "train/RainTrainL/rainregion-1.png"),
            ),
            "test": Dummy("test/Rain100L/rainy/rain-{i:03}.png", "test/Rain100L/norain-{i:03}.png"),
        },
        "rcdnet": {
            "train": Dummy("rain100L/train/small/rain/norain-{i}.png", "rain100L/train/small/norain/norain-{i}.png"),
            "test": Dummy("rain100L/test/small/rain/norain-{i}.png", "rain100L/test/small/norain/norain-{i}.png"),
        },
        "airnet": {
            "train": Dummy("train/Rain100L/rainy/rain-{i}.png", "train/Rain100L/gt/norain-{i}.png"),
            "test": Dummy("test/Rain100L/input/{i}.png", "test/Rain100L/target/{i}.png"),
        },
        "test only": {
            "test": Dummy("Rain100L/rainy/rain-{i:03}.png", "Rain100L/norain-{i:03}.png"),
        },
    }


del BuilderTestCase
