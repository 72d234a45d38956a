"""Ratios to the single model as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.figures import svg


def draw_ratios(rows: list[dict[str, Any]], path: Path, label: str) -> None:
    """Writes an SVG file: bars for the preset, and a line over the values of whatever else was varied.

    Args:
      rows: as the benchmarks of memory and speed print them.
      path: of the file; its folder must exist.
      label: of the axis of ratios.
    """
    varied = list(dict.fromkeys(row["varied"] for row in rows))
    figure = Figure(figsize=(4.5 * len(varied), 3.5), layout="constrained")
    for axes, what in zip(figure.subplots(1, len(varied), squeeze=False)[0], varied, strict=True):
        chosen = [row for row in rows if row["varied"] == what and row["algorithm"] != "single"]
        names = list(dict.fromkeys(f"{row['algorithm']} {row['step']}" for row in chosen))
        lines = {name: [r for r in chosen if f"{r['algorithm']} {r['step']}" == name] for name in names}
        if what == "preset":
            axes.barh(names, [line[0]["ratio_to_single"] for line in lines.values()], color="#4c9be8")
            axes.invert_yaxis()
            axes.axvline(1.0, color="black", linewidth=1)
            axes.set(xlabel=label, title=str(chosen[0]["value"]))
            continue
        for name, line in lines.items():
            axes.plot([r["value"] for r in line], [r["ratio_to_single"] for r in line], marker="o", label=name)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set(xlabel=what, ylabel=label, ylim=(0, None))
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    path.write_text(svg(figure))
