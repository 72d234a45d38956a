"""Where the pairs of a folder lie: the layouts in which deraining data circulate, recognised by names alone.

A *base* is a folder that holds the pairs of one part (``train``, ``test``) in one of these ways:

- two folders, one of ``RAINY`` and one of ``CLEAN``: ``input/1.png`` with ``target/1.png``;
- a rainy folder, with the clean images beside it: ``rainy/rain-001.png`` with ``norain-001.png`` (PReNet's test sets);
- all in one folder, told apart by their names: ``rain-1.png`` with ``norain-1.png`` (PReNet's training sets);
- a text file that lists pairs, a line each: ``/real_world/1/1-2.png /real_world_gt/1/1.png`` (SPA-Data), where not both
  folders hold images themselves; one that is given by its own path may also list rainy images alone,
  ``set/rain/1.png``, whose partner lies in the clean folder beside theirs (Syn2Real, TransWeather);
- images that hold both halves side by side (Rain800, Rain1200), only where a data set declares it.

Which files of a base belong together is told by their names, see ``matching``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoderain_jax.errors import InputError
from autoderain_jax.files import read_bytes
from data_pipelines.images import SUFFIXES, UNREAD, image_files, is_image_name, some_images
from data_pipelines.matching import CLEAN_NAME, match, natural, told_apart, twins
from data_pipelines.pair_files import PairFiles, Part, Problem, Side

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
        part = match(_some_below(rainy), _some_below(clean) if clean else inside)
        unread = [problem for folder in (rainy, clean) if folder for problem in _unread(folder)]
        return part._replace(problems=(*part.problems, *unread))
    if any(CLEAN_NAME.search(path.stem.casefold()) for path in inside):
        return told_apart(inside)
    raise InputError(
        f"{base} needs the folders rainy/ and clean/ (or train/ and test/ with these inside); input/ and target/, "
        "and other names that circulate, will do; published data sets are known by name, with --data-root"
    )


def holds_images(base: Path) -> bool:
    """Whether a folder looks as if it were meant to hold pairs: it has images, or a rainy or clean folder."""
    names = {path.name.casefold() for path in base.iterdir() if path.is_dir()}
    return bool(names & {*RAINY, *CLEAN}) or bool(image_files(base))


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


def _side_by_side(base: Path, rainy_side: Side) -> Part:
    files = sorted(some_images(base), key=lambda path: natural(path.name))
    return Part(tuple(PairFiles(p.stem, p.stem, p, p, rainy_side) for p in files), tuple(twins(files)))


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
            paths.append(_clean_beside(paths[0], listing.parent))
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
    for folder in _folders(clean, root)[1:]:
        if folder.name.casefold() in CLEAN:
            return _name(folder / clean.relative_to(folder).parts[0], root)
    return _name(clean, root)


def _folders(path: Path, root: Path) -> list[Path]:
    """Those below another that a file lies in, the nearest first."""
    return [root / folder for folder in path.relative_to(root).parents][:-1]


def _clean_beside(rainy: Path, root: Path) -> Path | None:
    """The image of the same name in the clean folder beside a rainy one, if there is one."""
    for folder in _folders(rainy, root):
        if folder.name.casefold() in RAINY:
            beside = [path for path in sorted(folder.parent.iterdir()) if path.name.casefold() in CLEAN]
            partners = [path / rainy.relative_to(folder) for path in beside]
            return next((path for path in partners if path.is_file()), None)
    return None
