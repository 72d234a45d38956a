"""A page that removes rain from photographs: ``python -m experiments.demo``; needs Gradio, the extra ``demo``."""

from __future__ import annotations

import collections
import dataclasses
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from autoderain_jax.derainer import Derainer, Dtype, Ensemble
from autoderain_jax.errors import InputError
from autoderain_jax.scales import Scales
from data_pipelines.photos import Photo
from experiments import command

TITLE = "Remove rain"
ABOUT = """# Remove rain
Drop a photograph; then move the slider over it. It is restored where this page is served, and nowhere else."""
KEPT = 100
"""So many of the last restored photographs can be downloaded."""


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Serve a page with a before-and-after slider, to this machine alone unless --host says otherwise."""

    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it, or one of those that come with the package: photo, which is the default,
    fast or best."""
    ensemble: Ensemble = 1
    """How many orientations to restore, and take the mean of: 4 (as it is, mirrored, upside down and both) is a little
    better, four times as slow; 8 turns it, too, which is for networks that were trained on rain from all sides."""
    dtype: Dtype | None = None
    """Precision of the computation: bfloat16 is faster on a GPU. Default: the model's own."""
    scales: Scales = "auto"
    """By how much a photograph is made smaller for each restoring of it, such as 8 4 2 1; what changed is enlarged.
    Rain in large photographs is wider than a model knows: auto is the power of two that comes nearest to the size of
    the images that it was trained on, and the next finer one. 1 is the model as it is."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0 serves to the whole network."""
    port: int = 7860
    """Port to serve on."""


class Results:
    """Files of the last photographs restored, in a folder that goes when the page does."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="autoderain-")
        self._folders: collections.deque[str] = collections.deque()

    def save(self, photo: Photo, name: str) -> Path:
        """Writes a photograph to a file of that name."""
        folder = tempfile.mkdtemp(dir=self.folder.name)
        self._folders.append(folder)
        if len(self._folders) > KEPT:
            shutil.rmtree(self._folders.popleft())
        photo.save(Path(folder) / name)
        return Path(folder) / name


def page(derainer: Derainer) -> Any:
    """The page, a ``gradio.Blocks`` yet to be launched; raises ``InputError`` if Gradio is not installed."""
    try:
        import gradio
    except ImportError:
        raise InputError("the page needs Gradio: pip install 'autoderain-jax[demo]'") from None

    results = Results()

    def restored(path: str | None):
        if path is None:
            return None, gradio.DownloadButton(interactive=False)
        try:
            photo = Photo.read(Path(path))
            result = dataclasses.replace(photo, rgb=derainer(photo.rgb))
            target = results.save(result, Path(path).name)
        except InputError as error:
            # What the visitor's file is called here is of no interest.
            raise gradio.Error(str(error).replace(path, "the photograph")) from None
        return (photo.rgb, result.rgb), gradio.DownloadButton(value=str(target), interactive=True)

    # Gradio's own copies of what was dropped and restored are kept for a day.
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as blocks:
        gradio.Markdown(ABOUT)
        photo = gradio.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Rainy photograph"
        )
        both = gradio.ImageSlider(label="Before and after", format="png", interactive=False)
        download = gradio.DownloadButton("Download", interactive=False, elem_id="download")
        photo.change(restored, photo, [both, download])
    return blocks


def main() -> None:
    """The command."""
    config = command.parse(DemoConfig, sys.argv[1:], prog="python -m experiments.demo")
    command.keep_programs()
    derainer = Derainer.from_pretrained(
        config.model, ensemble=config.ensemble, dtype=config.dtype, scales=config.scales
    )
    blocks = page(derainer)
    _check_address(config)
    print(f"serving on http://{config.host}:{config.port}, until interrupted", flush=True)
    blocks.launch(server_name=config.host, server_port=config.port, quiet=True)


def _check_address(config: DemoConfig) -> None:
    """Raises ``InputError`` if nothing can be served there."""
    if not 0 < config.port < 2**16:
        raise InputError(f"--port must be in 1 to {2**16 - 1}, not {config.port}")
    try:
        with socket.create_server((config.host, config.port)):
            pass
    except OSError as error:
        raise InputError(f"cannot serve on --host {config.host}, --port {config.port}: {error.strerror}") from None


if __name__ == "__main__":
    command.run(main)
