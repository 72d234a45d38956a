"""Remove rain from photographs and videos: ``python -m experiments.derain photo.jpg --output restored``."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.progress import track

from autoderain_jax.derainer import Derainer, Dtype, Ensemble
from autoderain_jax.errors import InputError
from autoderain_jax.scales import Scales
from data_pipelines.images import SUFFIXES, image_size
from data_pipelines.photos import Photo
from experiments import command, video

KNOWN = (*SUFFIXES, *video.SUFFIXES)
"""Endings of the names of files that are restored, in small letters."""
COMPARED = "compared"
"""The folder, in that of the restored photographs, which --compare writes to."""


@dataclasses.dataclass(frozen=True)
class DerainConfig:
    """Remove rain from photographs and videos. Each output keeps its input's name.

    Colour profiles, EXIF data (but of TIFF files) and transparency are kept; photographs come out upright.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photographs, videos, folders of these, or patterns such as 'holiday/*.jpg'."""
    output: Path
    """Folder for what is restored; never one that an input lies in."""
    imports: tuple[str, ...] = ()
    """Python modules to import first, such as ones that add candidates."""
    model: Path | None = None
    """Model folder, as retraining writes it, or one of those that come with the package: photo, which is the default,
    fast or best."""
    compare: bool = False
    """Also write photographs before and after, side by side, to the folder compared/ in the output."""
    ensemble: Ensemble = 1
    """How many orientations to restore, and take the mean of: 4 (as it is, mirrored, upside down and both) is a little
    better, four times as slow; 8 turns it, too, which is for networks that were trained on rain from all sides."""
    dtype: Dtype | None = None
    """Precision of the computation: bfloat16 is faster on a GPU. Default: the model's own."""
    scales: Scales = "auto"
    """By how much a photograph is made smaller for each restoring of it, such as 8 4 2 1; what changed is enlarged.
    Rain in large photographs is wider than a model knows: auto is the power of two that comes nearest to the size of
    the images that it was trained on, and the next finer one. 1 is the model as it is.
    Inputs come before it."""
    memory: float | None = None
    """Gigabytes that restoring an image may take; larger ones are restored in tiles, to nearly the same result.
    Default: a quarter of what the device has, and not more than 2.5 of a CPU's."""


