"""The checks of a data set: what can be wrong with its pairs, and what to do about it. All ours."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import SSIM_WINDOW, score
from data_pipelines.images import UnsuitableImage
from data_pipelines.known import DataSet
from data_pipelines.likeness import Scene, likeness, same_scenes, thumbnail
from data_pipelines.pair_files import PairFiles, Part, UnequalSizes
from data_pipelines.pairs import fingerprint, pixel_digest

PROTOCOLS = ("y-matlab", "rgb")
"""What pairs are scored by."""
NEARLY_EQUAL = 50.0
"""PSNR in dB (y-matlab) above which rainy and clean are called the same image."""
UNLIKE = 0.6
"""Likeness of rainy to clean below which other partners are tried."""
PLAIN = 8.0
"""Standard deviation of a thumbnail below which its image is taken to have no detail; others have 32."""
BETTER = 0.1
"""By how much another clean image must be more like a rainy one than its own to be called its partner."""
STRANGERS = 0.1
"""Likeness of rainy to clean below which they are called no pair, though no better partner is found."""
BLOCK = 4096
"""Clean images compared with the doubtful ones at a time."""
DARKER = 0.9
"""Share of pairs whose rainy image is the darker one above which the two are called exchanged."""
FEWEST = 8
"""Pairs of a part below which nothing is said of which image is the darker one."""
OFF = 0.1
"""Difference in dB from the published score of the rainy input that is a finding."""
SSIM_OFF = 0.005
"""The same for SSIM."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      kind: missing, count, layout, unpaired, unreadable, unsuitable, unequal, identical, mismatched, exchanged,
        duplicate, leak or score.
      part: of the data set.
      images: names of the images or paths of the files concerned.
      problem: what is wrong, as one sentence.
      repair: what to do, as one sentence.
    """

    kind: str
    part: str
    images: tuple[str, ...]
    problem: str
    repair: str


class Look(NamedTuple):
    """What is remembered of one pair.

    Attributes:
      files: the pair.
      digest: of the pixels of both images.
      scene: of the clean image.
      rainy: thumbnail of the rainy image without its rain, None if it is like its clean one anyway.
      clean: the same of the clean image.
      scores: of the rainy image, by protocol; None where an image is too small for SSIM.
      darker: whether the rainy image is the darker one.
    """

    files: PairFiles
    digest: bytes
    scene: Scene
    rainy: np.ndarray | None
    clean: np.ndarray
    scores: dict[str, dict[str, float]] | None
    darker: bool


class PartReport(NamedTuple):
    """What was found out about one part, besides findings.

    Attributes:
      pairs: how many there are.
      version: which published version has so many, if one is known.
      read: how many of them could be read.
      fingerprint, clean_fingerprint: of the pixels of all pairs and of all clean images, as ``scores.json`` has them;
        None where not all could be read.
      input: mean scores of the rainy images by protocol, ``{"y-matlab": {"psnr": dB, "ssim": value}, ...}``.
    """

    pairs: int
    version: str | None
    read: int
    fingerprint: str | None
    clean_fingerprint: str | None
    input: dict[str, dict[str, float]]


def check(
    parts: Mapping[str, Part],
    others: Mapping[str, Part],
    data_set: DataSet | None = None,
    step: Callable[[str, int], None] = lambda task, total: None,
) -> tuple[dict[str, PartReport], list[Finding]]:
    """Checks a data set.

    Args:
      parts: of the data set, by name.
      others: parts of other data sets, whose backgrounds must not be in this one.
      data_set: the published data set that it is said to be.
      step: called after each image that was read, with what is being done and how many images it will be.

    Returns:
      The reports by part, and the findings.
    """
    findings = list(_missing(parts, data_set))
    reports: dict[str, PartReport] = {}
    scenes: list[tuple[str, PairFiles, Scene]] = []
    for name, part in parts.items():
        looks, bad = _look_at(name, part, lambda name=name, part=part: step(f"reading {name}", len(part.files)))
        reports[name] = _report(name, part, looks, data_set)
        findings += [
            *_count(name, part, data_set),
            *_unpaired(name, part),
            *bad,
            *_identical(name, looks),
            *_mismatched(name, looks),
            *_exchanged(name, looks),
            *_score(name, reports[name], data_set),
        ]
        scenes += [(name, look.files, look.scene) for look in looks]
    for name, part in others.items():
        scenes += _scenes_of(name, part, lambda name=name, part=part: step(f"reading {name}", len(part.files)))
    nested = {frozenset((name, place.inside)) for name, place in (data_set.parts if data_set else {}).items()}
    return reports, [*findings, *_duplicates(scenes, tuple(parts), nested)]


def _look_at(name: str, part: Part, step: Callable[[], None]) -> tuple[list[Look], list[Finding]]:
    """Reads every pair, several at a time."""

    def look(files: PairFiles) -> Look | Finding:
        try:
            return _look(files)
        except UnsuitableImage as error:
            return Finding("unsuitable", name, (files.name,), str(error), "convert both images of this pair alike")
        except UnequalSizes as error:
            return Finding("unequal", name, (files.name,), str(error), "fetch both images of this pair again")
        except InputError as error:
            return Finding("unreadable", name, (files.name,), str(error), "fetch this image again")

    looks = list(_each(look, part.files, step))
    return [x for x in looks if isinstance(x, Look)], [x for x in looks if isinstance(x, Finding)]


def _each(function: Callable, items: Sequence, step: Callable[[], None]) -> Iterator:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(function, items):
            step()
            yield result


def _look(files: PairFiles) -> Look:
    image = files.load()
    rainy, clean = image[..., :3], image[..., 3:]
    thumbnails = [thumbnail(half, without_rain=True) for half in (rainy, clean)]
    # Of an image without any detail, likeness says nothing.
    plain = thumbnails[1].std() < PLAIN
    alike = plain or likeness(thumbnails[0], thumbnails[1][None])[0] > UNLIKE
    return Look(
        files,
        pixel_digest(image),
        Scene(clean),
        None if alike else thumbnails[0],
        thumbnails[1],
        score(rainy, clean, PROTOCOLS) if min(clean.shape[:2]) >= SSIM_WINDOW else None,
        bool(rainy.mean() < clean.mean()),
    )


def _report(name: str, part: Part, looks: Sequence[Look], data_set: DataSet | None) -> PartReport:
    scored = [look.scores for look in looks if look.scores]
    means = {
        protocol: {metric: float(np.mean([s[protocol][metric] for s in scored])) for metric in ("psnr", "ssim")}
        for protocol in PROTOCOLS
        if scored
    }
    version = data_set.parts[name].counts.get(len(part.files)) if data_set else None
    prints = fingerprint(look.digest for look in looks), fingerprint(look.scene.digest for look in looks)
    whole = looks and len(looks) == len(part.files)
    return PartReport(len(part.files), version, len(looks), *(prints if whole else (None, None)), means)


def _missing(parts: Mapping[str, Part], data_set: DataSet | None) -> Iterator[Finding]:
    for name, place in (data_set.parts if data_set else {}).items():
        if name not in parts and not place.optional:
            folders = ", ".join(folder.partition("|")[0] for folder in place.folders if folder != ".")
            problem = f"part {name} of {data_set.title} is not there (looked for {folders})"
            yield Finding("missing", name, (), problem, "fetch it, or mind that it was not checked")


def _count(name: str, part: Part, data_set: DataSet | None) -> Iterator[Finding]:
    counts = data_set.parts[name].counts if data_set else {}
    if counts and len(part.files) not in counts:
        versions = "; ".join(f"{count:,} ({what})" for count, what in counts.items())
        problem = f"{name} has {len(part.files):,} pairs, and the versions that are known have {versions}"
        yield Finding(
            "count", name, (), problem, "compare with the list of files at the source, and fetch what is missing"
        )


def _unpaired(name: str, part: Part) -> Iterator[Finding]:
    for problem in part.problems:
        kind = "layout" if problem.path.is_dir() else "unpaired"
        yield Finding(kind, name, (str(problem.path),), problem.sentence, problem.repair)


def _identical(name: str, looks: Iterable[Look]) -> Iterator[Finding]:
    for look in looks:
        if look.scores and look.scores["y-matlab"]["psnr"] > NEARLY_EQUAL:
            problem = f"{look.files.rainy} and {look.files.clean} are nearly the same image"
            yield Finding(
                "identical", name, (look.files.name,), problem, "fetch the rainy image again, or remove the pair"
            )


def _mismatched(name: str, looks: Sequence[Look]) -> Iterator[Finding]:
    """Pairs of different scenes; the partner is looked for among all clean images of the part."""
    doubtful = [index for index, look in enumerate(looks) if look.rainy is not None]
    if not doubtful:
        return
    rainy = np.stack([looks[index].rainy for index in doubtful])
    own = [float(likeness(looks[index].rainy, looks[index].clean[None])[0]) for index in doubtful]
    highest, partner = np.full(len(doubtful), -1.0), np.array(doubtful)
    for first in range(0, len(looks), BLOCK):
        alike = likeness(rainy, np.stack([look.clean for look in looks[first : first + BLOCK]]))
        best = alike.argmax(axis=1)
        higher = alike.max(axis=1) > highest
        partner = np.where(higher, first + best, partner)
        highest = np.maximum(highest, alike.max(axis=1))
    for index, alike, best, other in zip(doubtful, own, highest, partner, strict=True):
        files = looks[index].files
        pair = f"{files.rainy} and {files.clean} are no pair"
        if best > alike + BETTER:
            found = looks[other].files
            repair = f"pair it with {found.clean.name}"
            yield Finding("mismatched", name, (files.name, found.name), f"{pair}: they show different scenes", repair)
        elif alike < STRANGERS:
            repair = "look at both, and fetch them again or remove them"
            yield Finding("mismatched", name, (files.name,), f"{pair}: they have nothing in common", repair)


def _exchanged(name: str, looks: Sequence[Look]) -> Iterator[Finding]:
    darker = sum(look.darker for look in looks)
    if len(looks) >= FEWEST and darker > DARKER * len(looks):
        problem = f"in {darker} of {len(looks)} pairs of {name}, the rainy image is darker than the clean one"
        yield Finding("exchanged", name, (), problem, "rain brightens: see whether the two are exchanged")


def _score(name: str, report: PartReport, data_set: DataSet | None) -> Iterator[Finding]:
    published = data_set.parts[name].input if data_set else None
    if published and report.input and report.pairs == published.pairs:
        measured = report.input["y-matlab"]
        if abs(measured["psnr"] - published.psnr) > OFF or abs(measured["ssim"] - published.ssim) > SSIM_OFF:
            problem = (
                f"the rainy images of {name} score {measured['psnr']:.2f} dB / {measured['ssim']:.4f} (y-matlab), "
                f"published is {published.psnr:.2f} dB / {published.ssim:.4f} ({published.source})"
            )
            yield Finding("score", name, (), problem, "this is another version or was converted: do not compare scores")


def _scenes_of(label: str, part: Part, step: Callable[[], None]) -> list[tuple[str, PairFiles, Scene]]:
    """The scenes of a part's clean images, each read once; what cannot be read is passed over."""

    def look(files: PairFiles) -> Scene | None:
        try:
            return Scene(files.load()[..., 3:])
        except InputError:
            return None

    unique = list({files.clean: files for files in part.files}.values())
    scenes = zip(unique, _each(look, unique, step), strict=True)
    return [(label, files, scene) for files, scene in scenes if scene is not None]


