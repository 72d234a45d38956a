from data_pipelines.datasets.spa_data.builder import Builder
from data_pipelines.datasets.testing import BuilderTestCase, Dummy


class SpaDataTest(BuilderTestCase):
    DATASET_CLASS = Builder
    LAYOUTS = {
        "authors": {
            "train": Dummy(
                "Training/real_world/{i}/{i}-{v}/{i}-{v}_0_3.png",
                "Training/real_world_gt/{i}/{i}_0_3.png",
                rains=(1, 2),
                others=("Training/real_world.txt",),
            ),
            "test": Dummy("Testing/real_test_1000/rain/{i:03}.png", "Testing/real_test_1000/gt/{i:03}gt.png"),
        },
        "doubled": {
            "test": Dummy(
                "Testing/real_test_1000/real_test_1000/rain/{i:03}.png",
                "Testing/real_test_1000/real_test_1000/gt/{i:03}gt.png",
            ),
        },
        "rcdnet test": {
            "test": Dummy("spa-data/test/small/rain/{i}.png", "spa-data/test/small/norain/{i}.png"),
        },
        "drsformer": {
            "train": Dummy("SPA-Data/train/input/{i}.png", "SPA-Data/train/target/{i}.png"),
            "test": Dummy("SPA-Data/test/input/{i}.png", "SPA-Data/test/target/{i}.png"),
        },
    }


del BuilderTestCase
