"""What is known of Rain100L, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Input, Place

DATA_SET = DataSet(
    name="rain100l",
    title="Rain100L",
    parts={
        "train": Place(
            folders=(
                "rain_data_train_Light",
                "train/RainTrainL",
                "RainTrainL",
                "train/small",
                "train/Rain100L",
                "train",
            ),
            counts={200: "as published"},
            input=Input(200, 26.71, 0.8438, "measured by us on the published images"),
        ),
        "test": Place(
            folders=("rain_data_test_Light", "test/Rain100L", "test/small", "small", "test", "."),
            counts={100: "as published"},
            input=Input(100, 26.90, 0.8382, "measured by us on the published images"),
        ),
    },
    aliases=("rain100L_old",),
)
