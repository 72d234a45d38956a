"""Which files belong together, by their names: rainy and clean images of a data set, a method's outputs and targets.

File names of a pair are equal, or differ by a decoration (``norain-1x2.png`` with ``norain-1.png``, ``001_in.png`` with
``001_GT.png``), or many rainy images number the variants of one clean image (``901_14.jpg`` with ``901.jpg``). One of
these rules holds for a whole folder, so that a renamed file is found out instead of being paired by another rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from autoderain_jax.errors import InputError
from data_pipelines.images import some_images
from data_pipelines.pair_files import PairFiles, Part, Problem

CLEAN_NAME = re.compile(r"^norain[-_]|([-_]|(?<=\d))(gt|clean|norain)$")
STREAKS_NAME = re.compile(r"^rain(streak|region)")
"""Streaks alone, or where they are: they come with RainTrainL and belong to no pair."""


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


def matched_files(outputs: Path, clean: Path) -> list[tuple[str, Path, Path]]:
    """A method's outputs and clean images matched by name, as (stem of the output, output, clean).

    Raises:
      InputError: a folder holds no image, one of the images has no partner, or two are outputs for the same image.
    """
    part = match(some_images(outputs), some_images(clean), OUTPUT_RULES)
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


def told_apart(inside: Sequence[Path]) -> Part:
    """Pairs the images of one folder that holds rainy and clean ones."""
    kinds = {path: CLEAN_NAME.search(path.stem.casefold()) is not None for path in inside}
    rainy = [path for path, clean in kinds.items() if not clean and not STREAKS_NAME.search(path.stem.casefold())]
    return match(rainy, [path for path, clean in kinds.items() if clean])


def match(rainy: Sequence[Path], clean: Sequence[Path], rules: Rules = RULES) -> Part:
    """Pairs files by the first rule that fits at least half of them; else by the one that leaves the fewest alone."""
    parts = [_match_by(*rule, rainy, clean) for rule in rules]
    fitting = (part for part in parts if 2 * len(part.files) >= len(rainy))
    return next(fitting, min(parts, key=lambda part: len(part.problems)))


def _match_by(rainy_key, clean_key, rainy: Sequence[Path], clean: Sequence[Path]) -> Part:
    problems = list(twins(rainy))
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


def twins(paths: Iterable[Path]) -> Iterable[Problem]:
    """Images of one name but for the suffix."""
    count = Counter(path.stem for path in paths)
    for path in paths:
        if count[path.stem] > 1:
            sentence = f"{path} has the same name, but for the suffix, as another image beside it"
            yield Problem(path, sentence, "remove one of the two")
