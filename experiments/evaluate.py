"""Score a model or any method's outputs, or compare scores: ``python -m experiments.evaluate``."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.progress import track
from rich.table import Table

from autoderain_jax.cost import network_macs
from autoderain_jax.derainer import Derainer, Dtype, Ensemble
from autoderain_jax.errors import InputError
from autoderain_jax.files import replace_files, writing
from autoderain_jax.metrics import PROTOCOLS, SSIM_WINDOW, score
from autoderain_jax.model import Model
from autoderain_jax.scales import AS_IT_IS, Scales
from data_pipelines import BUILTIN, choose_part, find_data
from data_pipelines.images import image_files, read_rgb
from data_pipelines.layouts import ALL
from data_pipelines.matching import matched_files
from data_pipelines.pairs import Pairs, fingerprint, pixel_digest
from experiments import command, scores
from experiments.figures import contact_sheet

SHEET_WIDTH = 1200
"""Of the sheet, in pixels."""
SHEET = "sheet.png"
FILES = ("scores.csv", "scores.json", "scores.md", "scores.tex")
"""What every evaluation writes."""


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Score a model on a data set's test part, or a folder of outputs against a folder of targets.

    Or sum up scores that were written before, best with --against those of another method.

    Writes scores.csv (a row an image), scores.json (means by protocol with their 95% intervals), the row of a table as
    scores.md and scores.tex, and the best and worst images, where there are images, as sheet.png; prints the means.
    """

    workdir: Path
    """Folder for what is written."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it, or one of those that come with the package: photo, fast or best."""
    pool_window: int | None = None
    """Pixels of the window that squeeze-and-excitation pools over. Default: the model's, which is the side of the
    patches that it was trained on."""
    ensemble: Ensemble = 1
    """How many orientations of each image to restore, and take the mean of: 4 (as it is, mirrored, upside down and
    both), or 8, these also turned by a quarter."""
    dtype: Dtype | None = None
    """Precision of the computation. Default: the model's own."""
    scales: Scales = AS_IT_IS
    """By how much each image is made smaller for each restoring of it, or auto, as for experiments.derain."""
    data: str = BUILTIN
    """Folder with rainy/ and clean/ (its test/ part where it has one), a data set by name, or synthetic, as for
    training."""
    data_root: Path | None = None
    """Where a data set given by name was unpacked."""
    split: str = "test"
    """Part of the data set to score: test, train, or another that it has."""
    held_out: float = 0.0
    """Score only the share of the part that training with the same --held-out never saw; 0 scores all of it."""
    predictions: Path | None = None
    """Folder of restored images, instead of a model."""
    targets: Path | None = None
    """Folder of clean images with the same names as the predictions, or such that differ by a common suffix."""
    scores: Path | None = None
    """scores.csv of an earlier evaluation, instead of a model or predictions: no image is read."""
    against: Path | None = None
    """scores.csv of another method on the same images: the differences, image by image, are summed up."""
    name: str | None = None
    """What the tables call it. Default: the name of the folder that is scored, or of that above a folder model or a
    scores.csv."""
    sheet: int = 3
    """So many images of the best and of the worst, by y-matlab PSNR, are shown on sheet.png; 0: none."""


BELONGS = {
    **dict.fromkeys(
        ("data", "data_root", "split", "held_out", "pool_window", "ensemble", "dtype", "scales"), ("model",)
    ),
    "targets": ("predictions",),
    "sheet": ("model", "predictions"),
}
"""Options that go only with some of what may be scored."""


class Case(NamedTuple):
    """One image to score; all uint8 RGB.

    ``rainy`` and ``seconds``, which restoring it took without compiling, are None where they are not known.
    """

    name: str
    restored: np.ndarray
    clean: np.ndarray
    rainy: np.ndarray | None
    seconds: float | None = None


def evaluate(config: EvaluateConfig) -> dict:
    """Scores and writes the files; returns the content of ``scores.json``.

    Raises:
      InputError: not one of a model, predictions with targets and scores, or something is wrong with them.
    """
    if config.sheet < 0:
        raise InputError(f"--sheet must not be negative, not {config.sheet}")
    _check_options(config)
    if config.scores is None:
        source, names, cases = _cases(config)
    else:
        known = scores.read(config.scores, "--scores")
        source, names, cases = {"scores": str(config.scores)}, list(known), []
    others = None if config.against is None else scores.read_against(config.against, names)
    _prepare_workdir(config)
    console = command.console()
    if config.scores is None:
        rows, measured = _measure(console, cases)
    else:
        rows, measured = [{"image": name, **values} for name, values in known.items()], {}
    result = {"images": len(rows), "protocols": scores.means(rows), "interval": scores.intervals(rows), **source}
    result |= measured
    if others is not None:
        result["against"] = {"file": str(config.against), "protocols": scores.paired(rows, others)}
    with writing(config.workdir / SHEET):
        # It must not stand beside scores of other images.
        (config.workdir / SHEET).unlink(missing_ok=True)
    _write(config, rows, result)
    if cases and config.sheet:
        _draw_sheet(config, rows, cases)
    _show(console, config, result)
    return result


