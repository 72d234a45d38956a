"""What is known of Rain800, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DATA_SET = DataSet(
    name="rain800",
    title="Rain800",
    parts={
        "train": Place(
            folders=("rain/training|right", "training|right", "train|right", "rain/training", "training", "train"),
            counts={700: "as published"},
        ),
        "test": Place(
            folders=(
                "rain/test_syn|right",
                "test_syn|right",
                "val|right",
                "test|right",
                "test/Test100",
                "Test100",
                "test_syn",
                "test",
                ".",
            ),
            counts={100: "as published", 98: "the copy of MSPFN and MPRNet, called Test100"},
        ),
    },
    aliases=("ID-CGAN", "Test100"),
)
