"""Rain12 for TensorFlow Datasets."""

from data_pipelines.datasets.rain12 import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain12: twelve synthetic pairs, a test set only.

    Citation: Y. Li, R. T. Tan, X. Guo, J. Lu, M. S. Brown, "Rain Streak Removal Using Layer Priors", CVPR 2016.

    Counts: test 12.

    Traps: it has no training part; models trained on Rain100L are usually scored on it. All twelve pairs are in
    Rain13K's training part, so that a model trained on Rain13K has seen them.
    """

    DATA_SET = DATA_SET
