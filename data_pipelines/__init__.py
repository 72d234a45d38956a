"""Rainy/clean pairs in, batches out. TensorFlow is imported by ``data_pipelines.stream`` alone."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.pairs import Pair, Pairs, folder_pairs
from data_pipelines.synthetic import builtin_pairs

__all__ = ["BUILTIN", "Pair", "Pairs", "open_pairs"]

BUILTIN = "synthetic"
"""Name of the built-in data set: synthetic rain over the photographs that scikit-image ships."""


def open_pairs(data: str, split: str) -> Pairs:
    """Opens a data set.

    Args:
      data: ``synthetic``, or a folder with ``rainy/`` and ``clean/``, or with these inside ``train/`` and ``test/``.
      split: ``train`` or ``test``.

    Raises:
      InputError: there is no such data set, or something is wrong with it.
    """
    return builtin_pairs(split) if data == BUILTIN else folder_pairs(Path(data).expanduser(), split)
