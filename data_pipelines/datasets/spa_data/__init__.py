"""What is known of SPA-Data, and where the copies that circulate hold its parts."""

from data_pipelines.known import RCDNET, DataSet, Input, Place

DATA_SET = DataSet(
    name="spa_data",
    title="SPA-Data",
    parts={
        "train": Place(
            folders=("Training", "train", "."),
            counts={638492: "as published", 638493: "with one more line in the list", 28500: "whole images"},
        ),
        "test": Place(
            folders=(
                "Testing/real_test_1000/real_test_1000",
                "Testing/real_test_1000",
                "real_test_1000",
                "test/small",
                "test",
            ),
            counts={1000: "as published"},
            input=Input(1000, 34.15, 0.9269, RCDNET),
        ),
    },
    aliases=("SPA", "spa-data", "Real_Rain_Streaks_Dataset_CVPR19"),
)
