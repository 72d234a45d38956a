"""SPA-Data for TensorFlow Datasets."""

from data_pipelines.datasets.spa_data import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """SPA-Data: real rain from video, its clean images estimated over time; patches to train on, 1,000 test pairs.

    Citation: T. Wang, X. Yang, K. Xu, S. Chen, Q. Zhang, R. W. H. Lau, "Spatial Attentive Single-Image Deraining with a
    High Quality Real Rain Dataset", CVPR 2019.

    Counts: train 638,492 patches of 256x256 pixels (the list of some copies has 638,493 lines), or 28,500 whole images;
    test 1,000.

    Traps: the clean image is an estimate, made over many frames with a person's help, so the last decibels mean little.
    Many patches share a background: split by scene. Entries of scene 274 in the list ``real_world.txt`` do not fit the
    files of some copies (SPANet issue 24). Paths in the list begin with a slash and mean the list's folder. Published
    figures were computed with different SSIM implementations.
    """

    DATA_SET = DATA_SET
