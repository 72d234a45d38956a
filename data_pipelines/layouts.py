"""Where the pairs of a folder lie: the layouts in which deraining data circulate, recognised by names alone.

A *base* is a folder that holds the pairs of one part (``train``, ``test``) in one of these ways:

- two folders, one of ``RAINY`` and one of ``CLEAN``: ``input/1.png`` with ``target/1.png``;
- a rainy folder, with the clean images beside it: ``rainy/rain-001.png`` with ``norain-001.png`` (PReNet's test sets);
- all in one folder, told apart by their names: ``rain-1.png`` with ``norain-1.png`` (PReNet's training sets);
- a text file that lists pairs, a line each: ``/real_world/1/1-2.png /real_world_gt/1/1.png`` (SPA-Data), where not both
  folders hold images themselves; one that is given by its own path may also list rainy images alone,
  ``set/rain/1.png``, whose partner lies in the clean folder beside theirs (Syn2Real, TransWeather);
- images that hold both halves side by side (Rain800, Rain1200), only where a data set declares it.

File names of a pair are equal, or differ by a decoration (``norain-1x2.png`` with ``norain-1.png``, ``001_in.png`` with
``001_GT.png``), or many rainy images number the variants of one clean image (``901_14.jpg`` with ``901.jpg``). One of
these rules holds for a whole folder, so that a renamed file is found out instead of being paired by another rule.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from autoderain_jax.errors import InputError
from autoderain_jax.files import read_bytes
from data_pipelines.images import SUFFIXES, UNREAD, image_files, image_size, is_image_name, read_rgb, some_images
from data_pipelines.pairs import Pair, Pairs

RAINY = ("rainy", "rain", "input", "inputs", "rainy_image", "rainy_images", "data", "real_world", "lq")
CLEAN = ("clean", "norain", "target", "targets", "gt", "groundtruth", "ground_truth", "real_world_gt", "label", "hq")
PARTS = {"train": ("train", "training"), "test": ("test", "testing")}
"""Folders that hold the parts of a plain data folder, by part."""
MOST_BYTES = 2**26
"""Of a list of pairs: that of SPA-Data's 600,000 has 40 million."""
MOST_LINES = 10_000
"""Of a list, with problems, after which it is read no further."""
LONGEST_LINE = 4096
"""Of a list, in characters: two names of files have fewer."""
ALL = "all"
"""The one part of a data folder that has no folders of ``PARTS``."""

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


