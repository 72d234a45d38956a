"""What is known of RainDrop, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DATA_SET = DataSet(
    name="raindrop",
    title="RainDrop",
    parts={
        "train": Place(folders=("train/train", "train"), counts={861: "as published"}),
        "test_a": Place(folders=("test_a/test_a", "test_a"), counts={58: "as published"}, inside="test_b"),
        "test_b": Place(folders=("test_b/test_b", "test_b"), counts={239: "its README", 249: "copies"}),
        "test": Place(folders=("test",), counts={58: "test_a", 239: "test_b", 249: "test_b"}, optional=True),
    },
    aliases=("raindrop_data", "DeRaindrop"),
)
