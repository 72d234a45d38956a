"""Planted answers: does a search find an architecture that is known? ``python -m experiments.planted``.

A teacher made of our own candidates, with random weights and a random choice in each layer, labels random images. A
search over the same candidates should find the teacher's choices. The answer is the share of choices recovered; chance
is 1 / candidates. As layers nearly commute and candidates contain each other, other architectures may do nearly as
well: so ``--rank`` also trains every architecture (or a sample of them) from scratch, and says where the one found
stands among them, by the objective of the search: error on new images plus price.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import track

from experiments import command
from experiments.answers import Answers
from experiments.planted.config import PlantedConfig
from experiments.planted.players import Player
from experiments.planted.ranking import Trainer, architectures
from experiments.planted.teachers import CANDIDATES, Picks, Teachers, planted_picks


@dataclasses.dataclass
class Found:
    """Outcome of one algorithm over all teachers.

    Attributes:
      true, found: index of the true and of the found candidate, (teachers, layers).
      ranks: for each teacher, the share of the architectures trained that are better than the one found; empty
        without ``rank``.
    """

    true: np.ndarray
    found: np.ndarray
    ranks: list[float] = dataclasses.field(default_factory=list)

    @property
    def recovered(self) -> float:
        """Share of the choices recovered."""
        return float(np.mean(self.true == self.found))


def planted(config: PlantedConfig) -> dict[str, Found]:
    """Searches for every teacher by every algorithm; raises ``InputError`` for a senseless option.

    Returns:
      The outcome by algorithm and, with ``rank``, the teacher's own architecture by the name ``true``.
    """
    config.check()
    console = command.console()
    true = planted_picks(config)
    searched = kept_found(config, config.workdir)
    ranked = kept_ranks(config, config.workdir) if config.rank else None
    teachers = Teachers(config)
    players = {name: Player(config, name, teachers) for name in config.algorithms}
    trainer = Trainer(config, teachers)
    todo = range(min(len(answers.done) for answers in (searched, ranked) if answers), config.teachers)
    for index in track(todo, "searching", console=console, disable=not console.is_terminal):
        rng = jax.random.fold_in(jax.random.key(config.seed), index)
        teacher = teachers.draw(rng, true[index])
        if index == len(searched.done):
            answers = {name: player.search(teacher, rng) for name, player in players.items()}
            searched.add({name: [int(pick) for pick in answer] for name, answer in answers.items()})
        found: dict[str, Picks] = {name: tuple(pick) for name, pick in searched.done[index].items()}
        if ranked and index == len(ranked.done):
            found["true"] = tuple(int(pick) for pick in true[index])
            values = trainer.values(teacher, rng, architectures(config, index, found.values()))
            ranked.add(
                {
                    name: float(np.mean([value < values[pick] for value in values.values()]))
                    for name, pick in found.items()
                }
            )
        if not console.is_terminal:
            console.print(f"teacher {index + 1}/{config.teachers}")
            for name, pick in found.items():
                rank = f"; {ranked.done[index][name]:.1%} are better" if ranked else ""
                console.print(f"  {name}: {' '.join(CANDIDATES[i] for i in pick)}{rank}")
    results = {}
    for name in (*config.algorithms, *(["true"] if ranked else [])):
        answers = true if name == "true" else [answer[name] for answer in searched.done]
        ranks = [shares[name] for shares in ranked.done[: config.teachers]] if ranked else []
        results[name] = Found(true, np.array(answers[: config.teachers]), ranks)
    return results


def kept_found(config: PlantedConfig, folder: Path | None) -> Answers:
    """What was found so far, with these options, teacher by teacher: a candidate's index for each layer, by name."""
    options = {name: value for name, value in _options(config).items() if not name.startswith("rank")}

    def sound(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == set(config.algorithms)
            and all(isinstance(picks, list) and len(picks) == config.layers for picks in value.values())
            and all(type(pick) is int and 0 <= pick < len(CANDIDATES) for picks in value.values() for pick in picks)
        )

    return Answers(folder, "found.json", options, sound)


def kept_ranks(config: PlantedConfig, folder: Path | None) -> Answers:
    """How these rank: for each teacher the share of architectures that are better, by name and for ``true``."""

    def sound(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == {*config.algorithms, "true"}
            and all(type(share) is float and 0 <= share <= 1 for share in value.values())
        )

    return Answers(folder, "ranks.json", _options(config), sound)


def _options(config: PlantedConfig) -> dict[str, Any]:
    """What answers depend on; a folder may go on with other options besides."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}


_FREE = ("workdir", "teachers")
"""Options with which a folder may go on otherwise than it began."""
