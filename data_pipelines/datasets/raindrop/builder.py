"""RainDrop for TensorFlow Datasets."""

from data_pipelines.datasets.raindrop import DATA_SET
from data_pipelines.pairs_builder import PairsBuilder


class Builder(PairsBuilder):
    """RainDrop: photographs through glass with and without real drops on it; 861 training pairs, two test parts.

    Citation: R. Qian, R. T. Tan, W. Yang, J. Su, J. Liu, "Attentive Generative Adversarial Network for Raindrop Removal
    from a Single Image", CVPR 2018.

    Counts: train 861; ``test_a`` 58; ``test_b`` 239 in its README, 249 in copies.

    Traps: ``test_a`` is the well aligned part of ``test_b``, so the two must not be added up. The two photographs of a
    pair were taken one after the other and are not everywhere aligned. Drops on glass are not streaks in the air:
    models for one do little for the other. Test part ``test`` is what copies with a single test folder have, usually
    ``test_a``.
    """

    DATA_SET = DATA_SET
