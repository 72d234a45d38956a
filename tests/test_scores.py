"""Means, intervals and paired differences, against numbers worked out by hand."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import PROTOCOLS
from experiments import scores

NAMES = [f"{protocol}_{metric}" for protocol in PROTOCOLS for metric in ("psnr", "ssim")]


HEAD = f"image,{','.join(NAMES)}"
ROW = f"a{',30.5' * len(NAMES)}"


def rows(values):
    return [{"image": f"i{i}", **dict.fromkeys(NAMES, value)} for i, value in enumerate(values)]


def test_interval_holds_the_mean_and_has_the_width_of_the_standard_error():
    values = np.random.default_rng(1).normal(30.0, 2.0, 400)
    mean = scores.means(rows(values))["rgb"]["psnr"]
    low, high = scores.intervals(rows(values))["rgb"]["psnr"]
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == pytest.approx((1.96 * 2.0 / 20, 1.96 * 2.0 / 20), rel=0.15)
    assert scores.intervals(rows(values)) == scores.intervals(rows(values))


def test_an_interval_of_many_images_takes_no_more_memory(monkeypatch):
    values = np.random.default_rng(1).normal(30.0, 2.0, 400)
    before, drawn = scores.intervals(rows(values)), []

    def mean(sample, axis):
        drawn.append(sample.size)
        return np.average(sample, axis)

    monkeypatch.setattr(scores, "RESAMPLED", 4_000)
    monkeypatch.setattr(scores.np, "mean", mean)
    assert scores.intervals(rows(values))["rgb"] == before["rgb"]
    assert max(drawn) <= 4_000


@pytest.mark.parametrize("values", [[30.0], [30.0, np.inf]])
def test_no_interval_where_there_is_none(values):
    assert scores.intervals(rows(values))["rgb"]["psnr"] is None


def test_paired_differences():
    mine, theirs = rows([31.0, 32.0, 33.0, 30.5]), rows([30.0, 30.0, 30.0, 31.0])
    others = {row["image"]: row for row in reversed(theirs)}
    found = scores.paired(mine, others)["y-matlab"]["psnr"]
    assert found["difference"] == pytest.approx((1 + 2 + 3 - 0.5) / 4)
    assert found["better"] == 0.75
    # Ranks 2, 3 and 4 of 4 are positive: of the 16 signs, 2 give a rank sum as small as 1, and as many one as large.
    assert found["p"] == pytest.approx(4 / 16)
    equal = scores.paired(mine, {row["image"]: row for row in mine})["rgb"]["psnr"]
    assert (equal["difference"], equal["p"]) == (0.0, None)
    perfect = rows([np.inf])
    assert scores.paired(perfect, {"i0": perfect[0]})["rgb"]["psnr"]["difference"] == 0.0


def test_perfect_images_win_and_leave_no_mean():
    mine, theirs = rows([np.inf, 31.0, 32.0, 33.0]), rows([30.0, 30.0, 30.0, np.inf])
    found = scores.paired(mine, {row["image"]: row for row in theirs})["rgb"]["psnr"]
    assert (found["difference"], found["interval"], found["better"]) == (None, None, 0.75)
    # Ranks 1 and 2, and 3.5 twice, of which one is negative.
    assert found["p"] == pytest.approx(stats.wilcoxon([3, 1, 2, -3]).pvalue)


def test_scores_that_are_not_numbers_are_refused(tmp_path):
    (tmp_path / "scores.csv").write_text(f"image,{','.join(NAMES)}\na{',nan' * len(NAMES)}\n")
    with pytest.raises(InputError, match="a score is nan"):
        scores.read(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it has no 'image'"),
        (HEAD, "it has no images"),
        (f"{HEAD}\na{',-inf' * len(NAMES)}\n", "a score is -inf"),
        ("image\na\n", "it has no 'y-matlab_psnr'"),
        (f"{HEAD}\na,1\n", "line 2 has 2 fields of 7"),
        (f"{HEAD}\n{ROW}\n{ROW}\n", "it has 'a' twice"),
        (f"{HEAD}\na{',1e308' * len(NAMES)}\n", r"a score is 1e\+308"),
        (f"{HEAD}\na,{'z' * 99_999}{',1' * (len(NAMES) - 1)}\n", "a score is 'zzz"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, text, sentence):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        scores.read(tmp_path / "scores.csv")
    assert len(str(caught.value)) < 500


def test_short_rows_do_not_become_long(tmp_path):
    (tmp_path / "scores.csv").write_text(",".join([HEAD, *map(str, range(5000))]) + "\na" * 5000)
    tracemalloc.start()
    with pytest.raises(InputError, match="line 2 has 1 fields"):
        scores.read(tmp_path / "scores.csv")
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()


def test_rows_for_tables():
    result = {"protocols": scores.means(rows([30.5])), "parameters": 21000}
    assert "| mine_1 | 21,000 | 30.50 / 30.5000 |" in scores.markdown("mine_1", result)
    assert "mine\\_1 & 21,000 & 30.50 / 30.5000 &" in scores.latex("mine_1", result)


def test_names_cannot_break_tables():
    result = {"protocols": scores.means(rows([30.5]))}
    assert "| a\\|b |  |" in scores.markdown("a|b", result)
    assert r"\textbackslash{}\_\textasciitilde{}\textasciicircum{}\{ &" in scores.latex("\\_~^{", result)


def test_the_option_is_named(tmp_path):
    for content in (None, "image\n"):
        if content:
            (tmp_path / "s.csv").write_text(content)
        with pytest.raises(InputError, match=r"--scores .*s\.csv"):
            scores.read(tmp_path / "s.csv", "--scores")


def write_scores(path, **psnr):
    lines = [f"{name},{','.join([str(value)] * len(NAMES))}" for name, value in psnr.items()]
    path.write_text("\n".join([HEAD, *lines]))


def test_images_are_matched_without_what_is_added_to_their_names(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, **{"norain-1": 31.0, "norain-10_out": 32.0, "2_GT": 33.0})
    found = scores.read_against(path, ["rain-1", "rain-2", "10"])
    assert {name: values["rgb_psnr"] for name, values in found.items()} == {"rain-1": 31.0, "10": 32.0, "rain-2": 33.0}


@pytest.mark.parametrize(
    ("theirs", "names"),
    [
        (("rain-1", "norain-1"), ["1", "2"]),
        (("1",), ["rain-1", "norain-1"]),
        (("rain-1", "norain-1"), ["1"]),
        (("1", "2"), ["rain-1", "rain-3"]),
    ],
)
def test_images_are_matched_one_to_one(tmp_path, theirs, names):
    write_scores(tmp_path / "scores.csv", **dict.fromkeys(theirs, 30.0))
    with pytest.raises(InputError, match=r"does not score the same images: .* is in one of the two only"):
        scores.read_against(tmp_path / "scores.csv", names)