def find_parts(root: Path) -> dict[str, Part]:
    """The parts of a plain data folder: ``train`` and ``test``, or ``all`` where it has no such folders.

    A text file that lists pairs will do as well. Of ``train`` and ``test``, one in no layout that is known has a
    problem that says so, and leaves the other usable.

    Raises:
      InputError: the folder does not exist, or has no such parts and is itself in no layout that is known.
    """
    if root.suffix.casefold() == ".txt":
        return {ALL: find_listed(root)}
    bases = part_folders(root)
    if ALL in bases:
        return {ALL: find_pairs(root)}
    return {part: find_or_tell(base) for part, base in bases.items()}


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of the parts of a data folder, or the folder itself as ``all``; ``InputError`` if it is missing."""
    if not root.is_dir():
        raise InputError(f"data folder {root} does not exist")
    return {part: base for part, names in PARTS.items() if (base := _one_of(root, names))} or {ALL: root}


def find_or_tell(base: Path, rainy_side: Side | None = None) -> Part:
    """As ``find_pairs``, but a base in no layout that is known becomes a part whose problem says so."""
    try:
        return find_pairs(base, rainy_side)
    except InputError as error:
        return Part((), (Problem(base, str(error), "fetch what is missing, or arrange it in a layout that is known"),))


def find_pairs(base: Path, rainy_side: Side | None = None) -> Part:
    """The pairs of one base folder; raises ``InputError`` if it is in no layout that is known."""
    if rainy_side:
        return _side_by_side(base, rainy_side)
    rainy, clean, inside = _one_of(base, RAINY), _one_of(base, CLEAN), image_files(base)
    whole = inside or (rainy and clean and all(_images_below(folder) for folder in (rainy, clean)))
    listings = [path for path in sorted(base.glob("*.txt")) if _lists_pairs(path)] if not whole else []
    if len(listings) > 1:
        names = " and ".join(path.name for path in listings)
        raise InputError(f"{base} holds the lists {names}: give the one that is meant by its own path")
    if listings:
        return find_listed(listings[0])
    if rainy and (clean or inside):
        part = _match(_some_below(rainy), _some_below(clean) if clean else inside)
        unread = [problem for folder in (rainy, clean) if folder for problem in _unread(folder)]
        return part._replace(problems=(*part.problems, *unread))
    if any(CLEAN_NAME.search(path.stem.casefold()) for path in inside):
        return _told_apart(inside)
    raise InputError(
        f"{base} needs the folders rainy/ and clean/ (or train/ and test/ with these inside); input/ and target/, "
        "and other names that circulate, will do; published data sets are known by name, with --data-root"
    )


def holds_images(base: Path) -> bool:
    """Whether a folder looks as if it were meant to hold pairs: it has images, or a rainy or clean folder."""
    names = {path.name.casefold() for path in base.iterdir() if path.is_dir()}
    return bool(names & {*RAINY, *CLEAN}) or bool(image_files(base))


def matched_files(outputs: Path, clean: Path) -> list[tuple[str, Path, Path]]:
    """A method's outputs and clean images matched by name, as (stem of the output, output, clean).

    Raises:
      InputError: a folder holds no image, one of the images has no partner, or two are outputs for the same image.
    """
    part = _match(some_images(outputs), some_images(clean), OUTPUT_RULES)
    if part.problems:
        raise InputError(part.problems[0].sentence)
    seen: dict[str, Path] = {}
    for files in part.files:
        other = seen.setdefault(plain_name(files.name), files.rainy)
        if other != files.rainy:
            raise InputError(f"{other} and {files.rainy} are both outputs for one image: leave one in the folder")
    return [(files.name, files.rainy, files.clean) for files in part.files]


def plain_name(stem: str) -> str:
    """The name of an image without what data sets and methods add to it."""
    return _undecorated(_without_method(stem))


def natural(text: str) -> list[tuple[int, int | str]]:
    """Sorting key by which 2 comes before 10."""
    return [(0, int(run)) if run.isdecimal() else (1, run) for run in re.findall(r"[0-9]+|[^0-9]+", text)]


def _one_of(base: Path, names: Sequence[str]) -> Path | None:
    """The subfolder with one of the names, in any case of letters; ``InputError`` where there are several."""
    found = sorted(path for path in base.iterdir() if path.is_dir() and path.name.casefold() in names)
    if len(found) > 1:
        raise InputError(f"{base} holds both {found[0].name}/ and {found[1].name}/: which one is meant?")
    return found[0] if found else None


def _images_below(folder: Path) -> list[Path]:
    """Images of a folder, or of its only subfolder (JORDER's ``rain/X2``)."""
    inside = image_files(folder)
    below = [path for path in folder.iterdir() if path.is_dir()] if not inside else []
    return image_files(below[0]) if len(below) == 1 else inside


def _unread(folder: Path) -> Iterator[Problem]:
    """What lies among the images of a folder and would be passed over."""
    for path in sorted(folder.iterdir()) if image_files(folder) else []:
        if path.suffix.lower() in UNREAD:
            yield Problem(path, f"{path} is of a type that is not read ({', '.join(SUFFIXES)} are)", "convert it")
        elif path.is_dir() and image_files(path):
            yield Problem(path, f"{path} holds images below others", "move them up, or out of the data set")


def _some_below(folder: Path) -> list[Path]:
    return _images_below(folder) or some_images(folder)


CLEAN_NAME = re.compile(r"^norain[-_]|([-_]|(?<=\d))(gt|clean|norain)$")
STREAKS_NAME = re.compile(r"^rain(streak|region)")
"""Streaks alone, or where they are: they come with RainTrainL and belong to no pair."""


def _told_apart(inside: Sequence[Path]) -> Part:
    kinds = {path: CLEAN_NAME.search(path.stem.casefold()) is not None for path in inside}
    rainy = [path for path, clean in kinds.items() if not clean and not STREAKS_NAME.search(path.stem.casefold())]
    return _match(rainy, [path for path, clean in kinds.items() if clean])


def _undecorated(stem: str) -> str:
    """``norain-1x2``, ``rain-1``, ``1gt`` and ``1_GT`` all become ``1``."""
    stem = re.sub(r"^(no)?rain[-_]", "", stem.casefold())
    stem = re.sub(r"(?<=\d)(x2|gt)$", "", stem)
    return re.sub(r"[-_](in|input|rain|rainy|gt|groundtruth|target|clean|norain)$", "", stem)


def _without_variant(stem: str) -> str:
    return re.sub(r"[-_][a-z]?\d+$", "", _undecorated(stem))


def _without_method(stem: str) -> str:
    """``1_out`` and ``1_fake_B``, as methods call what they make of ``1``, become ``1``."""
    return re.sub(r"[-_ ](out|output|restored|derain|derained|pred|result|fake_b)$", "", stem, flags=re.IGNORECASE)


def _same(stem: str) -> str:
    return stem


Rules = tuple[tuple[Callable[[str], str], Callable[[str], str]], ...]

RULES: Rules = (
    (_same, _same),
    (_undecorated, _undecorated),
    (_without_variant, _undecorated),
)
"""How the keys of a rainy and of a clean file name are made; files of one key belong together."""
OUTPUT_RULES: Rules = (
    *RULES,
    *((lambda stem, key=rainy_key: key(_without_method(stem)), clean_key) for rainy_key, clean_key in RULES),
)
"""The same for a method's outputs in place of rainy images."""


def _match(rainy: Sequence[Path], clean: Sequence[Path], rules: Rules = RULES) -> Part:
    """Pairs files by the first rule that fits at least half of them; else by the one that leaves the fewest alone."""
    parts = [_match_by(*rule, rainy, clean) for rule in rules]
    fitting = (part for part in parts if 2 * len(part.files) >= len(rainy))
    return next(fitting, min(parts, key=lambda part: len(part.problems)))


def _match_by(rainy_key, clean_key, rainy: Sequence[Path], clean: Sequence[Path]) -> Part:
    problems = list(_twins(rainy))
    partners: dict[str, Path] = {}
    for path in clean:
        key = clean_key(path.stem)
        if key in partners:
            sentence = f"{path} and {partners[key].name} are two clean images of one name"
            problems.append(Problem(path, sentence, "rename or remove one of the two"))
        partners.setdefault(key, path)
    files, used = [], set()
    for path in rainy:
        partner = partners.get(rainy_key(path.stem))
        if partner is None:
            problems.append(Problem(path, f"{path} has no partner of the same name"))
        else:
            files.append(PairFiles(path.stem, partner.stem, path, partner))
            used.add(partner)
    unused = [path for path in partners.values() if path not in used]
    problems += [Problem(path, f"{path} has no partner of the same name") for path in unused]
    return Part(tuple(sorted(files, key=lambda files: natural(files.name))), tuple(problems))


def _twins(paths: Iterable[Path]) -> Iterable[Problem]:
    count = Counter(path.stem for path in paths)
    for path in paths:
        if count[path.stem] > 1:
            sentence = f"{path} has the same name, but for the suffix, as another image beside it"
            yield Problem(path, sentence, "remove one of the two")


def _side_by_side(base: Path, rainy_side: Side) -> Part:
    files = sorted(some_images(base), key=lambda path: natural(path.name))
    return Part(tuple(PairFiles(p.stem, p.stem, p, p, rainy_side) for p in files), tuple(_twins(files)))


def _lists_pairs(path: Path) -> bool:
    """Whether the first line of a text file names two images."""
    try:
        if not path.is_file():
            return False
        with path.open(encoding="utf-8-sig") as file:
            words = file.readline(LONGEST_LINE).split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(words) == 2 and all(is_image_name(Path(word)) for word in words)


def find_listed(listing: Path) -> Part:
    """Pairs that a text file names; paths are relative to its folder even if they begin with a slash.

    Raises:
      InputError: the file cannot be read, or names no image.
    """
    try:
        lines = read_bytes(listing, "the list", MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"the list {listing} is no text file") from None
    files, problems, seen = [], [], set()
    for number, line in enumerate(io.StringIO(lines, newline=None), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if len(problems) == MOST_LINES:
            sentence = f"{listing}, line {number}: it is not read further, as {MOST_LINES} lines have problems"
            problems.append(Problem(listing, sentence, "see to these first"))
            break
        words = line.split() if len(line) <= LONGEST_LINE else []
        paths = [listing.parent / word.lstrip("/\\") for word in words]
        # Not by is_file, which raises an error where a name is too long.
        lost = next((path for path in paths if ".." in path.parts or not os.path.isfile(path)), None)
        if len(paths) == 1 and not lost:
            paths.append(_clean_beside(paths[0]))
        if not 1 <= len(paths) <= 2:
            reason = "it does not name one pair; names in a list have no spaces"
        elif lost:
            reason = f"{lost} does not exist"
        elif paths[-1] is None:
            reason = f"{paths[0]} has no partner in a clean folder beside its own"
        elif (name := _name(paths[0], listing.parent)) in seen:
            reason = f"{paths[0]} is there a second time, or with another suffix"
        else:
            seen.add(name)
            files.append(PairFiles(name, _scene(paths[1], listing.parent), *paths))
            continue
        problems.append(Problem(listing, f"{listing}, line {number}: {reason}", "correct or remove the line"))
    if not files and not problems:
        raise InputError(f"the list {listing} is empty")
    return Part(tuple(files), tuple(problems))


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root).with_suffix(""))


def _scene(clean: Path, root: Path) -> str:
    """The background of a clean image: its scene's folder where the clean folder holds such, else its own name."""
    for folder in clean.parents[1:]:
        if folder.name.casefold() in CLEAN:
            return _name(folder / clean.relative_to(folder).parts[0], root)
    return _name(clean, root)


def _clean_beside(rainy: Path) -> Path | None:
    """The image of the same name in the clean folder beside a rainy one, if there is one."""
    for folder in rainy.parents:
        if folder.name.casefold() in RAINY and folder.parent.is_dir():
            beside = [path for path in sorted(folder.parent.iterdir()) if path.name.casefold() in CLEAN]
            partners = [path / rainy.relative_to(folder) for path in beside]
            return next((path for path in partners if path.is_file()), None)
    return None


def joined(parts: Iterable[tuple[str, Part]]) -> Part:
    """Several labelled parts as one: names get the label in front, backgrounds do not."""
    files, problems = [], []
    for label, part in parts:
        files += [dataclasses.replace(files, name=f"{label}/{files.name}") for files in part.files]
        problems += part.problems
    return Part(tuple(files), tuple(problems))