def _check_options(config: EvaluateConfig) -> None:
    given = [option for option in ("model", "predictions", "scores") if getattr(config, option) is not None]
    if len(given) != 1:
        raise InputError("give either --model, or --predictions with --targets, or --scores")
    for option, sources in BELONGS.items():
        if getattr(config, option) != getattr(EvaluateConfig, option) and given[0] not in sources:
            belongs = " or ".join(f"--{source}" for source in sources)
            raise InputError(f"--{option.replace('_', '-')} belongs to {belongs}, not to --{given[0]}")
    if config.predictions is not None and config.targets is None:
        raise InputError("--predictions and --targets belong together: give both")


def _prepare_workdir(config: EvaluateConfig) -> None:
    """Refuses, before anything is scored, to write over a file that was read, among images, or where it cannot."""
    drawn = config.sheet and config.scores is None and config.workdir.is_dir()
    if drawn and {file.name for file in image_files(config.workdir)} - {SHEET}:
        raise InputError(
            f"--workdir {config.workdir} holds images, to which {SHEET} would be added: give another folder"
        )
    for option in ("scores", "against"):
        read = getattr(config, option)
        written = [config.workdir / name for name in FILES]
        if read is not None and any(os.path.exists(path) and os.path.samefile(path, read) for path in written):
            raise InputError(f"--workdir {config.workdir} would overwrite --{option} {read}: give another folder")
    with writing(config.workdir):
        config.workdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=config.workdir).close()


def _measure(console, cases) -> tuple[list[dict], dict]:
    """The scores of every image, and what else the images tell, for ``scores.json``."""
    rows, inputs, digests, clean_digests, seconds = [], [], [], [], []
    progress = track(cases, "scoring", total=len(cases), console=console, disable=not console.is_terminal)
    for done, load in enumerate(progress, 1):
        case = load()
        rows.append({"image": case.name, **_flat(_score(case.restored, case.clean, case.name))})
        clean_digests.append(pixel_digest(case.clean))
        seconds += [case.seconds] if case.seconds is not None else []
        if case.rainy is not None:
            inputs.append(_flat(score(case.rainy, case.clean)))
            digests.append(pixel_digest(np.concatenate([case.rainy, case.clean], -1)))
        if not console.is_terminal and (done % 10 == 0 or done == len(cases)):
            console.print(f"scored {done}/{len(cases)}")
    measured = {}
    if seconds:
        measured |= {"seconds": float(np.median(seconds)), "device": jax.devices()[0].device_kind}
    measured["clean_fingerprint"] = fingerprint(clean_digests)
    if inputs:
        measured |= {"input": scores.means(inputs), "fingerprint": fingerprint(digests)}
    packages = ("autoderain-jax", "jax", "scikit-image")
    return rows, measured | {"versions": {name: importlib.metadata.version(name) for name in packages}}


def _cases(config: EvaluateConfig):
    """What is scored, for ``scores.json``; the names of the images; and functions that each produce a ``Case``."""
    if config.predictions is not None:
        files = matched_files(config.predictions, config.targets)
        source = {"predictions": str(config.predictions), "targets": str(config.targets)}
        return source, [name for name, *_ in files], [_file_case(*names) for names in files]
    if not 0 <= config.held_out < 1:
        raise InputError(f"--held-out must be in [0, 1), not {config.held_out}")
    parts = find_data(config.data, config.data_root)
    part = choose_part(parts, config.split, config.data)
    if part == ALL and not config.held_out:
        command.say(f"note: {config.data} has no {config.split}/ part, so all its pairs are scored, trained on or not")
    pairs = parts[part].open()
    if config.held_out:
        pairs = pairs.hold_out(config.held_out)[1]
    # Each is read once.
    pairs = Pairs(pairs, cache_bytes=0)
    if config.pool_window is not None and config.pool_window < 1:
        raise InputError(f"--pool-window must be positive, not {config.pool_window}")
    model = Model.load(config.model)
    model = dataclasses.replace(model, pool_window=config.pool_window or model.pool_window)
    derainer = Derainer(model, ensemble=config.ensemble, dtype=config.dtype, scales=config.scales)
    source = {"model": str(config.model), "data": config.data, "split": part, "held_out": config.held_out}
    source |= {
        "pool_window": model.pool_window,
        "ensemble": config.ensemble,
        "dtype": config.dtype or model.config.dtype,
        "scales": config.scales,
        "model_id": model.id,
        "parameters": model.parameters,
        "macs_per_pixel": network_macs(model.config, model.genotype.choices),
    }
    derainer.expect(pair.size for pair in pairs)
    indices = range(len(pairs))
    return source, [pairs[i].name for i in indices], [_model_case(derainer, pairs, i) for i in indices]


