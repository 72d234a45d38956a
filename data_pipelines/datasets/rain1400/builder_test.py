from data_pipelines.datasets.rain1400.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class Rain1400Test(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "authors": {
            "train": Dummy(
                "training/rainy_image/{i}_{v}.jpg", "training/ground_truth/{i}.jpg", rains=range(1, 15), scenes=(1, 11)
            ),
            "test": Dummy(
                "testing/rainy_image/{i}_{v}.jpg", "testing/ground_truth/{i}.jpg", rains=range(1, 15), scenes=(901,)
            ),
        },
        "prenet": {
            "train": Dummy(
                "train/Rain12600/train/rainy_image/{i}_{v}.jpg",
                "train/Rain12600/train/ground_truth/{i}.jpg",
                rains=(1, 2),
            ),
            "test": Dummy("test/Rain1400/rainy_image/{i}_{v}.jpg", "test/Rain1400/ground_truth/{i}.jpg", rains=(1, 2)),
        },
        "rcdnet": {
            "train": Dummy(
                "Rain1400/train/small/rain/{i}_{v}.jpg", "Rain1400/train/small/norain/{i}.jpg", rains=(1, 2)
            ),
            "test": Dummy("Rain1400/test/small/rain/{i}_{v}.jpg", "Rain1400/test/small/norain/{i}.jpg", rains=(1, 2)),
        },
        "two folders": {
            "test": Dummy("Rain14000/test/rain/{i}_{v}.jpg", "Rain14000/test/norain/{i}.jpg", rains=(1, 2)),
        },
    }


del BuilderTestCase
