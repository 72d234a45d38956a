"""Rain100L for TensorFlow Datasets."""

from data_pipelines.datasets.rain100l import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain100L: light synthetic streaks in one direction; 200 training and 100 test pairs of 481x321 pixels.

    Citation: W. Yang, R. T. Tan, J. Feng, J. Liu, Z. Guo, S. Yan, "Deep Joint Rain Detection and Removal from a Single
    Image", CVPR 2017.

    Counts: train 200, test 100.

    Traps: folders called Rain100L may hold the later release (1800 and 200 pairs), which is Rain200L. Nine of the test
    backgrounds occur twice, so that a mean over 100 images weighs them twice. The test backgrounds are those of
    Rain100H's test part. MPRNet's and Restormer's configurations name this test part as their validation data.
    RainTrainL also holds images of the streaks alone.
    """

    DATA_SET = DATA_SET
