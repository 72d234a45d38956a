"""What is known of Rain200L, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DATA_SET = DataSet(
    name="rain200l",
    title="Rain200L",
    parts={
        "train": Place(
            folders=("rain_data_train_Light", "train/Rain200L", "train", "train|right"),
            counts={1800: "as published"},
        ),
        "test": Place(
            folders=("rain_data_test_Light", "test/Rain200L", "test", "test|right", "."),
            counts={200: "as published"},
        ),
    },
    aliases=("RainLight", "rainlight"),
)
