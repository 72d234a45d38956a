"""Rain1200 for TensorFlow Datasets."""

from data_pipelines.datasets.rain1200 import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain1200, or DID-MDN: synthetic rain of three densities, images side by side, the rainy one on the left.

    Citation: H. Zhang, V. M. Patel, "Density-aware Single Image De-raining using a Multi-stream Dense Network", CVPR
    2018.

    Counts: train 12,000, 4,000 each of ``heavy``, ``medium`` and ``light`` (configs of those names); test 1,200.

    Traps: the rainy image is on the left, where Rain800 has the clean one. The parts repeat file names, 1.jpg in each
    density, which says nothing of their backgrounds: the ones of a number are held out together, to be safe. Copies
    called DID-Data have two folders instead. Whether numbers begin at 0 or 1 differs between loaders: go by the files
    that are there.
    """

    DATA_SET = DATA_SET
