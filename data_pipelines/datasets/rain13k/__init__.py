"""What is known of Rain13K, and where the copies that circulate hold its parts."""

from data_pipelines.known import RCDNET, DataSet, Input, Place

DATA_SET = DataSet(
    name="rain13k",
    title="Rain13K",
    parts={
        "train": Place(
            folders=("train/Rain13K", "Rain13K", "train", "."),
            counts={13712: "as in the papers", 13711: "the download, without an image of a wrong size"},
        ),
    }
    | {
        name.lower(): Place(folders=(f"test/{name}", name), counts=counts, input=score)
        for name, counts, score in (
            ("Test100", {98: "the download", 100: "as in the papers"}, None),
            ("Rain100H", {100: "as published"}, Input(100, 13.56, 0.3709, RCDNET)),
            ("Rain100L", {100: "as published"}, Input(100, 26.90, 0.8384, RCDNET)),
            ("Test2800", {2800: "as published"}, None),
            ("Test1200", {1200: "as published"}, None),
        )
    },
)
