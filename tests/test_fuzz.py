"""A short form of ``python -m tests.fuzz``, and what else keeps strangers' files harmless."""

import ast
import io
import json
from pathlib import Path

import jax
import pytest
from rich.console import Console

from autoderain_jax.errors import InputError
from experiments import video
from experiments.retrain import searched_with
from experiments.workdir import Workdir
from tests.damage import some_videos
from tests.fuzz import CHOICES, READERS, SEARCH, fuzz

EXAMPLES = 100
ROOT = Path(__file__).parent.parent
HOLD_CODE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch", "yaml"}
"""Modules that read files which may hold code, and run it."""


@pytest.mark.parametrize("name", READERS)
def test_readers_return_or_refuse(name):
    assert fuzz(name, EXAMPLES) >= EXAMPLES // 2


@pytest.fixture
def restore(tmp_path):
    """Has a video restored, by what leaves frames as they are."""
    pytest.importorskip("av")

    def restore(content):
        (tmp_path / "a.mkv").write_bytes(content)
        video.restore(tmp_path / "a.mkv", tmp_path / "b.mkv", lambda image: image, Console(file=io.StringIO()))

    return restore


def test_videos_whose_words_are_of_no_encoding_are_read(restore, tmp_path):
    whole = some_videos()[1]
    assert b"Lavf" in whole
    restore(whole.replace(b"Lavf", b"\xff\xff\xff\xff"))
    assert (tmp_path / "b.mkv").exists()


def test_videos_do_not_have_other_files_read(restore, tmp_path):
    (tmp_path / "other.mkv").write_bytes(some_videos()[1])
    with pytest.raises(InputError, match=r"cannot restore video .*a\.mkv"):
        restore(b"ffconcat version 1.0\nfile other.mkv\n")


def test_sound_before_the_first_frame_is_limited(restore, monkeypatch):
    monkeypatch.setattr(video, "MOST_SOUND", 1000)
    with pytest.raises(InputError, match=r"a\.mkv has more than 1,000 bytes of sound before its first frame"):
        restore(some_videos()[1])


def test_whatever_a_video_raises_is_told(restore, monkeypatch, tmp_path):
    errors = [
        ValueError("strange\nthing"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        MemoryError(),
        KeyError(3),
    ]

    def fail(*_):
        raise errors[0]

    monkeypatch.setattr(video, "_restore_into", fail)
    while errors:
        with pytest.raises(InputError, match=r"^cannot restore video .*a\.mkv: .+$"):
            restore(some_videos()[1])
        assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]
        del errors[0]
    for kind in (jax.errors.JaxRuntimeError, ValueError):
        errors.append(kind("RESOURCE_EXHAUSTED: Out of memory"))
        with pytest.raises(kind, match="RESOURCE_EXHAUSTED"):
            restore(some_videos()[1])
        del errors[0]


def test_nothing_is_read_that_may_hold_code():
    imported = set()
    for path in (
        path
        for package in ("autoderain_jax", "data_pipelines", "experiments")
        for path in ROOT.glob(f"{package}/**/*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("eval", "exec"), path
                assert not any(word.arg == "allow_pickle" for word in node.keywords), f"{path}: off is the default"
    assert {"json", "safetensors", "PIL"} <= imported
    assert not imported & HOLD_CODE


@pytest.mark.parametrize("origin", [{"data": ["a"]}, {"data_root": 1}, {"network": 1}, {"network": {"width": 10**9}}])
def test_origins_that_make_no_sense_are_refused(origin):
    with pytest.raises(InputError, match=r"genotype\.json.*"):
        searched_with(origin, "genotype.json")


def test_only_records_are_read_of_metrics(tmp_path):
    workdir = Workdir(tmp_path, SEARCH, "search")
    lines = [
        b'{"step": 1}',
        b"[1]",
        b'{"loss": 1.0}',
        b"\xff",
        b"[" * 10**5,
        b'{"step": "2"}',
        b'{"step": 3, "psnr": Infinity}',
    ]
    workdir.metrics_file.write_bytes(b"\n".join(lines))
    assert [record["step"] for record in workdir.records()] == [1, 3]


@pytest.mark.parametrize(
    "change", [lambda p: p.clear(), lambda p: p.update(conv_a=[1.0]), lambda p: p.update(se=[0, "x"])]
)
def test_prices_that_are_not_of_the_choices_are_refused(tmp_path, change):
    prices = {block: {name: [1.0] * len(row) for name, row in rows.items()} for block, rows in CHOICES.items()}
    workdir = Workdir(tmp_path, SEARCH, "search")
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    assert workdir.keep("prices.json", dict, CHOICES).keys() == CHOICES.keys()
    change(prices["bottleneck_block0"])
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    with pytest.raises(InputError, match=r"prices\.json is damaged"):
        workdir.keep("prices.json", dict, CHOICES)
