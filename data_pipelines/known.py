"""The published data sets: what is known of each, and where its parts lie in the copies that circulate.

Each has a folder in ``data_pipelines/datasets`` that declares it as ``DATA_SET`` and builds it for TensorFlow Datasets.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoderain_jax.errors import InputError, shown
from data_pipelines.layouts import find_or_tell, holds_images
from data_pipelines.pair_files import Part, joined

NAMES = (
    "rain100l",
    "rain100h",
    "rain200l",
    "rain200h",
    "rain12",
    "rain800",
    "rain1200",
    "rain1400",
    "rain13k",
    "spa_data",
    "raindrop",
)


RCDNET = "as commonly quoted after RCDNet (Wang et al., CVPR 2020); neither read there nor reproduced by us"


@dataclasses.dataclass(frozen=True)
class Input:
    """Published score of the rainy images themselves, protocol ``y-matlab``.

    Attributes:
      pairs: how many the version has that was scored.
      psnr: in dB.
      ssim: in [0, 1].
      source: who published it.
    """

    pairs: int
    psnr: float
    ssim: float
    source: str


@dataclasses.dataclass(frozen=True)
class Place:
    """One part of a data set.

    Attributes:
      folders: where it lies in the copies that circulate, relative to the data set's folder; the first that exists is
        taken. One that ends in ``|left`` or ``|right`` holds images side by side, the rainy one on that side. Several
        joined by `` + `` are taken together, and images are then named by the folder that tells them apart.
      counts: numbers of pairs of the versions that are known, each with what it is.
      input: published score of the rainy images.
      inside: another part that contains this one, if there is one.
      optional: whether whole copies may lack it.
    """

    folders: tuple[str, ...]
    counts: Mapping[int, str]
    input: Input | None = None
    inside: str | None = None
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
      name: on the command line and in TensorFlow Datasets.
      title: as papers write it.
      parts: by name: ``train``, ``test`` or what the publication calls them.
      aliases: names of folders in which copies circulate, besides ``name`` and ``title``.
      configs: parts of the data set with names of their own, such as ``heavy``: each maps part to place.
    """

    name: str
    title: str
    parts: Mapping[str, Place]
    aliases: tuple[str, ...] = ()
    configs: Mapping[str, Mapping[str, Place]] = dataclasses.field(default_factory=dict)

    def config(self, name: str) -> DataSet:
        """The data set with the parts of one of its configs; raises ``InputError`` if there is none of that name."""
        if name not in self.configs:
            raise InputError(
                f"data set {self.name} has no config {shown(name)} ({', '.join(self.configs) or 'it has none'})"
            )
        return dataclasses.replace(self, name=f"{self.name}/{name}", parts=self.configs[name], configs={})

    def find(self, root: Path) -> dict[str, Part]:
        """The parts that lie in a copy; one whose folder is there but in no known layout has a problem that says so.

        Args:
          root: the folder of the data set, or one that holds it under a name that is known.

        Raises:
          InputError: there is no such folder, or no part of the data set in it.
        """
        if not root.is_dir():
            raise InputError(f"{root}, where {self.title} should be, is not a folder")
        names = {alias.casefold() for alias in (self.name, self.title, *self.aliases)}
        inside = sorted(path for path in root.iterdir() if path.is_dir() and path.name.casefold() in names)
        parts: dict[str, Part] = {}
        for home in (*inside, root):
            for part, place in self.parts.items():
                # Beside a folder of this data set's name, folders called train and test are another's.
                folders = [f for f in place.folders if home is not root or not inside or not _is_anyones(f)]
                found = _find(home, folders)
                if found and (part not in parts or (found.files and not parts[part].files)):
                    parts[part] = found
        if not any(part.files for part in parts.values()):
            folders = {re.split("[| ]", folder)[0] for place in self.parts.values() for folder in place.folders}
            reasons = [part.problems[0].sentence for part in parts.values()]
            because = f" ({reasons[0]})" if reasons else ""
            looked = ", ".join(sorted(folders - {"."}))
            raise InputError(f"{root} holds no part of {self.title}; looked for {looked}{because}")
        return {part: parts[part] for part in self.parts if part in parts}


def known(name: str) -> DataSet:
    """The data set of a name, ``rain1200``, or of one of its configs, ``rain1200/heavy``; raises ``KeyError``."""
    base, _, config = name.casefold().partition("/")
    if base not in NAMES:
        raise KeyError(name)
    data_set = importlib.import_module(f"data_pipelines.datasets.{base}").DATA_SET
    return data_set.config(config) if config else data_set


def is_known(name: str) -> bool:
    """Whether a name is that of a published data set or of a config of one."""
    return name.casefold().partition("/")[0] in NAMES


def _is_anyones(folder: str) -> bool:
    """Whether the name of a folder could be that of any data set."""
    names = Path(folder.casefold().partition("|")[0]).parts
    return not set(names) - {"train", "test", "training", "testing", "val", "small"}


def _find(home: Path, folders: Sequence[str]) -> Part | None:
    """The part in the first of the folders that is there and in a known layout.

    Failing that, the problem of the first that looks as if it were meant; and None if there is no such folder.
    """
    broken = None
    for folder in folders:
        wanted = [part.partition("|") for part in folder.split(" + ")]
        bases = [_folder(home, path) for path, _, _ in wanted]
        if None in bases:
            continue
        parts = [find_or_tell(base, side or None) for base, (_, _, side) in zip(bases, wanted, strict=True)]
        if all(part.files for part in parts):
            return parts[0] if len(parts) == 1 else joined(zip(_labels(bases), parts, strict=True))
        if folder != "." and any(holds_images(base) for base in bases):
            broken = broken or next(part for part in parts if not part.files)
    return broken


def _folder(home: Path, path: str) -> Path | None:
    """A folder below ``home``, in any case of letters."""
    for name in Path(path).parts:
        fitting = sorted(sub for sub in home.iterdir() if sub.is_dir() and sub.name.casefold() == name.casefold())
        if not fitting:
            return None
        home = fitting[0]
    return home


def _labels(bases: list[Path]) -> list[str]:
    """What tells folders apart: the first component of their paths in which they differ."""
    components = zip(*(base.parts for base in bases), strict=True)
    return list(next(names for names in components if len(set(names)) == len(bases)))
