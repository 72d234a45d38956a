from data_pipelines.datasets.rain1200.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy

DENSITIES = ("Heavy", "Medium", "Light")
TRAIN = "DID-MDN-training/Rain_{v}/train2018new/{i}.jpg"


class Rain1200Test(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "authors": {"train": Dummy(TRAIN, rains=DENSITIES), "test": Dummy("DID-MDN-test/{i}.jpg")},
        "one folder deeper": {
            "train": Dummy("DID-MDN-datasets/" + TRAIN, rains=DENSITIES),
            "test": Dummy("DID-MDN-datasets/DID-MDN-test/{i}.jpg"),
        },
        "numbered from 0": {
            "train": Dummy("Rain1200_new/train/{i}.jpg", scenes=(0, 1)),
            "test": Dummy("Rain1200_new/test/{i}.jpg"),
        },
        "two folders": {
            "train": Dummy("DID-Data/train/input/{i}.jpg", "DID-Data/train/target/{i}.jpg"),
            "test": Dummy("DID-Data/test/input/{i}.jpg", "DID-Data/test/target/{i}.jpg"),
        },
    }
    # The splits of the configs are smaller than those of all densities.
    BUILDER_CONFIG_NAMES_TO_TEST = ["all"]

    def test_densities(self):
        """All densities together, each image named by its own; and each alone."""
        data_set, copy = Builder.DATA_SET, self.copies / "authors"
        names = [pair.name for pair in data_set.find(copy)["train"].open()]
        self.assertEqual(names, [f"Rain_{density}/{i}" for density in DENSITIES for i in (1, 2, 10)])
        for density in DENSITIES:
            alone = data_set.config(density.lower()).find(copy)["train"].open()
            self.assertEqual([pair.name for pair in alone], ["1", "2", "10"])


del BuilderTestCase
