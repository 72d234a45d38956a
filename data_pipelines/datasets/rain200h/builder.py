"""Rain200H for TensorFlow Datasets."""

from data_pipelines.datasets.rain200h import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain200H: heavy synthetic rain of several streak directions; the later release of Rain100H.

    Citation: W. Yang, R. T. Tan, J. Feng, J. Liu, Z. Guo, S. Yan, "Deep Joint Rain Detection and Removal from a Single
    Image", CVPR 2017, and its extension in TPAMI 2019.

    Counts: train 1,800, test 200.

    Traps: it circulates as "Rain100H, new version" and in folders called Rain100H. Rainy files carry an ``x2`` that
    clean files lack and lie in a folder ``X2``, both left over from super-resolution code; nothing is scaled. One copy
    in circulation has the images side by side, clean on the left. Figures on this set and on Rain100H are not
    comparable.
    """

    DATA_SET = DATA_SET
