"""What is known of Rain12, and where the copies that circulate hold its parts."""

from data_pipelines.known import RCDNET, DataSet, Input, Place

DATA_SET = DataSet(
    name="rain12",
    title="Rain12",
    parts={
        "test": Place(
            folders=("test/Rain12", "test/small", "test", "."),
            counts={12: "as published"},
            input=Input(12, 30.14, 0.8555, RCDNET),
        ),
    },
)
