"""Rain1400 for TensorFlow Datasets."""

from data_pipelines.datasets.rain1400 import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain1400, or DDN: fourteen synthetic rains over each of 1,000 backgrounds; 12,600 training and 1,400 test pairs.

    Citation: X. Fu, J. Huang, D. Zeng, Y. Huang, X. Ding, J. Paisley, "Removing Rain from Single Images via a Deep
    Detail Network", CVPR 2017.

    Counts: train 12,600 (900 backgrounds), 9,100 (650) or, in Rain13K, 11,200 (800); test 1,400 (100), 4,900 (350) or,
    as Test2800, 2,800 (200).

    Traps: 901_1.jpg to 901_14.jpg share the clean 901.jpg, so a random split of files leaks backgrounds: hold out by
    clean image. Test2800, with its 200 backgrounds, must share some with the 900 on which Rain12600 trains, as there
    are 1,000 in all. An early Test2800 has a stray 926_10(1).jpg. The whole is called Rain14000, the training part
    Rain12600.
    """

    DATA_SET = DATA_SET
