"""Answers to one question after another, kept in a file, so that a run that was stopped goes on with the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoderain_jax.errors import InputError
from autoderain_jax.files import read_json, replace_file
from experiments.workdir import claim


class Answers:
    """What was found so far, in a JSON file of a folder, if there is one.

    Args:
      folder: made if needed; None keeps nothing.
      name: of the file.
      options: what the answers depend on, as JSON can hold it.
      sound: whether a JSON value is an answer of this run.

    Attributes:
      done: the answers, in order.

    Raises:
      InputError: the folder cannot be used, is another process's, has answers to other options, or damaged ones.
    """

    def __init__(self, folder: Path | None, name: str, options: Mapping[str, Any], sound: Callable[[Any], bool]):
        self._options = json.loads(json.dumps(options))
        self._path = None if folder is None else folder / name
        self.done: list[Any] = []
        if folder is not None:
            claim(folder)
        if self._path is None or not self._path.exists():
            return
        kept = read_json(self._path, "answers")
        if not isinstance(kept, dict) or kept.get("options") != self._options:
            raise InputError(f"{self._path} is not of these options; give another --workdir, or those to go on")
        if not isinstance(kept.get("done"), list) or not all(map(sound, kept["done"])):
            raise InputError(f"{self._path} is damaged: its answers are not those of a run")
        self.done = kept["done"]

    def add(self, answer: Any) -> None:
        """Keeps one more answer."""
        self.done.append(answer)
        if self._path is not None:
            replace_file(self._path, json.dumps({"options": self._options, "done": self.done}) + "\n")
