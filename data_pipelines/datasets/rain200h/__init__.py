"""What is known of Rain200H, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DATA_SET = DataSet(
    name="rain200h",
    title="Rain200H",
    parts={
        "train": Place(
            folders=("rain_data_train_Heavy", "train/Rain200H", "train", "train|right"),
            counts={1800: "as published"},
        ),
        "test": Place(
            folders=("rain_data_test_Heavy", "test/Rain200H", "test", "test|right", "."),
            counts={200: "as published"},
        ),
    },
    aliases=("RainHeavy", "rainheavy"),
)
