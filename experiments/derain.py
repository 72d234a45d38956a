"""Remove rain from photographs: ``python -m experiments.derain photo.jpg --output restored``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from rich.progress import track

from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError
from data_pipelines.images import SUFFIXES, read_rgb, some_images
from experiments import command


@dataclasses.dataclass(frozen=True)
class DerainConfig:
    """Remove rain from photographs. Each output keeps its input's name."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photographs, or folders of photographs."""
    output: Path
    """Folder for the restored photographs; never one that an input lies in."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it; without it, the model that comes with the package."""


def derain(config: DerainConfig) -> int:
    """Restores every input; a broken one is reported and the rest goes on.

    Returns:
      The number of inputs that failed.

    Raises:
      InputError: no such input, two inputs of one name, an output that would overwrite an input, or a bad model.
    """
    targets = _targets(config)
    derainer = Derainer.from_pretrained(config.model)
    console = command.console()
    failed = 0
    for path, target in track(targets.items(), "deraining", console=console, disable=not console.is_terminal):
        try:
            _save(derainer(read_rgb(path)), target)
        except InputError as error:
            failed += 1
            command.say(f"error: {error}")
        else:
            console.print(f"{path} -> {target}")
    if failed:
        command.say(f"{failed} of {len(targets)} inputs failed")
    return failed


def _targets(config: DerainConfig) -> dict[Path, Path]:
    """Every input file with the file to write."""
    if not config.inputs:
        raise InputError("give at least one photograph or folder to derain")
    targets: dict[Path, Path] = {}
    for path in config.inputs:
        if not path.exists():
            raise InputError(f"input {path} does not exist")
        for file in some_images(path) if path.is_dir() else [path]:
            target = config.output / file.name
            if file.suffix.lower() not in SUFFIXES:
                raise InputError(f"input {file} is not of a known type ({', '.join(SUFFIXES)})")
            if target.resolve() == file.resolve():
                raise InputError(f"--output {config.output} would overwrite the input {file}")
            if target in targets.values() and file not in targets:
                raise InputError(f"two inputs are named {file.name}: restore them into different folders")
            targets[file] = target
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder --output {config.output}: {error.strerror}") from None
    return targets


def _save(image, path: Path) -> None:
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    try:
        Image.fromarray(image).save(path, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from None


def main() -> int:
    """The command."""
    return 1 if derain(command.parse(DerainConfig, sys.argv[1:], prog="python -m experiments.derain")) else 0


if __name__ == "__main__":
    command.run(main)
