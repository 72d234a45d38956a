"""What scores of images say together: means with intervals, paired comparisons, rows for tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import read_bytes
from autoderain_jax.metrics import PROTOCOLS
from data_pipelines.matching import plain_name

METRICS = ("psnr", "ssim")
NAMES = "surrogateescape"
"""How names of images that are no UTF-8, as names of files need not be, are written and read."""
MOST_BYTES = 2**25
"""Of a scores.csv, which has some two hundred for an image."""
LARGEST = 1e6
"""What no score exceeds, but infinity."""
CONFIDENCE = 0.95
RESAMPLES = 9999
"""Of the bootstrap, with a seed of its own: the same scores have the same interval."""
RESAMPLED = 2**22
"""Scores that are drawn at once, of which each takes sixteen bytes."""

LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
"""How LaTeX writes what would be a command in it."""

Scores = dict[str, float]
"""An image's scores: ``PROTOCOL_METRIC`` -> value."""
ByProtocol = dict[str, dict[str, Any]]


def means(rows: Sequence[Mapping[str, Any]]) -> ByProtocol:
    """The mean of every score over images, protocol -> metric -> value."""
    return _by_protocol(lambda name: float(np.mean([row[name] for row in rows])))


def intervals(rows: Sequence[Mapping[str, Any]]) -> ByProtocol:
    """95% intervals of the means by bootstrap over images; None with one image only or with perfect ones."""
    return _by_protocol(lambda name: _interval(np.array([row[name] for row in rows])))


def paired(rows: Sequence[Mapping[str, Any]], others: Mapping[str, Scores]) -> ByProtocol:
    """How the scores of images differ from those that another method has on the same images.

    Args:
      rows: scores, and the name ``image``.
      others: the other method's scores, of the same images, by image.

    Returns:
      For every score: ``difference``, mean of mine less theirs; its 95% ``interval``; ``better``, the share of images
      on which mine is higher; ``p``, the two-sided p-value of Wilcoxon's signed-rank test, None where all are equal.
      Both means are None where perfect images make them infinite.
    """

    def differ(name: str) -> dict[str, Any]:
        pairs = np.array([(row[name], others[row["image"]][name]) for row in rows])
        # A perfect image in both has no difference, not that of two infinities.
        with np.errstate(invalid="ignore"):
            difference = np.where(pairs[:, 0] == pairs[:, 1], 0.0, pairs[:, 0] - pairs[:, 1])
        # The test goes by ranks, and a perfect image in one of them has the highest.
        finite = np.isfinite(difference)
        highest = np.abs(difference[finite]).max(initial=0.0) + 1.0
        tested = np.where(finite, difference, np.copysign(highest, difference))
        return {
            "difference": float(difference.mean()) if finite.all() else None,
            "interval": _interval(difference),
            "better": float((difference > 0).mean()),
            "p": float(stats.wilcoxon(tested).pvalue) if tested.any() else None,
        }

    return _by_protocol(differ)


def read(path: Path, option: str = "--against") -> dict[str, Scores]:
    """Reads a ``scores.csv``, by image; raises ``InputError`` naming option and file if it is none."""
    content = read_bytes(path, option, MOST_BYTES)
    try:
        rows = csv.reader(io.StringIO(content.decode(errors=NAMES), newline=""))
        # Not by DictReader, which makes every short row as long as the first.
        head = next(rows, [])
        missing = [name for name in ("image", *_names()) if name not in head]
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
        places = {name: head.index(name) for name in _names()}
        found: dict[str, Scores] = {}
        for row in filter(None, rows):
            if len(row) != len(head):
                raise ValueError(f"line {rows.line_num} has {len(row)} fields of {len(head)}")
            image = row[head.index("image")]
            if image in found:
                raise ValueError(f"it has {shown(image)} twice")
            found[image] = {name: _number(row[place]) for name, place in places.items()}
        if not found:
            raise ValueError("it has no images")
        return found
    except (ValueError, csv.Error) as error:
        raise InputError(f"{option} {path} is no scores.csv of this release: {error}") from None


def read_against(path: Path, names: Sequence[str]) -> dict[str, Scores]:
    """Reads another method's ``scores.csv``, by the names that the images have here.

    Where those there differ, images are matched without what data sets and methods add to names.

    Raises:
      InputError: the file is no ``scores.csv``, or not of the same images.
    """
    others = read(path)
    if others.keys() == set(names):
        return others
    mine, theirs = ({plain_name(name): name for name in images} for images in (names, others))
    if mine.keys() == theirs.keys() and len(mine) == len(names) == len(others):
        return {name: others[theirs[plain]] for plain, name in mine.items()}
    missing = min(others.keys() ^ set(names))
    raise InputError(f"--against {path} does not score the same images: {missing} is in one of the two only")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"a score is {shown(text)}") from None
    # Infinity is the PSNR of a perfect image.
    if not (abs(value) <= LARGEST or value == math.inf):
        raise ValueError(f"a score is {value:g}")
    return value


def markdown(name: str, result: Mapping[str, Any]) -> str:
    """A table with the method's row, ready for a README."""
    head = ["method", "parameters", *(f"`{protocol}` PSNR / SSIM" for protocol in PROTOCOLS)]
    cells = _cells(name.replace("|", "\\|"), result)
    return f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n| {' | '.join(cells)} |\n"


def latex(name: str, result: Mapping[str, Any]) -> str:
    """The method's row of a LaTeX table, with what its columns are as a comment."""
    columns = " & ".join(["method", "parameters", *(f"{protocol} PSNR / SSIM" for protocol in PROTOCOLS)])
    return f"% {columns}\n{' & '.join(_cells(name.translate(LATEX), result))} \\\\\n"


def _cells(name: str, result: Mapping[str, Any]) -> list[str]:
    parameters = f"{result['parameters']:,}" if "parameters" in result else ""
    scores = (result["protocols"][protocol] for protocol in PROTOCOLS)
    return [name, parameters, *(f"{score['psnr']:.2f} / {score['ssim']:.4f}" for score in scores)]


def _names() -> list[str]:
    return [f"{protocol}_{metric}" for protocol in PROTOCOLS for metric in METRICS]


def _by_protocol(value) -> ByProtocol:
    return {protocol: {metric: value(f"{protocol}_{metric}") for metric in METRICS} for protocol in PROTOCOLS}


def _interval(values: np.ndarray) -> list[float] | None:
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    rng = np.random.default_rng(0)
    options = {"confidence_level": CONFIDENCE, "n_resamples": RESAMPLES, "method": "percentile", "rng": rng}
    options["batch"] = max(1, RESAMPLED // len(values))
    found = stats.bootstrap((values,), np.mean, **options).confidence_interval
    return [float(found.low), float(found.high)]