def derain(config: DerainConfig) -> int:
    """Restores every input; one that is broken, missing or of no known type is reported and the rest goes on.

    Returns:
      The number of inputs that failed.

    Raises:
      InputError: none of the inputs is a photograph or video, two are of one name, an output would overwrite an input,
        or a bad model.
    """
    if config.memory is not None and not 0 < config.memory < 1e6:
        raise InputError(f"--memory must be positive, not {config.memory}")
    targets, unsuitable = _targets(config)
    command.keep_programs()
    memory = None if config.memory is None else int(config.memory * 1e9)
    derainer = Derainer.from_pretrained(
        config.model, memory=memory, ensemble=config.ensemble, dtype=config.dtype, scales=config.scales
    )
    console = command.console()
    derainer.expect(_sizes(targets))
    total, failed, began = len(targets) + len(unsuitable), len(unsuitable), time.perf_counter()
    for sentence in unsuitable:
        command.say(f"error: {sentence}")
    for path, target in track(targets.items(), "deraining", console=console, disable=not console.is_terminal):
        try:
            if video.is_video_name(path):
                video.restore(path, target, derainer, console)
            else:
                _restore(path, target, derainer, config.compare)
        except (InputError, MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            failed += 1
            reason = error if isinstance(error, InputError) else f"not enough memory for {path}: lower --memory"
            command.say(f"error: {reason}")
        else:
            console.print(f"{path} -> {target}")
    console.print(
        f"{total - failed} restored in {time.perf_counter() - began:.1f} s, {derainer.first_runs:.1f} s of them "
        f"to compile and first run programs, of which there are {len(derainer.programs)}"
    )
    if failed:
        command.say(f"{failed} of {total} inputs failed")
    return failed


def _sizes(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """Of the photographs among the files, by their headers; what is wrong with the others is told in their turn."""
    for file in files:
        if not video.is_video_name(file):
            with contextlib.suppress(InputError):
                yield image_size(file)


def _restore(path: Path, target: Path, derainer: Derainer, compare: bool) -> None:
    photo = Photo.read(path)
    restored = dataclasses.replace(photo, rgb=derainer(photo.rgb))
    restored.save(target)
    if compare:
        both = Photo(np.concatenate([photo.rgb, restored.rgb], 1), grey=photo.grey, info=photo.info)
        both.save(_strip(target))


def _strip(target: Path) -> Path:
    """The file that shows a photograph before and after; PNG files may be as wide as need be."""
    return target.parent / COMPARED / f"{target.name}.png"


def _targets(config: DerainConfig) -> tuple[dict[Path, Path], list[str]]:
    """Every input file with the file to write; and what is wrong with other inputs, unless none is left."""
    if not config.inputs:
        raise InputError("give at least one photograph or folder to derain")
    targets: dict[Path, Path] = {}
    inputs: dict[str, Path] = {}
    unsuitable: list[str] = []
    for file in _files(config.inputs, unsuitable):
        # Some file systems do not tell small letters from capitals.
        other = inputs.setdefault(file.name.casefold(), file)
        if not other.samefile(file):
            raise InputError(f"two inputs are named {file.name}: restore them into different folders")
        targets[other] = config.output / other.name
    if any(map(video.is_video_name, targets)):
        try:
            video.require_av()
        except InputError as error:
            unsuitable += [f"{file}: {error}" for file in targets if video.is_video_name(file)]
            targets = {file: target for file, target in targets.items() if not video.is_video_name(file)}
    if not targets:
        raise InputError(unsuitable[0])
    if config.compare and all(map(video.is_video_name, targets)):
        raise InputError("--compare is of photographs, and there are only videos: leave it out")
    written = [*targets.values(), *(map(_strip, targets.values()) if config.compare else ())]
    for target in filter(os.path.exists, written):
        if overwritten := [file for file in targets if file.samefile(target)]:
            raise InputError(f"--output {config.output} would overwrite the input {overwritten[0]}")
    folder = config.output / COMPARED if config.compare else config.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder --output {folder}: {error.strerror}") from None
    return targets, unsuitable


def _files(inputs: tuple[Path, ...], unsuitable: list[str]) -> Iterator[Path]:
    """The files that inputs name; a sentence on each input that names none is added to ``unsuitable``."""
    for input_ in inputs:
        # Unlike pathlib's, these find that there is nothing where a name is too long. Patterns are left where the shell
        # does not expand them, or they were quoted.
        found = [input_] if os.path.exists(input_) else sorted(glob.glob(str(input_), recursive=True))
        if not found:
            unsuitable.append(f"input {input_} does not exist")
        for path in map(Path, found):
            if not os.path.exists(path):
                # A link that leads nowhere.
                unsuitable.append(f"input {path} does not exist")
            elif os.path.isdir(path):
                yield from _files_of(path, unsuitable)
            elif path.suffix.lower() in KNOWN:
                yield path
            else:
                unsuitable.append(f"input {path} is not of a known type ({', '.join(KNOWN)})")


def _files_of(folder: Path, unsuitable: list[str]) -> list[Path]:
    """Those of a folder, which are no hidden ones."""
    try:
        files = sorted(file for file in folder.iterdir() if os.path.isfile(file) and not file.name.startswith("."))
    except OSError as error:
        unsuitable.append(f"cannot read folder {folder}: {error.strerror}")
        return []
    found = [file for file in files if file.suffix.lower() in KNOWN]
    if found and (others := len(files) - len(found)):
        kinds = ", ".join(sorted({file.suffix.lower() or file.name for file in files} - set(KNOWN)))
        command.say(f"{folder}: passed over {others} of {len(files)} files ({kinds})")
    if not found:
        unsuitable.append(f"{folder} holds no photograph or video ({', '.join(KNOWN)})")
    return found


def main() -> int:
    """The command."""
    return 1 if derain(command.parse(DerainConfig, sys.argv[1:], prog="python -m experiments.derain")) else 0


if __name__ == "__main__":
    command.run(main)
