"""What is known of Rain1400, and where the copies that circulate hold its parts."""

from data_pipelines.known import RCDNET, DataSet, Input, Place

DATA_SET = DataSet(
    name="rain1400",
    title="Rain1400",
    parts={
        "train": Place(
            folders=(
                "training",
                "train/Rain12600/train",
                "train/Rain12600",
                "Rain12600/train",
                "Rain12600",
                "train/small",
                "train",
            ),
            counts={12600: "900 backgrounds", 9100: "650 backgrounds", 11200: "800 backgrounds, as in Rain13K"},
        ),
        "test": Place(
            folders=("testing", "test/Rain1400", "test/small", "test/Test2800", "Test2800", "test", "."),
            counts={1400: "100 backgrounds", 4900: "350 backgrounds", 2800: "200 backgrounds, called Test2800"},
            input=Input(1400, 25.24, 0.8097, RCDNET),
        ),
    },
    aliases=("DDN", "DDN-Data", "Rain14000", "rainy_image_dataset"),
)
