"""The files of pairs: where one pair's pixels lie, and what was found of a data set's part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from autoderain_jax.errors import InputError
from data_pipelines.images import image_size, read_rgb
from data_pipelines.pairs import Pair, Pairs

Side = Literal["left", "right"]


class UnequalSizes(InputError):
    """The images of a pair are of different sizes."""


@dataclasses.dataclass(frozen=True)
class PairFiles:
    """Where one pair's pixels lie.

    Attributes:
      name: of the rainy image.
      background: name of the clean image.
      rainy, clean: the files; the same one where it holds both halves.
      rainy_side: of the image that holds both halves; None where there are two files.
    """

    name: str
    background: str
    rainy: Path
    clean: Path
    rainy_side: Side | None = None

    def size(self) -> tuple[int, int]:
        """(height, width) of either image; raises ``InputError`` where the two differ or cannot be read."""
        height, width = image_size(self.rainy)
        if self.rainy_side:
            if width % 2:
                raise UnequalSizes(f"{self.rainy} is {width} pixels wide: two images side by side have an even width")
            return height, width // 2
        other = image_size(self.clean)
        if other != (height, width):
            raise UnequalSizes(f"{self.rainy} is {width}x{height} but {self.clean} is {other[1]}x{other[0]}")
        return height, width

    def load(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """The pair as uint8 (h, w, 6), rainy RGB then clean RGB.

        Raises:
          InputError: a file cannot be read, or either image is not of the ``size`` that was found before.
        """
        height, width = size or self.size()
        if not self.rainy_side:
            return np.concatenate([read_rgb(path, (height, width)) for path in (self.rainy, self.clean)], -1)
        halves = np.split(read_rgb(self.rainy, (height, 2 * width)), 2, axis=1)
        return np.concatenate(halves if self.rainy_side == "left" else halves[::-1], -1)


class Problem(NamedTuple):
    """A file that has no place in any pair: why, and what to do about it, a sentence each."""

    path: Path
    sentence: str
    repair: str = "give it the name of its partner, fetch its partner, or remove it"


class Part(NamedTuple):
    """The pairs found for one part of a data set, in the order of their names, and what could not be paired."""

    files: tuple[PairFiles, ...]
    problems: tuple[Problem, ...] = ()

    def open(self) -> Pairs:
        """The pairs, after a look at the size of every file; raises ``InputError`` at the first problem."""
        if self.problems:
            raise InputError(self.problems[0].sentence)
        sized = [(files, files.size()) for files in self.files]
        return Pairs([Pair(files.name, files.background, size, partial(files.load, size)) for files, size in sized])


def joined(parts: Iterable[tuple[str, Part]]) -> Part:
    """Several labelled parts as one: names get the label in front, backgrounds do not."""
    files, problems = [], []
    for label, part in parts:
        files += [dataclasses.replace(files, name=f"{label}/{files.name}") for files in part.files]
        problems += part.problems
    return Part(tuple(files), tuple(problems))
