"""What the tests of the data sets share: dummy copies in the layouts that circulate, and what must be found in them."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.pair_files import Side
from data_pipelines.quiet_tf import tfds

HEIGHT, WIDTH = 12, 20
RAIN = 40
"""How much brighter a dummy's rainy image is than its clean one, everywhere."""


@dataclasses.dataclass(frozen=True)
class Dummy:
    """The files of one part: paths with ``{i}`` for the number of the scene and ``{v}`` for the name of the rain.

    Attributes:
      rainy, clean: paths; without ``clean``, the rainy file holds both images.
      scenes: numbers of the scenes.
      rains: names of the rains that each scene has.
      rainy_side: where the rainy image is in a file that holds both.
      others: files that belong to no pair.
    """

    rainy: str
    clean: str | None = None
    scenes: Iterable[int] = (1, 2, 10)
    rains: Iterable[int | str] = (1,)
    rainy_side: Side = "left"
    others: tuple[str, ...] = ()

    def write(self, folder: Path, part: str) -> None:
        """Draws the files below ``folder``, of scenes that no other part has."""
        for i in self.scenes:
            clean = scene(i, part)
            for v in self.rains:
                halves = [clean + RAIN, clean] if self.rainy_side == "left" else [clean, clean + RAIN]
                _save(np.concatenate(halves, 1) if self.clean is None else clean + RAIN, folder, self.rainy, i, v)
            if self.clean is not None:
                _save(clean, folder, self.clean, i, 1)
        for name in self.others:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._listing()) if path.suffix == ".txt" else _save(scene(99, part), folder, name, 0, 0)

    def _listing(self) -> str:
        lines = [f"/{self.rainy.format(i=i, v=v)} /{self.clean.format(i=i, v=v)}" for i, v in self._numbers()]
        # As in SPA-Data: paths from the list's folder, with a slash in front.
        return "\n".join(line.replace("Training/", "").replace("Testing/", "") for line in lines)

    def _numbers(self) -> list[tuple[int, int | str]]:
        return [(i, v) for i in self.scenes for v in self.rains]


def scene(number: int, part: str) -> np.ndarray:
    """A smooth picture of its own for each number and part, as uint8 RGB below 216."""
    rng = np.random.default_rng([number, *part.encode()])
    small = Image.fromarray(rng.integers(0, 216, (4, 6, 3), dtype=np.uint8))
    return np.minimum(np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)), 255 - RAIN)


def _save(image: np.ndarray, folder: Path, pattern: str, i: int, v: int | str) -> None:
    path = folder / pattern.format(i=i, v=v)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **({"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}))


class BuilderTestCase(tfds.testing.DatasetBuilderTestCase):
    """Builds a data set from a dummy copy in the first of its layouts, and finds its pairs in all of them.

    Attributes:
      LAYOUTS: name of a layout to the parts of a copy in it.
      SPLITS: number of pairs by part in the first layout; set by itself.
    """

    LAYOUTS: dict[str, dict[str, Dummy]] = {}
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        """Draws the dummy data."""
        cls.copies = Path(tempfile.mkdtemp())
        for layout, parts in cls.LAYOUTS.items():
            for part, dummy in parts.items():
                dummy.write(cls.copies / layout, part)
        first = next(iter(cls.LAYOUTS))
        cls.EXAMPLE_DIR = str(cls.copies / first)
        cls.SPLITS = {part: len(dummy._numbers()) for part, dummy in cls.LAYOUTS[first].items()}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        """Removes the dummy data."""
        super().tearDownClass()
        shutil.rmtree(cls.copies)

    def test_layouts(self):
        """In every layout, each rainy image is paired with its own clean one, and nothing is left over."""
        for layout, dummies in self.LAYOUTS.items():
            with self.subTest(layout):
                parts = self.DATASET_CLASS.DATA_SET.find(self.copies / layout)
                self.assertEqual(set(parts), set(dummies))
                for name, part in parts.items():
                    self.assertEqual(part.problems, ())
                    pairs = part.open()
                    self.assertLen({pair.name for pair in pairs}, len(dummies[name]._numbers()))
                    for pair in pairs:
                        self.assertEqual(pair.size, (HEIGHT, WIDTH))
                        rainy, clean = np.split(pair.load().astype(int), 2, axis=-1)
                        # JPEG changes pixels, and leaves the mean.
                        self.assertBetween((rainy - clean).mean(), RAIN - 2, RAIN + 2)
                        self.assertLess(np.abs(rainy - clean - RAIN).max(), 25)

    def test_counts_are_documented(self):
        """The docstring states every count that the audit knows."""
        text = self.DATASET_CLASS.__doc__
        for part, place in self.DATASET_CLASS.DATA_SET.parts.items():
            for count in place.counts:
                self.assertIn(f"{count:,}", text, f"{part}: {count}")
