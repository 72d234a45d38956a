"""Gives every reader of files damaged and malicious ones: it must return something, or refuse it in one sentence.

    python -m tests.fuzz --examples 10000

Files begin as valid ones, so that damage reaches every depth. Fails at any exception but ``InputError``, at an example
that takes too long, and when memory grows too much. Prints a line for each reader.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import io
import json
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from autoderain_jax.errors import InputError
from autoderain_jax.genotype import Genotype
from autoderain_jax.losses import parse_loss
from autoderain_jax.model import Model
from autoderain_jax.network import NetworkConfig, open_choices
from data_pipelines import find_data
from data_pipelines.images import image_size, read_rgb
from data_pipelines.layouts import find_listed, find_parts
from data_pipelines.matching import matched_files
from data_pipelines.photos import Photo
from experiments import scores, video
from experiments.config import SearchConfig, retrain_preset
from experiments.planted import PlantedConfig, kept_ranks
from experiments.retrain import searched_with
from experiments.workdir import Workdir
from tests.damage import WORDS, changed, damaged, encoded, image_files, some_videos
from tests.samples import random_genotype

SECONDS = 10.0
"""That an example may take."""
HANGING = 120.0
"""Seconds after which the command ends with a traceback of where it hangs."""
GROWTH = 1e9
"""Bytes by which peak memory may grow."""
LONGEST_SENTENCE = 5000
BATCH = 500
"""Examples after which hypothesis begins anew, as it keeps them."""
NETWORK = NetworkConfig(width=4, blocks=(1,), reduction=2)


def attempt(read: Callable[[], Any], named: str = "") -> Any:
    """What ``read`` returns, or None where it refuses in one sentence, which has ``named`` in it."""
    try:
        return read()
    except InputError as error:
        sentence = str(error)
    assert sentence, "nothing is said"
    assert "\n" not in sentence, f"not one line: {sentence!r}"
    assert len(sentence) < LONGEST_SENTENCE, f"too long: {sentence[:200]!r}"
    assert named in sentence, f"{named} is not named: {sentence!r}"
    return None


def read_image(folder: Path, content: bytes) -> None:
    """``read_rgb`` and ``image_size``."""
    path = folder / "a.png"
    path.write_bytes(content)
    attempt(lambda: image_size(path), str(path))
    image = attempt(lambda: read_rgb(path), str(path))
    assert image is None or (image.dtype, image.shape[2:]) == (np.uint8, (3,))


def read_photo(folder: Path, content: bytes) -> None:
    """``Photo.read``, and ``Photo.save`` of what was read."""
    path = folder / "a.png"
    path.write_bytes(content)
    photo = attempt(lambda: Photo.read(path), str(path))
    for suffix in ("png", "jpg", "webp", "tif") if photo else ():
        attempt(lambda suffix=suffix: photo.save(folder / f"saved.{suffix}"), str(folder))


def read_genotype(folder: Path, content: bytes) -> None:
    """``Genotype.load``, and what retraining takes from a genotype."""
    path = folder / "genotype.json"
    path.write_bytes(content)
    genotype = attempt(lambda: Genotype.load(path), str(path))
    if genotype:
        attempt(lambda: genotype.check_fits(NETWORK, str(path)), str(path))
        attempt(lambda: searched_with(genotype.origin, str(path)), str(path))
        retrain_preset(genotype.origin.get("preset"))


def model_files() -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Pairs of ``model.json`` and ``weights.safetensors``, of which at least one is whole."""
    with tempfile.TemporaryDirectory() as folder:
        genotype = random_genotype(NETWORK)
        network = Model(NETWORK, genotype, {}, 16).network()
        params = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))["params"]
        Model(NETWORK, genotype, params, 16, {"seed": 0}).save(folder)
        description, weights = ((Path(folder) / name).read_bytes() for name in ("model.json", "weights.safetensors"))
    length = int.from_bytes(weights[:8], "little")
    header, values = json.loads(weights[8 : 8 + length]), weights[8 + length :]
    described = changed(header).map(lambda text: len(text).to_bytes(8, "little") + text + values)
    # Every third has a value that is not a number.
    numbers = st.sampled_from((b"", b"", struct.pack("<f", float("nan"))))
    strange = st.builds(lambda file, end: file[: len(file) - len(end)] + end, damaged((weights,)) | described, numbers)
    return st.tuples(changed(json.loads(description)), st.just(weights)) | st.tuples(st.just(description), strange)


def read_model(folder: Path, contents: tuple[bytes, bytes]) -> None:
    """``Model.load``."""
    for name, content in zip(("model.json", "weights.safetensors"), contents, strict=True):
        (folder / name).write_bytes(content)
    model = attempt(lambda: Model.load(folder), str(folder))
    assert model is None or all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))


