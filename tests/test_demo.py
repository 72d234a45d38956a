"""The page, driven in a browser where there is one: ``pip install gradio playwright``, and Chromium."""

import io
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from autoderain_jax import Derainer
from data_pipelines.synthetic import Rain, add_rain, photograph
from experiments import demo
from tests.running import run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_without_gradio_one_sentence_tells_what_to_install(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = run(monkeypatch, capfd, demo)
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'autoderain-jax[demo]'" in err


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.filterwarnings("ignore")
def test_a_photograph_is_dropped_and_downloaded_without_its_rain(tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    rainy = add_rain(photograph("chelsea")[:150, :200], Rain(density=0.0016), np.random.default_rng(0))
    Image.fromarray(rainy).save(tmp_path / "cat.png")
    Image.fromarray(rainy).convert("CMYK").save(tmp_path / "print.jpg")
    derainer = Derainer.from_pretrained()
    page = demo.page(derainer)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
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
            np.testing.assert_array_equal(np.array(restored), derainer(rainy))
            tab.set_input_files("input[type=file]", tmp_path / "print.jpg")
            tab.get_by_text("the photograph is CMYK").first.wait_for(timeout=60_000)
            browser.close()
    finally:
        page.close()
