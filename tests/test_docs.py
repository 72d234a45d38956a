"""The API reference can be made of the docstrings."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pdoc")


def test_the_reference_has_every_module_and_its_mathematics(tmp_path):
    script = Path(__file__).parent.parent / "docs/api.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "autoderain_jax/proximal.html").read_text()
    assert r"\( \lambda_t \)" in page
    for name in ("mdarts", "search_space", "derainer", "network"):
        assert (tmp_path / f"autoderain_jax/{name}.html").exists()
    assert (tmp_path / "data_pipelines/stream.html").exists()