def _duplicates(
    scenes: Sequence[tuple[str, PairFiles, Scene]], own: tuple[str, ...], nested: set[frozenset]
) -> Iterator[Finding]:
    """Backgrounds that occur twice in a part, or in parts of which none is inside the other; one finding for each."""
    # Many rainy images over one clean file are no duplicates.
    unique = list({(label, files.clean): (label, files, scene) for label, files, scene in scenes}.values())
    for group in same_scenes([scene for _, _, scene in unique]):
        places: dict[str, list[PairFiles]] = defaultdict(list)
        for index in group:
            places[unique[index][0]].append(unique[index][1])
        names = {label: [files.background for files in found] for label, found in places.items()}
        shown = "; ".join(f"{label}: {', '.join(found)}" for label, found in names.items())
        if set(places) in nested:
            continue
        if len(places) > 1 and any(label in own for label in places):
            images = tuple(f"{label}/{name}" for label, found in names.items() for name in found)
            remove = next((label for label in ("train", *own) if label in places), own[0])
            yield Finding(
                "leak", remove, images, f"one background is in several parts: {shown}", f"remove it from {remove}"
            )
            continue
        for label, found in names.items():
            if label in own and len(set(found)) > 1:
                problem = f"one background is in {label} {len(found)} times: {', '.join(found)}"
                training = "hold-out goes by names and may part them: keep one"
                repair = training if label == "train" else f"a mean over {label} weighs them so many times: say so"
                yield Finding("duplicate", label, tuple(found), problem, repair)
