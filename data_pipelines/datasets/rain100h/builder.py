"""Rain100H for TensorFlow Datasets."""

from data_pipelines.datasets.rain100h import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain100H: heavy synthetic rain of five streak directions; 1,800 (or 1,254) training and 100 test pairs.

    Citation: W. Yang, R. T. Tan, J. Feng, J. Liu, Z. Guo, S. Yan, "Deep Joint Rain Detection and Removal from a Single
    Image", CVPR 2017.

    Counts: train 1,800 as published or 1,254 without the leak, test 100.

    Traps: 546 of the 1,800 training pairs have backgrounds of the test part (D. Ren et al., "Progressive Image
    Deraining Networks", CVPR 2019, who train on the other 1,254); figures from the two are not comparable. The later
    release with 1,800 and 200 pairs is Rain200H. The test backgrounds are those of Rain100L's test part.
    """

    DATA_SET = DATA_SET
