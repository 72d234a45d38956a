"""What the data sets' builders for TensorFlow Datasets have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_pipelines.known import DataSet
from data_pipelines.pair_files import Part
from data_pipelines.quiet_tf import tfds


class PairsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds a published data set from a copy that was downloaded by hand.

    Each example holds ``rainy`` and ``clean``, uint8 RGB images (h, w, 3) of one size, the ``name`` of the rainy image
    and the ``background``, the name of the clean one, by which parts should be split. Splits are the parts of the copy.

    A builder raises ``InputError`` naming the file where a copy has one without a partner, of another size than its
    partner, or that cannot be read.
    """

    DATA_SET: ClassVar[DataSet]

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download the data set from its authors and unpack it into the manual directory, in its own folder or not, in "
        "any of the layouts that circulate."
    )

    def __init_subclass__(cls, **kwargs):
        """Makes a builder config of each config that the data set declares."""
        configs = cls.DATA_SET.configs
        if configs:
            every = tfds.core.BuilderConfig(name="all", description="All of it.")
            cls.BUILDER_CONFIGS = [
                every,
                *(tfds.core.BuilderConfig(name=name, description=f"The {name} part of it.") for name in configs),
            ]
        super().__init_subclass__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        text = tfds.features.Text()
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict({"rainy": image, "clean": image, "name": text, "background": text}),
            supervised_keys=("rainy", "clean"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config.name if self.builder_config else "all"
        data_set = self.DATA_SET if config == "all" else self.DATA_SET.config(config)
        parts = data_set.find(Path(dl_manager.manual_dir))
        return {name: self._generate_examples(part) for name, part in parts.items()}

    def _generate_examples(self, part: Part):
        for index, pair in enumerate(part.open()):
            image = pair.load()
            example = {
                "rainy": image[..., :3],
                "clean": image[..., 3:],
                "name": pair.name,
                "background": pair.background,
            }
            yield index, example
