from data_pipelines.datasets.rain200h.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain200HTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "jorder": {
            "train": Dummy(
                "rain_data_train_Heavy/rain/X2/norain-{i}x2.png", "rain_data_train_Heavy/norain/norain-{i}.png"
            ),
            "test": Dummy(
                "rain_data_test_Heavy/rain/X2/norain-{i}x2.png", "rain_data_test_Heavy/norain/norain-{i}.png"
            ),
        },
        "drsformer": {
            "train": Dummy("train/Rain200H/input/{i}.png", "train/Rain200H/target/{i}.png"),
            "test": Dummy("test/Rain200H/input/{i}.png", "test/Rain200H/target/{i}.png"),
        },
        "nerd rain": {
            "train": Dummy("Rain200H/train/input/{i}.png", "Rain200H/train/target/{i}.png"),
            "test": Dummy("Rain200H/test/input/{i}.png", "Rain200H/test/target/{i}.png"),
        },
        "side by side": {
            "train": Dummy("Rain200H/train/{i}.png", rainy_side="right"),
            "test": Dummy("Rain200H/test/{i}.png", rainy_side="right"),
        },
    }


del BuilderTestCase
