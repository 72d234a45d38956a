from data_pipelines.datasets.rain12.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain12Test(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "li": {
            "test": Dummy("Rain12/{i:03}_in.png", "Rain12/{i:03}_GT.png"),
        },
        "prenet": {
            "test": Dummy("test/Rain12/rainy/{i}.png", "test/Rain12/groundtruth/{i}.png"),
        },
        "rcdnet": {
            "test": Dummy("test/small/rain/{i}.png", "test/small/norain/{i}.png"),
        },
    }


del BuilderTestCase
