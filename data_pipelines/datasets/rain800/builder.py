"""Rain800 for TensorFlow Datasets."""

from data_pipelines.datasets.rain800 import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """Rain800: synthetic rain of ID-CGAN, images side by side, the clean one on the left; 700 and 100 pairs.

    Citation: H. Zhang, V. Sindagi, V. M. Patel, "Image De-raining Using a Conditional Generative Adversarial Network",
    arXiv:1701.05957; IEEE TCSVT 2019.

    Counts: train 700, test 100, or 98 in the copy that goes with MSPFN and MPRNet.

    Traps: the test part is known as Test100, and in MSPFN's and MPRNet's copy has 98 pairs (MPRNet issue 23). The clean
    image is on the left, where Rain1200 has the rainy one: a loader for one of the two silently trains the other
    backwards. The training part is inside Rain13K. A folder of 92 real photographs without clean images comes with it.
    """

    DATA_SET = DATA_SET
