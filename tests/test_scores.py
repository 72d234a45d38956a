"""Means, intervals and paired differences, against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from autoderain_jax.errors import InputError
from autoderain_jax.metrics import PROTOCOLS
from experiments import scores

NAMES = [f"{protocol}_{metric}" for protocol in PROTOCOLS for metric in ("psnr", "ssim")]


def rows(values):
    return [{"image": f"i{i}", **dict.fromkeys(NAMES, value)} for i, value in enumerate(values)]


def test_interval_holds_the_mean_and_has_the_width_of_the_standard_error():
    values = np.random.default_rng(1).normal(30.0, 2.0, 400)
    mean = scores.means(rows(values))["rgb"]["psnr"]
    low, high = scores.intervals(rows(values))["rgb"]["psnr"]
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == pytest.approx((1.96 * 2.0 / 20, 1.96 * 2.0 / 20), rel=0.15)
    assert scores.intervals(rows(values)) == scores.intervals(rows(values))


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


def test_rows_for_tables():
    result = {"protocols": scores.means(rows([30.5])), "parameters": 21000}
    assert "| mine_1 | 21,000 | 30.50 / 30.5000 |" in scores.markdown("mine_1", result)
    assert "mine\\_1 & 21,000 & 30.50 / 30.5000 &" in scores.latex("mine_1", result)
