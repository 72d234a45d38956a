"""What is known of Rain1200, and where the copies that circulate hold its parts."""

from data_pipelines.known import DataSet, Place

DENSITIES = ("Heavy", "Medium", "Light")
TEST = Place(
    folders=(
        "DID-MDN-test|left",
        "DID-MDN-datasets/DID-MDN-test|left",
        "test/Test1200",
        "Test1200",
        "test",
        "test|left",
    ),
    counts={1200: "as published"},
)


def _train(*densities: str) -> tuple[str, ...]:
    homes = ("DID-MDN-training", "DID-MDN-datasets/DID-MDN-training")
    deep = (tuple(f"{home}/Rain_{density}/train2018new|left" for density in densities) for home in homes)
    return tuple(" + ".join(folders) for folders in deep)


DATA_SET = DataSet(
    name="rain1200",
    title="Rain1200",
    parts={
        "train": Place(folders=(*_train(*DENSITIES), "train", "train|left"), counts={12000: "as published"}),
        "test": TEST,
    },
    aliases=("DID-MDN", "DID-MDN-datasets", "DID-Data", "Rain1200_new"),
    configs={
        density.lower(): {"train": Place(folders=_train(density), counts={4000: "as published"}), "test": TEST}
        for density in DENSITIES
    },
)
