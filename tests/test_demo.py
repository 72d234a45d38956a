"""The page, driven in a browser where there is one: ``pip install gradio playwright``, and Chromium."""

import contextlib
import importlib.util
import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer
from data_pipelines.photos import Photo
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments import demo
from tests.running import run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_without_gradio_one_sentence_tells_what_to_install(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = run(monkeypatch, capfd, demo)
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'autoderain-jax[demo]'" in err


@pytest.mark.parametrize(
    ("port", "sentence"), [(None, "cannot serve on --host 127.0.0.1, --port"), (99999, "--port must be in 1 to 65535")]
)
def test_a_port_that_cannot_be_had_is_told(port, sentence):
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = [sys.executable, "-m", "experiments.demo", "--port", str(port or taken.getsockname()[1])]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, f"error: {sentence}" in done.stderr) == (2, True)


def test_only_the_last_photographs_are_kept(monkeypatch):
    monkeypatch.setattr(demo, "KEPT", 2)
    results = demo.Results()
    files = [results.save(Photo(np.full((2, 3, 3), i, np.uint8)), "cat.png") for i in range(4)]
    assert [file.exists() for file in files] == [False, False, True, True]
    assert np.array(Image.open(files[3])).mean() == 3
    results.folder.cleanup()


@pytest.fixture
def address():
    """Of the page, served by the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "experiments.demo", "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}"):
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="there is no Gradio")
def test_a_photograph_is_dropped_and_downloaded_without_its_rain(tmp_path, address):
    playwright = pytest.importorskip("playwright.sync_api")
    rainy = add_rain(photograph("chelsea")[:150, :200], Rain(density=0.0016), np.random.default_rng(0))
    Image.fromarray(rainy).save(tmp_path / "cat.png")
    Image.fromarray(rainy).convert("CMYK").save(tmp_path / "print.jpg")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(address)
        tab.set_input_files("input[type=file]", tmp_path / "cat.png")
        tab.locator("#download:not([disabled])").wait_for(timeout=60_000)
        tab.get_by_test_id("slider").wait_for(timeout=60_000)
        with tab.expect_download() as download:
            tab.locator("#download").click()
        restored = Image.open(io.BytesIO(download.value.path().read_bytes()))
        assert download.value.suggested_filename == "cat.png"
        np.testing.assert_array_equal(np.array(restored), Derainer.from_pretrained()(rainy))
        tab.set_input_files("input[type=file]", tmp_path / "print.jpg")
        tab.get_by_text("the photograph is CMYK").first.wait_for(timeout=60_000)
        browser.close()
