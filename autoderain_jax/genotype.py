"""The searched result: which option every choice takes. Readable, hand-editable, versioned JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from autoderain_jax.candidates import CANDIDATES, candidate
from autoderain_jax.errors import InputError, shown
from autoderain_jax.files import parse_json, read_json, replace_file
from autoderain_jax.network import NetworkConfig, open_choices
from autoderain_jax.search_space import SE_OPTIONS, Choices, Rows, weights_of

FORMAT = "autoderain-genotype"
VERSION = 1
ROW = ("conv_a", "conv_b", "se")
"""The choices of a block."""
HAND_MADE = "conv3x3"
"""The convolution that the network made by hand has everywhere, with SE, in comparisons and benchmarks. (The head start
of a search is toward the first of its own candidates.)"""


@dataclasses.dataclass(frozen=True)
class Genotype:
    """A decided architecture.

    Attributes:
      blocks: block name -> {"conv_a": candidate, "conv_b": candidate, "se": "on" or "off"}.
      origin: where it came from (preset, data, seed, steps), for the reader; nothing depends on it but defaults.
    """

    blocks: Mapping[str, Mapping[str, str]]
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def choices(self) -> Choices:
        """The same as choices with one option each, the form that ``DerainNet`` takes."""
        return {block: {name: (option,) for name, option in row.items()} for block, row in self.blocks.items()}

    def check_fits(self, config: NetworkConfig, source: str = "the genotype") -> None:
        """Raises ``InputError`` unless there is a choice for every block of the network and none besides."""
        wanted = set(config.block_names())
        missing, surplus = sorted(wanted - set(self.blocks)), sorted(set(self.blocks) - wanted)
        if missing or surplus:
            problem = f"lacks block {missing[0]!r}" if missing else f"has an additional block {shown(surplus[0])}"
            raise InputError(
                f"{source} does not fit a network with blocks {config.blocks} (it {problem}); "
                "choose the --preset or --network it was searched with"
            )

    def to_json(self) -> str:
        """The text of a genotype file."""
        content = {"format": FORMAT, "version": VERSION, "origin": dict(self.origin), "blocks": self.blocks}
        return json.dumps(content, indent=2) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes the genotype, replacing the file whole."""
        replace_file(Path(path), self.to_json())

    @classmethod
    def from_json(cls, text: str, source: str = "genotype") -> Genotype:
        """Reads and validates; raises ``InputError`` naming ``source`` and what is wrong."""
        return cls.from_content(parse_json(text, source), source)

    @classmethod
    def from_content(cls, content: Any, source: str) -> Genotype:
        """The same for what a JSON parser made of the text."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f'{source} is not a genotype: "format" must be "{FORMAT}"')
        if type(content.get("version")) is not int or content["version"] != VERSION:
            version = shown(content.get("version"))
            raise InputError(f"{source} has genotype version {version}; this release reads {VERSION}")
        blocks = content.get("blocks")
        if not isinstance(blocks, dict) or not blocks:
            raise InputError(f'{source}: "blocks" must map block names to their choices')
        for block, row in blocks.items():
            _check_row(row, f"{source}, block {shown(block)}")
        origin = content.get("origin", {})
        if not isinstance(origin, dict):
            raise InputError(f'{source}: "origin" must be an object')
        return cls(blocks, origin)

    @classmethod
    def load(cls, path: str | Path) -> Genotype:
        """Reads a genotype file; raises ``InputError`` if it is missing or not valid."""
        return cls.from_content(read_json(Path(path), "genotype"), str(path))


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict) or set(row) != set(ROW):
        raise InputError(f"{where}: needs exactly the choices {', '.join(ROW)}")
    for name, option in row.items():
        kind, known = ("SE option", SE_OPTIONS) if name == "se" else ("candidate", tuple(CANDIDATES))
        if option not in known:
            yours = "" if name == "se" else "; one of your own needs --imports MODULE"
            raise InputError(f"{where}, {name}: unknown {kind} {shown(option)}; known are {', '.join(known)}{yours}")


def derive(choices: Choices, rows: Rows, origin: Mapping[str, Any] | None = None) -> Genotype:
    """Takes the option with the largest entry of every row, of alphas or of shares."""
    blocks = {
        block: {name: options[int(np.argmax(rows[block][name]))] for name, options in names.items()}
        for block, names in choices.items()
    }
    return Genotype(blocks, origin or {})


def uniform(config: NetworkConfig, conv: str, se: str = "on") -> Genotype:
    """The hand-designed network with one type of convolution everywhere."""
    genotype = Genotype({block: {"conv_a": conv, "conv_b": conv, "se": se} for block in config.block_names()})
    return Genotype.from_json(genotype.to_json(), f"the network of {conv}")


def one_hot_gates(choices: Choices, genotype: Genotype) -> Rows:
    """Gates that select the genotype in the supernet."""
    return {
        block: {
            name: np.asarray([option == genotype.blocks[block][name] for option in options], np.float32)
            for name, options in names.items()
        }
        for block, names in choices.items()
    }


def inherit(supernet_params: Mapping[str, Any], genotype: Genotype) -> dict[str, Any]:
    """The supernet's weights that the derived network has, in its own layout."""
    params = dict(supernet_params)
    for block, row in genotype.blocks.items():
        weights = dict(params[block])
        for name in ("conv_a", "conv_b"):
            chosen = weights_of([candidate(row[name])], weights[name])
            weights[name] = {key: chosen[key] for key in (row[name], "bias")}
        if row["se"] == "off":
            weights.pop("se", None)
        params[block] = weights
    return params


def search_space_size(config: NetworkConfig) -> int:
    """Number of architectures that the search chooses among."""
    rows = jax.tree.leaves(open_choices(config), is_leaf=lambda leaf: isinstance(leaf, tuple))
    return int(np.prod([len(options) for options in rows], dtype=object))
