"""Several searches side by side: how far they agree, and what they buy for their price."""

from __future__ import annotations

import html
import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from autoderain_jax.genotype import Genotype
from autoderain_jax.network import NetworkConfig, open_choices
from experiments import figures
from experiments.events import Events

Row = dict[str, Any]
"""One search: ``seed``, ``cost_weight``, ``cost`` (share of what the dearest choices cost by ``--cost``),
``macs_per_pixel``, ``parameters``, ``held_out_psnr`` (dB by y-matlab, with the weights of the search), ``genotype``
(its file)."""


def agreement(genotypes: Sequence[Genotype]) -> dict[str, dict[str, float]]:
    """The share of the pairs of genotypes that have the same option, by block and choice; needs two at least."""
    pairs = list(itertools.combinations([genotype.blocks for genotype in genotypes], 2))
    return {
        block: {name: statistics.mean(a[block][name] == b[block][name] for a, b in pairs) for name in row}
        for block, row in genotypes[0].blocks.items()
    }


def chance(config: NetworkConfig) -> float:
    """The agreement of architectures drawn at random."""
    return statistics.mean(1 / len(options) for rows in open_choices(config).values() for options in rows.values())


def mean_agreement(genotypes: Sequence[Genotype]) -> float:
    """``agreement``, its mean over all choices."""
    return statistics.mean(share for row in agreement(genotypes).values() for share in row.values())


def by_price(rows: Sequence[Row], genotypes: Sequence[Genotype]) -> Iterator[tuple[float, list[Row], list[Genotype]]]:
    """Each cost weight, in the order in which they come, with its rows and what was found."""
    for weight in dict.fromkeys(row["cost_weight"] for row in rows):
        places = [i for i, row in enumerate(rows) if row["cost_weight"] == weight]
        yield weight, [rows[i] for i in places], [genotypes[i] for i in places]


def table(rows: Sequence[Row], genotypes: Sequence[Genotype], config: NetworkConfig) -> Table:
    """A line for each price: sizes and scores over its seeds, and how far these agree."""
    result = Table("cost weight", "searches", "MACs/pixel", "parameters", "held-out PSNR", "agreement")
    for weight, mine, found in by_price(rows, genotypes):
        psnr = [row["held_out_psnr"] for row in mine]
        spread = f" ± {statistics.stdev(psnr):.2f}" if len(psnr) > 1 else ""
        agreed = f"{mean_agreement(found):.2f} (chance {chance(config):.2f})" if len(found) > 1 else ""
        result.add_row(
            f"{weight:g}",
            str(len(mine)),
            f"{statistics.mean(row['macs_per_pixel'] for row in mine):,.0f}",
            f"{statistics.mean(row['parameters'] for row in mine):,.0f}",
            f"{statistics.mean(psnr):.2f}{spread} dB",
            agreed,
        )
    return result


def write_events(folder: Path, rows: Sequence[Row], genotypes: Sequence[Genotype]) -> None:
    """Writes what the searches found as TensorBoard events in place of earlier ones; their step is the search's number.

    ``agreement`` is that with the other searches of the same price.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with Events(folder) as events:
        for i, row in enumerate(rows, 1):
            names = ("cost_weight", "cost", "macs_per_pixel", "parameters", "held_out_psnr")
            events.add(i, {f"searches/{name}": row[name] for name in names})
        for _, mine, found in by_price(rows, genotypes):
            if len(found) > 1:
                events.add(rows.index(mine[-1]) + 1, {"searches/agreement": mean_agreement(found)})


def sections(rows: Sequence[Row], genotypes: Sequence[Genotype], config: NetworkConfig) -> list[tuple[str, str]]:
    """Sections of a report, as titles and HTML: the searches, the front of sizes, and agreement choice by choice."""
    head = "<tr><th>cost weight<th>seed<th>MACs/pixel<th>parameters<th>held-out PSNR<th>genotype</tr>"
    lines = "".join(
        f"<tr><td>{row['cost_weight']:g}<td>{row['seed']}<td>{row['macs_per_pixel']:,.0f}<td>{row['parameters']:,}"
        f"<td>{row['held_out_psnr']:.2f} dB<td>{html.escape(row['genotype'])}</tr>"
        for row in rows
    )
    note = '<p class="note">PSNR by y-matlab on the images held out for the alphas, with the weights of the search.</p>'
    parts = [
        ("The searches", f"<table>{head}{lines}</table>{note}"),
        (
            "Size and score",
            figures.scatter([(r["macs_per_pixel"], r["held_out_psnr"], r["cost_weight"]) for r in rows]),
        ),
    ]
    for weight, mine, found in by_price(rows, genotypes):
        if len(found) > 1:
            title = f"Agreement at cost weight {weight:g}: {mean_agreement(found):.2f}"
            parts.append((title, f"<p>By chance it would be {chance(config):.2f}.</p>{_choices(mine, found)}"))
    return parts


def _choices(rows: Sequence[Row], genotypes: Sequence[Genotype]) -> str:
    """A line for each choice: what each search took."""
    head = "<tr><th>choice<th>agreement" + "".join(f"<th>seed {row['seed']}" for row in rows) + "</tr>"
    lines = []
    for block, shares in agreement(genotypes).items():
        for name, share in shares.items():
            taken = "".join(f"<td>{html.escape(genotype.blocks[block][name])}" for genotype in genotypes)
            lines.append(f"<tr><td>{block} {name}<td>{share:.2f}{taken}</tr>")
    return f'<div class="scroll"><table>{head}{"".join(lines)}</table></div>'
