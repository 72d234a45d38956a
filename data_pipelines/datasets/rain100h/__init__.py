"""What is known of Rain100H, and where the copies that circulate hold its parts."""

from data_pipelines.known import RCDNET, DataSet, Input, Place

DATA_SET = DataSet(
    name="rain100h",
    title="Rain100H",
    parts={
        "train": Place(
            folders=(
                "rain_data_train_Heavy",
                "train/RainTrainH",
                "RainTrainH",
                "train/small",
                "train/Rain100H",
                "train",
            ),
            counts={
                1800: "as published: 546 of the backgrounds are in the test part",
                1254: "without the 546 whose backgrounds are in the test part",
            },
        ),
        "test": Place(
            folders=("rain_data_test_Heavy", "test/Rain100H", "test/small", "small", "test", "."),
            counts={100: "as published"},
            input=Input(100, 13.56, 0.3709, RCDNET),
        ),
    },
    aliases=("rain100H_old",),
)