def _file_case(name: str, restored: Path, clean: Path):
    return lambda: Case(name, read_rgb(restored), read_rgb(clean), None)


def _model_case(derainer: Derainer, pairs, index: int):
    def load() -> Case:
        rainy, clean = pairs.rainy_clean(index)
        restored, seconds = _timed(derainer, rainy)
        return Case(pairs[index].name, restored, clean, rainy, seconds)

    return load


def _timed(derainer: Derainer, rainy: np.ndarray) -> tuple[np.ndarray, float]:
    """The restored image, and the seconds that it took without compiling."""
    while True:
        before, began = len(derainer.programs), time.perf_counter()
        restored = derainer(rainy)
        seconds = time.perf_counter() - began
        if len(derainer.programs) == before:
            return restored, seconds


def _score(restored: np.ndarray, clean: np.ndarray, name: str) -> dict[str, dict[str, float]]:
    if restored.shape != clean.shape:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (restored, clean)]
        raise InputError(f"image {name}: the restored image is {sizes[0]}, the clean one {sizes[1]}")
    if min(clean.shape[:2]) < SSIM_WINDOW:
        raise InputError(f"image {name} is smaller than the {SSIM_WINDOW}x{SSIM_WINDOW} window of SSIM")
    return score(restored, clean)


def _flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{protocol}_{metric}": value for protocol, pair in scores.items() for metric, value in pair.items()}


def _write(config: EvaluateConfig, rows: list[dict], result: dict) -> None:
    folder = config.workdir
    scored = (config.scores or config.predictions or config.model).resolve()
    name = config.name or (scored.parent if scored.name in ("model", "scores.csv") else scored).name
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    texts = {
        "scores.csv": table.getvalue(),
        "scores.json": json.dumps(command.finite(result), indent=2, allow_nan=False) + "\n",
        "scores.md": scores.markdown(name, result),
        "scores.tex": scores.latex(name, result),
    }
    replace_files({folder / file: text.encode(errors=scores.NAMES) for file, text in texts.items()})


def _draw_sheet(config: EvaluateConfig, rows: list[dict], cases) -> None:
    """The best images, then the worst, each as input (where known), output, target."""
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["y-matlab_psnr"])
    shown = list(dict.fromkeys(order[: config.sheet] + order[max(len(order) - config.sheet, 0) :]))
    strips = []
    for i in shown:
        case = cases[i]()
        images = [image for image in (case.rainy, case.restored, case.clean) if image is not None]
        strips.append((f"{case.name}: {rows[i]['y-matlab_psnr']:.2f} dB (y-matlab)", images))
    path = config.workdir / SHEET
    with writing(path):
        contact_sheet(strips, SHEET_WIDTH).save(path)


FORMS = {"psnr": ".2f", "ssim": ".4f"}
"""How scores are printed."""


def _table_rows(result: dict) -> Iterator[tuple[str, ...]]:
    for name, means in (("rainy input", result.get("input")), ("restored", result["protocols"])):
        if means:
            yield (
                name,
                *(f"{means[protocol][metric]:{form}}" for protocol in PROTOCOLS for metric, form in FORMS.items()),
            )


def _show(console, config: EvaluateConfig, result: dict) -> None:
    table = Table("", *(f"{protocol} {metric}" for protocol in PROTOCOLS for metric in ("PSNR", "SSIM")))
    for row in _table_rows(result):
        table.add_row(*row)
    console.print(f"{result['images']} images; {', '.join(FILES[:-1])} and {FILES[-1]} are in {config.workdir}")
    if "seconds" in result:
        console.print(
            f"{result['parameters']:,} parameters, {result['macs_per_pixel']:,.0f} MACs a pixel, "
            f"{result['seconds']:.3g} s an image (median) on {result['device']}"
        )
    console.print(table)
    for protocol, metrics in result.get("against", {}).get("protocols", {}).items():
        found = metrics["psnr"]
        interval = "" if found["interval"] is None else " ({:+.3f} to {:+.3f})".format(*found["interval"])
        mean = "infinite" if found["difference"] is None else f"{found['difference']:+.3f} dB"
        console.print(
            f"against {result['against']['file']}, {protocol}: {mean}{interval}, higher on "
            f"{found['better']:.0%} of the images"
        )


def main() -> None:
    """The command."""
    evaluate(command.parse(EvaluateConfig, sys.argv[1:], prog="python -m experiments.evaluate"))


if __name__ == "__main__":
    command.run(main)
