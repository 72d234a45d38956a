from data_pipelines.datasets.rain200l.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain200LTest(BuilderTestCase):
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
        "drsformer": {
            "train": Dummy("train/Rain200L/input/{i}.png", "train/Rain200L/target/{i}.png"),
            "test": Dummy("test/Rain200L/input/{i}.png", "test/Rain200L/target/{i}.png"),
        },
        "nerd rain": {
            "train": Dummy("Rain200L/train/input/{i}.png", "Rain200L/train/target/{i}.png"),
            "test": Dummy("Rain200L/test/input/{i}.png", "Rain200L/test/target/{i}.png"),
        },
        "side by side": {
            "train": Dummy("Rain200L/train/{i}.png", rainy_side="right"),
            "test": Dummy("Rain200L/test/{i}.png", rainy_side="right"),
        },
    }


del BuilderTestCase