def list_files() -> st.SearchStrategy[bytes]:
    """Lists of pairs."""
    words = st.sampled_from(
        (*WORDS, "rainy/a.png", "clean/a.png", "/rainy/b.png", "rainy\\a.png", "#", "rainy", "é.png")
    )
    lines = st.lists(st.lists(words, max_size=4).map(" ".join), max_size=9).map("\n".join)
    written = lines.map(lambda text: text.encode(errors="surrogatepass"))
    return written | damaged((b"rainy/a.png clean/a.png\n/rainy/b.png clean/b.png\nrainy/c.png\n",))


def read_list(folder: Path, content: bytes) -> None:
    """``find_listed``, and the sizes of the images that it names."""
    for name in ("rainy/a.png", "clean/a.png", "rainy/b.png"):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (9, 8)).save(folder / name)
    path = folder / "list.txt"
    path.write_bytes(content)
    part = attempt(lambda: find_listed(path), str(path))
    if part:
        assert all(folder in file.parents for files in part.files for file in (files.rainy, files.clean))
        attempt(part.open)
    attempt(lambda: {name: part.open() for name, part in find_parts(folder).items()}, str(folder))


def folders() -> st.SearchStrategy[list[bytes]]:
    """Paths of files in a data folder, as bytes: systems allow any but two of them in a name."""
    stems = st.sampled_from((b"1", b"2", b"1_2", b"rain-1", b"norain-1", b"norain-1x2", b"1_GT", b"9" * 200, b"..."))
    stems |= st.binary(max_size=40).map(lambda name: name.translate(None, b"/\0"))
    names = st.builds(bytes.__add__, stems, st.sampled_from((b".png", b".PNG", b".jpg", b".txt", b".gif", b"")))
    homes = st.sampled_from(
        (b"rainy", b"clean", b"input", b"target", b"GT", b"train/rainy", b"train/clean", b"test", b".")
    )
    return st.lists(st.builds(lambda home, name: home + b"/" + name, homes, names), max_size=9)


def read_folder(folder: Path, names: list[bytes]) -> None:
    """``find_parts`` and ``matched_files``, and the pairs that they find."""
    root, whole = folder / "data", encoded(Image.new("RGB", (9, 8)), "PNG")
    root.mkdir()
    for name in names:
        path = root / os.fsdecode(name)
        # Where a file has the name of a folder.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole)
    try:
        for part in (attempt(lambda: find_parts(root)) or {}).values():
            attempt(lambda part=part: [pair.load() for pair in part.open()])
        attempt(lambda: matched_files(root / "rainy", root / "clean"))
    finally:
        shutil.rmtree(root)


def score_files() -> st.SearchStrategy[bytes]:
    """Files of scores."""
    names = ["image", *(f"{protocol}_{metric}" for protocol in scores.PROTOCOLS for metric in scores.METRICS)]
    cells = st.sampled_from(
        ("a", "b", "3", "0.5", "inf", "-inf", "nan", "1e308", "1_0", '"', '"a\nb"', "z" * 200_000, *WORDS)
    )
    rows = st.lists(st.lists(cells, max_size=9), max_size=6)
    heads = st.lists(st.sampled_from(names), max_size=9) | st.just(names)
    written = st.builds(lambda head, rows: "\n".join(map(",".join, [head, *rows])), heads, rows)
    whole = "\r\n".join([",".join(names), *(f"{image},{','.join(['31.5'] * (len(names) - 1))}" for image in "abc")])
    return written.map(lambda text: text.encode(errors="surrogatepass")) | damaged((whole.encode(),))


def read_scores(folder: Path, content: bytes) -> None:
    """``scores.read``."""
    path = folder / "scores.csv"
    path.write_bytes(content)
    found = attempt(lambda: scores.read(path), str(path))
    assert found is None or not np.isnan([list(row.values()) for row in found.values()]).any()


SEARCH = SearchConfig(network=NETWORK)


def workdir_files() -> st.SearchStrategy[dict[str, bytes]]:
    """What a run keeps in its folder, where one file of it is damaged."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        Workdir(Path(folder), SEARCH, "search")
        config = json.loads((Path(folder) / "config.json").read_text())
    prices = {block: {name: [0.5] * len(row) for name, row in rows.items()} for block, rows in CHOICES.items()}
    record = {"step": 3, "loss": 0.1, "choices": 3}
    lines = st.lists(changed(record), max_size=4).map(b"\n".join)
    return st.one_of(
        st.builds(lambda content: {"config.json": content}, changed(config)),
        st.builds(lambda content: {"prices.json": content}, changed(prices)),
        st.builds(lambda content: {"metrics.jsonl": content}, lines),
    )


CHOICES = open_choices(NETWORK)


def read_workdir(folder: Path, contents: dict[str, bytes]) -> None:
    """``Workdir``, its records, and what it keeps."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()):
        workdir = attempt(lambda: Workdir(folder, SEARCH, "search"), str(folder))
    if workdir:
        records = attempt(workdir.records, str(folder))
        assert all(record["step"] is not None for record in records or ())
        made = {block: {name: np.ones(len(row)) for name, row in rows.items()} for block, rows in CHOICES.items()}
        attempt(lambda: workdir.keep("prices.json", lambda: made, CHOICES), str(folder))
    for name in ("config.json", "prices.json", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)


