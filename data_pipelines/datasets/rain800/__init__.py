"""What is known of Rain800, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DATA_SET = DataSet(
    name="rain800",
    title="Rain800",
    parts={
        "train": Place(
            folders=("rain/training", "training", "train", "rain/training|right", "training|right", "train|right"),
            counts={700: "as published"},
        ),
        "test": Place(
            folders=(
                "test/Test100",
                "Test100",
                "rain/test_syn",
                "test_syn",
                "test",
                "rain/test_syn|right",
                "test_syn|right",
                "val|right",
                "test|right",
                ".",
            ),
            counts={100: "as published", 98: "the copy of MSPFN and MPRNet, called Test100"},
        ),
    },
    aliases=("ID-CGAN", "Test100"),
)
