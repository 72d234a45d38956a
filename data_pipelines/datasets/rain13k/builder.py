"""Rain13K for TensorFlow Datasets."""

from data_pipelines.datasets.rain13k import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain13K: the training pairs of MSPFN, from four data sets, with five test sets.

    Citation: K. Jiang, Z. Wang, P. Yi et al., "Multi-Scale Progressive Fusion Network for Single Image Deraining", CVPR
    2020; in this form S. W. Zamir, A. Arora, S. Khan, M. Hayat, F. S. Khan, M.-H. Yang, L. Shao, "Multi-Stage
    Progressive Image Restoration", CVPR 2021.

    Counts: train 13,712 in the papers, 13,711 in the download (one image of a wrong size was removed, MPRNet issue 74);
    test parts ``rain100h`` 100, ``rain100l`` 100, ``test100`` 98 (the papers say 100), ``test1200`` 1,200, ``test2800``
    2,800 (2,801 rainy images in an early upload).

    Traps: it contains all of Rain12, and Rain100H's 1,800 training pairs, 546 of which have backgrounds of Rain100H's
    test part, which are Rain100L's too. Loaders that pair files by their position in a sorted listing shift every pair
    after a missing file. Suffixes are mixed.
    """

    DATA_SET = DATA_SET
