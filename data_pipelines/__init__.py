"""Rainy/clean pairs in, batches out. ``quiet_tf`` alone imports TensorFlow, for streams and builders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import expanded
from data_pipelines.known import NAMES, is_known, known
from data_pipelines.layouts import ALL, find_parts
from data_pipelines.pairs import Pair, Pairs
from data_pipelines.synthetic import BUILTIN, is_synthetic, synthetic_parts

__all__ = ["BUILTIN", "Opens", "Pair", "Pairs", "choose_part", "find_data", "open_pairs"]


class Opens(Protocol):
    """A part of a data set that was found and can be opened."""

    def open(self) -> Pairs:
        """Its pairs; raises ``InputError`` if something is wrong with it."""


def find_data(data: str, root: Path | None = None, root_option: str = "--data-root") -> Mapping[str, Opens]:
    """The parts of a data set by name, found but not yet opened.

    Args:
      data: the name of a published data set (``rain100h``, or ``rain1200/heavy`` for a config of one); a folder of
        pairs in any layout that ``layouts`` knows; a text file that lists pairs; or ``synthetic``,
        ``synthetic/heavy``, ``synthetic/light:FOLDER`` for rain rendered over photographs.
      root: where the published data set was unpacked.
      root_option: what the option is called that gives it.

    Raises:
      InputError: there is no such data set, or a root for one that has none.
    """
    if root is not None and not is_known(data):
        raise InputError(f"{root_option} is for data sets that are known by name, not for {shown(data)}")
    if is_synthetic(data):
        return synthetic_parts(data)
    if is_known(data):
        if root is not None:
            return known(data).find(expanded(root))
        if not os.path.isdir(data):
            raise InputError(f"data set {data[:99]} needs {root_option}: the folder in which it was unpacked")
    folder = expanded(data)
    # Not by exists, which raises an error where a name is too long.
    if not data or not os.path.exists(folder):
        close = get_close_matches(data.casefold(), NAMES)
        hint = f"did you mean {' or '.join(close)}?" if close else f"those are {', '.join(NAMES)}"
        raise InputError(
            f"data folder {shown(data)} does not exist, nor is it a data set that is known by name; {hint}"
        )
    if folder.is_file() and folder.suffix.casefold() != ".txt":
        raise InputError(f"{data} is a file; data are a folder, a list of pairs (.txt) or a data set by name")
    return find_parts(folder)


def choose_part(parts: Mapping[str, Opens], split: str, data: str) -> str:
    """The part that ``split`` means: the one of that name, or the only one of a folder that is not divided.

    Raises:
      InputError: there is no such part.
    """
    if split in parts:
        return split
    if list(parts) == [ALL]:
        return ALL
    raise InputError(f"data {data} has no part {split!r}; it has {', '.join(parts)}")


def open_pairs(data: str, split: str, root: Path | None = None) -> Pairs:
    """Opens one part of a data set.

    Args:
      data, root: as for ``find_data``.
      split: ``train``, ``test``, or another part that the data set has.

    Raises:
      InputError: there is no such data set or part, or something is wrong with it.
    """
    parts = find_data(data, root)
    return parts[choose_part(parts, split, data)].open()