RANKED = PlantedConfig(layers=2, algorithms=("mdarts",), rank=3)


def answer_files() -> st.SearchStrategy[bytes]:
    """Ranks of planted architectures."""
    with tempfile.TemporaryDirectory() as folder:
        kept_ranks(RANKED, Path(folder)).add({"mdarts": 0.5, "true": 0.0})
        return changed(json.loads((Path(folder) / "ranks.json").read_text()))


def read_answers(folder: Path, content: bytes) -> None:
    """``Answers``, and the summary of what it found."""
    path = folder / "ranks.json"
    path.write_bytes(content)
    answers = attempt(lambda: kept_ranks(RANKED, folder), str(path))
    assert answers is None or all(0 <= np.mean(list(shares.values())) <= 1 for shares in answers.done)


def read_video(folder: Path, content: bytes) -> None:
    """``video.restore``, by what leaves frames as they are."""
    path = folder / "a.mp4"
    path.write_bytes(content)
    console = Console(file=io.StringIO())
    attempt(lambda: video.restore(path, folder / "b.mp4", lambda image: image, console), "a.mp4")


def texts() -> st.SearchStrategy[str]:
    """What may be given as a loss, or as data."""
    words = (
        "l1",
        "charbonnier",
        "+",
        "*",
        "0.1",
        "1e999",
        "nan",
        "-",
        "synthetic",
        "/",
        ":",
        "heavy",
        "rain1200",
        ".txt",
    )
    return st.lists(st.sampled_from((*words, *WORDS)) | st.text(max_size=9), max_size=6).map("".join)


def read_text(folder: Path, text: str) -> None:
    """``parse_loss`` and ``find_data``."""
    attempt(lambda: parse_loss(text))
    attempt(lambda: find_data(text))
    attempt(lambda: find_data(text, folder))


class Reader(NamedTuple):
    """What is given to a reader, and what gives it: ``(empty folder, example)``."""

    examples: Callable[[], st.SearchStrategy]
    check: Callable[[Path, Any], None]


def _json(whole: Callable[[], Any]) -> Callable[[], st.SearchStrategy]:
    return lambda: changed(whole())


def _genotype() -> Any:
    found = json.loads(random_genotype(NETWORK).to_json())
    return found | {"origin": {"preset": "tiny", "data": "synthetic", "data_root": "/x", "network": {"blocks": [1]}}}


READERS = {
    "genotype": Reader(_json(_genotype), read_genotype),
    "model": Reader(model_files, read_model),
    "images": Reader(image_files, read_image),
    "photos": Reader(image_files, read_photo),
    "lists": Reader(list_files, read_list),
    "folders": Reader(folders, read_folder),
    "scores": Reader(score_files, read_scores),
    "workdir": Reader(workdir_files, read_workdir),
    "answers": Reader(answer_files, read_answers),
    "texts": Reader(texts, read_text),
}
"""Every reader by name."""
if importlib.util.find_spec("av"):
    READERS["videos"] = Reader(lambda: damaged(some_videos()), read_video)


def peak_memory() -> int:
    """The most bytes that this process has had resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzz(name: str, examples: int) -> int:
    """Gives a reader so many examples, always the same; returns how many, raises whatever is wrong."""
    reader, given = READERS[name], 0

    def check(folder: Path, most: int, example: Any) -> None:
        nonlocal given
        given += 1
        faulthandler.dump_traceback_later(HANGING, exit=True)
        began = time.perf_counter()
        reader.check(folder, example)
        seconds, peak = time.perf_counter() - began, peak_memory()
        assert seconds < SECONDS, f"{seconds:.1f} s"
        assert peak < most, f"{peak / 1e6:,.0f} MB"

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "files"
        folder.mkdir()
        hypothesis.configuration.set_hypothesis_home_dir(work)
        strategy, most = reader.examples(), peak_memory() + GROWTH
        for begin in range(0, examples, BATCH):
            settings = hypothesis.settings(
                max_examples=min(BATCH, examples - begin),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            one = hypothesis.given(strategy)(lambda example: check(folder, most, example))
            try:
                hypothesis.seed(begin)(settings(one))()
            finally:
                faulthandler.cancel_dump_traceback_later()
    return given


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000, help="for each reader (default: 10,000)")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), help="default: all")
    options = parser.parse_args()
    for name in options.readers:
        began = time.perf_counter()
        given = fuzz(name, options.examples)
        seconds = time.perf_counter() - began
        print(f"{name}: {given:,} examples, {seconds:,.0f} s, peak {peak_memory() / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
